//! Proxmox VE's own code judges what `hooks::proxmox` says.
//!
//! It runs where `VFIO_BINDD_PVE` names a folder with checkouts of qemu-server,
//! pve-common and pve-guest-common, and perl has the libraries that they ask
//! for; elsewhere it says so and passes. Upstream is AGPL: nothing of it is here.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says no by a panic, and why it was skipped"
)]

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};
use serde_json::{Value, json};
use vfio_bindd::{
    hooks::proxmox::{
        Device, Devices,
        check::{Stale, check},
        filter::{AssignError, Assignments, expand},
        hostpci::{Hostpci, Source},
        mapping::{Entry, entries},
    },
    pci::address::Address,
};

/// Address, ID, subsystem IDs, IOMMU group.
type Row = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<u32>,
);

const HOST: [Row; 12] = [
    ("0000:01:00.0", "10de:2684", Some("1043:88dc"), Some(31)),
    ("0000:01:00.1", "10de:22ba", Some("1043:88dc"), Some(31)),
    ("0000:02:00.0", "10de:2684", Some("1043:88dc"), Some(40)),
    ("0000:03:00.0", "8086:1533", None, None),
    ("0000:07:10.0", "8086:1520", Some("0000:0000"), Some(50)),
    ("0000:07:10.1", "8086:1520", Some("0000:0000"), Some(51)),
    ("0000:07:10.2", "8086:1520", Some("0000:0000"), Some(52)),
    ("0000:08:00.1", "1b36:0010", Some("1af4:1100"), Some(70)),
    ("0000:10:00.0", "1b36:0010", Some("1af4:1100"), Some(71)),
    ("0001:01:00.0", "10de:2684", Some("1043:88dc"), Some(60)),
    ("10000:e1:00.0", "144d:a80a", Some("144d:a801"), Some(0)),
    ("0000:ff:1f.7", "8086:1533", Some("8086:0001"), None),
];

/// Two alternatives, and an entry of another node.
const MAPPING: &str = "gpu0\n\
    \tmap node=pve1,path=0000:01:00,id=10de:2684,subsystem-id=1043:88dc,iommugroup=31\n\
    \tmap node=pve2,path=0000:41:00,id=10de:2684\n\
    \tmap node=pve1,path=0000:02:00.0,id=10de:2684,subsystem-id=1043:88dc,iommugroup=40\n\n";

fn host() -> Devices {
    let device = |&(address, id, subsystem, iommu_group): &Row| Device {
        address: address.parse().unwrap(),
        id: id.parse().unwrap(),
        subsystem: subsystem.map(|id| id.parse().unwrap()),
        iommu_group,
        is_vf: address.starts_with("0000:07:10"),
    };
    let devices = HOST.iter().map(device);
    devices.map(|one| (one.address, one)).collect()
}

/// What stands in for `/sys/bus/pci`.
fn write_host(root: &Path) {
    for (address, id, subsystem, group) in HOST {
        let dir = root.join("devices").join(address);
        fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, text: &str| fs::write(dir.join(name), format!("{text}\n")).unwrap();
        let ids = |vendor: &str, device: &str, id: &str| {
            let (first, second) = id.split_once(':').unwrap();
            put(vendor, &format!("0x{first}"));
            put(device, &format!("0x{second}"));
        };
        put("irq", "0");
        put("class", "0x030000");
        ids("vendor", "device", id);
        if let Some(subsystem) = subsystem {
            ids("subsystem_vendor", "subsystem_device", subsystem);
        }
        if let Some(group) = group {
            let target = root.join("iommu_groups").join(group.to_string());
            fs::create_dir_all(&target).unwrap();
            symlink(target, dir.join("iommu_group")).unwrap();
        }
    }
}

