//! What `vfio-bindctl tree` shows of a directory that looks like `/sys` and of
//! recorded hosts, and what is read of where a function is.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/tree.rs"]
mod tree;

use std::{fs, os::unix::fs::symlink, path::Path};

use ctl::{NIC, TWIN, ctl, host};
use serde_json::Value;
use tree::Tree;
use vfio_bindd::kernel::{
    locality::{Link, cpus, locality},
    sysfs::HostSysfs,
};

fn asked(tree: &Tree, config: &str, args: &[&str]) -> (i32, String, String) {
    let file = tree.root().join("config.toml");
    fs::write(&file, config).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    ctl(tree, &[&config, args].concat())
}

const ONE: &str = "[mapping.nic]\nmatch = { iommu_group = 2 }\n";

#[test]
fn a_tree_is_shown_without_a_daemon() {
    let tree = host();
    fs::write(tree.attribute(TWIN, "numa_node"), "1\n").unwrap();
    fs::create_dir_all(tree.root().join("devices/system/node/node1")).unwrap();
    fs::write(
        tree.root().join("devices/system/node/node1/cpulist"),
        "4-7\n",
    )
    .unwrap();
    let (code, out, err) = asked(&tree, ONE, &["tree"]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<_> = out.lines().map(str::trim_end).collect();
    // Without a locale there is no other character.
    assert!(
        lines.iter().any(|line| line.starts_with("node 1 CPUs 4-7")),
        "{out}"
    );
    assert!(lines.contains(&"`-host bridge 0000:00"), "{out}");
    let nic = lines.iter().find(|line| line.contains(NIC)).unwrap();
    assert!(
        nic.starts_with("  `-0000:00:02.0 ethernet 8086:10d3"),
        "{out}"
    );
    assert!(
        nic.contains("  2") && nic.ends_with("nic      planned"),
        "{out}"
    );
    let (_, out, _) = asked(&tree, ONE, &["tree", "nic"]);
    assert!(out.contains(NIC) && !out.contains(TWIN), "{out}");
    let (_, out, _) = asked(&tree, ONE, &["tree", "00:03.0", "--json"]);
    let flat: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(flat.as_array().unwrap().len(), 1);
    assert_eq!(flat[0]["address"], TWIN);
    assert_eq!(
        (&flat[0]["parent"], &flat[0]["state"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(flat[0]["root_bus"], "0000:00");
    let (_, out, _) = asked(&tree, ONE, &["tree", "--dot"]);
    assert!(out.starts_with("digraph functions {\n"), "{out}");
    assert!(
        out.contains("\"host bridge 0000:00\" -> \"0000:00:02.0\";"),
        "{out}"
    );
}

#[test]
fn exit_codes_are_those_of_explain() {
    let tree = host();
    for (args, wanted, word) in [
        (
            &["tree", "gpu"][..],
            4,
            "no mapping is named 'gpu'; there are: nic",
        ),
        (
            &["tree", "0f:00.0"],
            1,
            "no PCI function is at 0000:0f:00.0",
        ),
        (&["tree", "0f:00"], 2, "'0f:00' is not a PCI address"),
        (&["tree", "--json", "--dot"], 2, "cannot be used with"),
        (&["tree", "--host", "/nowhere"], 2, "/nowhere: No such file"),
    ] {
        let (code, out, err) = asked(&tree, ONE, args);
        assert_eq!((code, out.as_str()), (wanted, ""), "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
    let (code, out, err) = asked(&tree, "[mapping.nic]\nmatch = { idd = 2 }\n", &["tree"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let none = "[mapping.none]\nmatch = { iommu_group = 9 }\n";
    let (code, _, err) = asked(&tree, none, &["tree", "none"]);
    assert_eq!(code, 0);
    assert!(err.contains("mapping 'none' has no function here"), "{err}");
}

#[test]
fn a_recorded_host_has_a_tree_elsewhere() {
    let tree = host();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let dump = folder.join("nic-vfs.jsonl");
    let config = fs::read_to_string(folder.join("nic-vfs/pools.toml")).unwrap();
    let recorded = ["--host", dump.to_str().unwrap()];
    let (code, out, err) = asked(&tree, &config, &[&["tree"], &recorded[..]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.is_ascii() && out.contains(" 117x "), "{out}");
    assert!(out.lines().all(|line| line.len() <= 80), "{out}");
}

/// A card behind a root port, with a VF beside it.
fn card() -> Tree {
    let tree = Tree::new();
    let devices = tree.root().join("devices/pci0000:00/0000:00:01.0");
    for (address, below) in [
        ("0000:00:01.0", ""),
        ("0000:01:00.0", "/0000:01:00.0"),
        ("0000:01:00.4", "/0000:01:00.4"),
    ] {
        let dir = devices.join(below.trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        let link = format!("../../../devices/pci0000:00/0000:00:01.0{below}");
        symlink(link, tree.root().join("bus/pci/devices").join(address)).unwrap();
        for (name, value) in [
            ("local_cpulist", "8-15"),
            ("power_state", "D0"),
            ("current_link_speed", "8.0 GT/s PCIe"),
            ("current_link_width", "4"),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("max_link_width", "8"),
        ] {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
    }
    symlink("../0000:01:00.0", devices.join("0000:01:00.4/physfn")).unwrap();
    tree
}

#[test]
fn where_a_function_is_can_be_told() {
    let tree = card();
    let sysfs = HostSysfs::new(tree.root());
    let at = |address: &str| locality(&sysfs, address.parse().unwrap());
    let whole = Link {
        speed: Some(8.0),
        width: Some(4),
        max_speed: Some(16.0),
        max_width: Some(8),
    };
    for address in ["0000:01:00.0", "0000:01:00.4"] {
        let told = at(address);
        assert_eq!(told.local_cpus.as_deref(), Some("8-15"));
        assert_eq!(told.root_port, "0000:00:01.0".parse().ok());
        assert_eq!(told.link, Some(whole.clone()), "{address}");
    }
    // There is no link inside of the chipset.
    let port = at("0000:00:01.0");
    assert_eq!((port.root_port, port.link), (None, None));
    assert_eq!(cpus(&sysfs, 0), None);
    assert_eq!(
        at("0000:09:00.0"),
        locality(&sysfs, "0000:09:00.0".parse().unwrap())
    );
}

/// To read what a link is would wake what sleeps without power.
#[test]
fn what_sleeps_is_not_woken_for_its_link() {
    let tree = card();
    let port = tree.root().join("bus/pci/devices/0000:00:01.0");
    let card = tree.root().join("bus/pci/devices/0000:01:00.0");
    let sysfs = HostSysfs::new(tree.root());
    let link = || locality(&sysfs, "0000:01:00.0".parse().unwrap()).link;
    for state in ["D3cold", "unknown", "error"] {
        fs::write(card.join("power_state"), state).unwrap();
        let now = link().unwrap();
        assert_eq!((now.speed, now.max_speed), (Some(8.0), None), "{state}");
    }
    fs::write(card.join("power_state"), "D3hot").unwrap();
    assert_eq!(link().unwrap().max_width, Some(8));
    fs::remove_file(port.join("power_state")).unwrap();
    assert_eq!(link().unwrap().speed, None);
    fs::remove_file(card.join("power_state")).unwrap();
    assert_eq!(link(), None);
}