/// PVE's answers, or `None` where its code is not there.
fn ask(cases: &[Value]) -> Option<Vec<Value>> {
    let Some(upstream) = env::var_os("VFIO_BINDD_PVE") else {
        println!("skipped: VFIO_BINDD_PVE names no folder with PVE's code");
        return None;
    };
    let root = tempfile::tempdir().unwrap();
    write_host(root.path());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxmox_oracle");
    let upstream = PathBuf::from(upstream);
    let parts = ["qemu-server", "pve-guest-common", "pve-common"];
    let sources = parts.map(|part| upstream.join(part).join("src"));
    let library = env::join_paths([own.join("lib")].iter().chain(&sources)).unwrap();
    let mut perl = Command::new("perl")
        .arg(own.join("oracle.pl"))
        .arg(root.path())
        .env("PERL5LIB", library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = perl.stdin.take().unwrap();
    stdin
        .write_all(json!(cases).to_string().as_bytes())
        .unwrap();
    drop(stdin);
    let output = perl.wait_with_output().unwrap();
    assert!(output.status.success(), "perl: {}", output.status);
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    Some(answers)
}

/// Asks about all cases at once, and compares each answer with ours.
fn agree(cases: &[Value], ours: impl Fn(&Value) -> Result<Value, String>) {
    let mut differ = Vec::new();
    let mut taken = 0;
    for (case, answer) in cases.iter().zip(ask(cases).into_iter().flatten()) {
        let ours = ours(case);
        let theirs = match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap().to_owned()),
            None => Ok(answer.get("ok").cloned().unwrap()),
        };
        taken += usize::from(theirs.is_ok());
        let same = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            // Where we have words of our own, that it is refused is enough.
            (Err(ours), Err(theirs)) => ours.is_empty() || ours == theirs,
            _ => false,
        };
        if !same {
            differ.push(format!("{case}\n  ours {ours:?}\n  PVE  {theirs:?}"));
        }
    }
    println!("{} cases, PVE takes {taken}", cases.len());
    assert!(differ.is_empty(), "{}: {}", differ.len(), differ.join("\n"));
}

/// `count` values of `strategy`, always the same ones.
fn sample<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    let mut one = || strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(|_| one()).collect()
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(Address::to_string).collect()
}

fn pve_words(stale: &Stale) -> String {
    match stale {
        Stale::NotFound { path } => format!("pci device '{path}' not found"),
        Stale::Missing { property, path, .. } => {
            format!("missing expected property '{property}' for device '{path}'")
        }
        Stale::Unexpected { property, path, .. } => {
            format!("unexpected property '{property}' configured for device '{path}'")
        }
        Stale::Differs {
            property,
            found,
            configured,
            ..
        } => format!("'{property}' does not match for 'gpu0' ({found} != {configured})"),
    }
}

/// The alternatives of a `hostpciN`, with PVE's words for what is wrong.
fn alternatives(hostpci: &Hostpci, mapping: &str) -> Result<Vec<Vec<Address>>, String> {
    let host = host();
    let lists = match &hostpci.source {
        Source::Host(filters) => vec![filters.clone()],
        Source::Mapping(name) => {
            let lines = mapping
                .lines()
                .filter_map(|line| line.strip_prefix("\tmap "));
            let entries = lines.filter_map(|line| line.parse::<Entry>().ok());
            let mine: Vec<_> = entries
                .filter(|entry| name == "gpu0" && entry.node() == "pve1")
                .collect();
            if mine.is_empty() {
                return Err(format!("PCI device mapping not found for '{name}'"));
            }
            for entry in &mine {
                check(entry, &host).map_err(|stale| {
                    let words = pve_words(&stale);
                    format!("PCI device mapping invalid (hardware probably changed): {words}")
                })?;
            }
            mine.iter().map(|entry| entry.path().to_vec()).collect()
        }
    };
    let expanded = lists.iter().map(|list| {
        let functions = expand(list, host.keys().copied())
            .map_err(|missing| format!("no PCI device found for '{}'", missing.0))?;
        // Whether mediated devices fit is left to PVE.
        if hostpci.mdev.is_some() && functions.len() > 1 {
            return Err("cannot use mediated device with multifunction device".to_owned());
        }
        Ok(functions)
    });
    expanded.collect()
}

const LISTS: [&str; 24] = [
    "01:00",
    "01:00.0",
    "01:00.1",
    "0000:01:00",
    "0000:01:00.0",
    "02:00",
    "03:00.0",
    "0001:01:00",
    "0002:01:00",
    "10000:e1:00.0",
    "10000:e1:00",
    "00000:01:00",
    "01:00.f",
    "01:00.8",
    "1:00",
    "0000:0A:00.0",
    "0000:01:00.00",
    "gpu0",
    "08:00",
    "07:10",
    "1f:ff.7",
    "ff:1f",
    ":01:00",
    "10:00",
];

fn hostpci_texts() -> Vec<String> {
    let list = vec(select(&LISTS[..]), 1..3).prop_map(|list| list.join(";"));
    let source = prop_oneof![
        4 => list.clone(),
        4 => list.prop_map(|list| format!("host={list}")),
        3 => select(&["mapping=gpu0", "mapping=nic0", "mapping=g", "mapping=0g", "mapping=g.1"][..])
            .prop_map(str::to_owned),
    ];
    let more = select(
        &[
            "",
            " ",
            "pcie=1",
            "pcie=2",
            "pcie=",
            "pcie=YES",
            "PCIE=1",
            " pcie=1",
            "x-vga=on",
            "x-vga=off",
            "rombar=0",
            "legacy-igd=true",
            "romfile=a.rom",
            "romfile=a;b",
            "=1",
            "=",
            "mdev=nvidia-63",
            "mdev=a/b",
            "mdev=a.b",
            "mdev=a:b",
            "driver=keep",
            "driver=vfio",
            "driver=nouveau",
            "vendor-id=0x10De",
            "vendor-id=10de",
            "device-id=0x123",
            "sub-vendor-id=0x0000",
            "sub-device-id=0xzzzz",
            "numa=1",
            "mapping=gpu0",
            "01:00",
            "romfile=a=b",
            "driver=keep ",
            "host=01:00",
        ][..],
    );
    let value = (vec(source, 0..3), vec(more, 0..3)).prop_flat_map(|(sources, more)| {
        let mut parts = sources;
        parts.extend(more.into_iter().map(str::to_owned));
        Just(parts).prop_shuffle().prop_map(|parts| parts.join(","))
    });
    let mut texts = sample(value, 3000);
    // One property at a time, which random values seldom reach.
    texts.extend(LISTS.map(str::to_owned));
    texts.retain(|text| !text.is_empty());
    texts
}

#[test]
fn hostpci_values_mean_what_they_mean_to_pve() {
    let cases: Vec<_> = hostpci_texts()
        .iter()
        .map(|text| json!({ "hostpci": text, "mapping": MAPPING }))
        .collect();
    agree(&cases, |case| {
        let text = case["hostpci"].as_str().unwrap();
        let hostpci: Hostpci = text.parse().map_err(|_| String::new())?;
        let alternatives = alternatives(&hostpci, MAPPING)?;
        Ok(json!({
            "alternatives": alternatives.iter().map(|one| texts(one)).collect::<Vec<_>>(),
            "keep": hostpci.driver_keep,
            "mdev": hostpci.mdev,
        }))
    });
}

#[test]
fn a_guest_has_the_functions_that_pve_gives_it() {
    let value = select(
        &[
            "01:00",
            "01:00.1",
            "02:00",
            "03:00",
            "01:00.0;01:00.0",
            "02:00;03:00",
            "mapping=gpu0",
            "mapping=gpu0,pcie=1",
            "07:10",
            "07:10.1",
        ][..],
    );
    let cases: Vec<_> = sample(vec(value, 1..5), 500)
        .into_iter()
        .map(|values| {
            let keys = (0..).map(|index| format!("hostpci{index}"));
            let guest = keys.zip(values.into_iter().map(Value::from));
            json!({ "guest": guest.collect::<serde_json::Map<_, _>>(), "mapping": MAPPING })
        })
        .collect();
    agree(&cases, |case| {
        let mut assignments = Assignments::default();
        let mut found = serde_json::Map::new();
        for (key, value) in case["guest"].as_object().unwrap() {
            let hostpci: Hostpci = value.as_str().unwrap().parse().unwrap();
            let alternatives = alternatives(&hostpci, MAPPING)?;
            let index = assignments
                .assign(key, &alternatives)
                .map_err(|error| match error {
                    AssignError::Twice { address, .. } => {
                        format!("device '{address}' assigned more than once")
                    }
                    AssignError::NoneFree { key } => {
                        format!("could not find a free device for '{key}'")
                    }
                })?;
            found.insert(key.clone(), json!(texts(&alternatives[index])));
        }
        Ok(Value::Object(found))
    });
}

#[test]
fn an_entry_is_stale_where_pve_says_so() {
    let path = vec(
        select(
            &[
                "0000:01:00",
                "0000:01:00.0",
                "0000:01:00.1",
                "0000:02:00",
                "0000:03:00",
                "01:00",
                "0000:0A:00",
                "0000:08:00",
                "0000:08:00.1",
                "10000:e1:00.0",
                "0001:01:00",
                "00000:01:00",
                "0000:01:00.8",
                "",
            ][..],
        ),
        1..3,
    )
    .prop_map(|list| Some(format!("path={}", list.join(";"))));
    let values = |key: &'static str, values: &'static [&'static str]| {
        select(values).prop_map(move |value| {
            value
                .starts_with(':')
                .then(|| format!("{key}={}", &value[1..]))
        })
    };
    let parts = (
        path,
        values(
            "id",
            &[
                ":10de:2684",
                ":10de:2684",
                ":10DE:2684",
                ":8086:1533",
                ":1b36:0010",
                ":144d:a80a",
                ":0x10de:2684",
                ":10de",
                "",
            ],
        ),
        values(
            "subsystem-id",
            &[
                ":1043:88dc",
                ":1043:88dc",
                ":1043:88DC",
                ":1043",
                ":1af4:1100",
                ":144d:a801",
                "",
                "",
            ],
        ),
        values(
            "iommugroup",
            &[
                ":31", ":31", ":40", ":70", ":0", ":031", ":+31", ":-1", ":x", "", "",
            ],
        ),
        values("description", &[":vfio-bindd", ":a = b", "", "", ""]),
        values("numa", &[":1", "", "", "", "", "", "", ""]),
    );
    let entry = parts.prop_flat_map(|(path, id, subsystem, group, description, unknown)| {
        let node = Some("node=pve1".to_owned());
        let parts = [node, path, id, subsystem, group, description, unknown];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        Just(parts).prop_shuffle().prop_map(|parts| parts.join(","))
    });
    let mut lines = sample(entry, 4000);
    // One thing wrong at a time.
    let host = host();
    for right in entries("pve1", host.keys().copied(), &host) {
        let right = right.to_string();
        for part in right.split(',').filter(|part| !part.starts_with("node=")) {
            lines.push(right.replace(&format!(",{part}"), ""));
            let (key, value) = part.split_once('=').unwrap();
            lines.push(right.replace(part, &format!("{key}={}", value.to_uppercase())));
            lines.push(right.replace(part, &format!("{key}={}", value.replace('0', "1"))));
        }
        lines.push(right);
    }
    let cases: Vec<_> = lines
        .iter()
        .map(|line| json!({ "mapping": format!("gpu0\n\tmap {line}\n\n"), "line": line }))
        .collect();
    agree(&cases, |case| {
        let line = case["line"].as_str().unwrap();
        // Keys that this PVE does not know are kept, and it reads no such entry.
        let is_known = !line.contains("numa=");
        let entry: Option<Entry> = line.parse().ok().filter(|_| is_known);
        let entry = entry.ok_or("unreadable")?;
        check(&entry, &host).map_err(|stale| pve_words(&stale))?;
        Ok(json!({}))
    });
}

#[test]
fn pve_takes_the_entries_for_any_set_of_functions() {
    let host = host();
    let all: Vec<_> = host.keys().copied().collect();
    let len = all.len();
    let cases: Vec<_> = sample(subsequence(all, 1..=len).prop_shuffle(), 500)
        .into_iter()
        .map(|resolved| {
            let lines = entries("pve1", resolved.iter().copied(), &host);
            let lines = lines.iter().map(|entry| format!("\tmap {entry}\n"));
            json!({
                "hostpci": "mapping=gpu0",
                "mapping": format!("gpu0\n{}\n", lines.collect::<String>()),
                "resolved": texts(&resolved),
            })
        })
        .collect();
    agree(&cases, |case| {
        let hostpci: Hostpci = "mapping=gpu0".parse().unwrap();
        let alternatives = alternatives(&hostpci, case["mapping"].as_str().unwrap())?;
        let mut passed = texts(&alternatives.concat());
        let mut resolved: Vec<String> = serde_json::from_value(case["resolved"].clone()).unwrap();
        passed.sort();
        resolved.sort();
        assert_eq!(passed, resolved);
        let alternatives: Vec<_> = alternatives.iter().map(|one| texts(one)).collect();
        Ok(json!({ "alternatives": alternatives, "keep": false, "mdev": null }))
    });
}
