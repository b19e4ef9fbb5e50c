//! What vfio-bindctl says without a daemon: of a directory that looks like
//! `/sys`, of config files, of recorded hosts.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/tree.rs"]
mod tree;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use ctl::{NIC, TWIN, ctl, host};
use tree::Tree;

fn config(tree: &Tree, text: &str) -> String {
    let path = tree.root().join("config.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const ONE: &str = "[mapping.nic]\nmatch = { iommu_group = 2 }\n";

#[test]
fn functions_are_listed_for_people_and_for_scripts() {
    let tree = host();
    tree.bind(TWIN);
    let (code, out, err) = ctl(&tree, &["functions"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("ADDRESS       ID         CLASS   NODE  GROUP  DRIVER"));
    assert!(lines[1].starts_with("0000:00:02.0  8086:10d3  020000  -     2      -"));
    assert!(lines[2].starts_with("0000:00:03.0  8086:10d3  020000  -     3      vfio-pci"));
    let (_, out, _) = ctl(&tree, &["functions", "--json"]);
    let functions: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(functions[1]["driver"], "vfio-pci");
}

#[test]
fn a_check_says_what_no_pf_of_this_host_can_do_and_accepts_it() {
    let tree = host();
    for (name, value) in [("sriov_totalvfs", "7\n"), ("sriov_numvfs", "0\n")] {
        fs::write(tree.attribute(NIC, name), value).unwrap();
    }
    let entry =
        |name: &str, pf: &str, vfs: &str| format!("[sriov.{name}]\npf = {{ {pf} }}\nvfs = {vfs}\n");
    let text = entry("much", "address = \"00:02.0\"", "8")
        + &entry("plain", "address = \"00:03.0\"", "1")
        + &entry("absent", "id = \"15b3:1017\"", "\"max\"");
    let (code, out, err) = ctl(&tree, &["check", &config(&tree, &text)]);
    assert_eq!(code, 0, "{err}");
    assert!(out.ends_with("ok, 0 mappings, 3 sriov entries\n"), "{out}");
    let said: Vec<_> = err.lines().collect();
    assert_eq!(
        said,
        [
            "vfio-bindctl: sriov absent: no function matches its pf; compare pf of \
             [sriov.absent] with what vfio-bindctl functions shows",
            "vfio-bindctl: sriov much: 0000:00:02.0 can have at most 7 VFs, and vfs is 8; \
             change [sriov.much], or what is said here",
            "vfio-bindctl: sriov plain: 0000:00:03.0 has no SR-IOV; change [sriov.plain], or \
             what is said here",
        ]
    );
    let fits = entry("fits", "address = \"00:02.0\"", "7");
    let (code, _, err) = ctl(&tree, &["check", &config(&tree, &fits)]);
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let tree = host();
    let file = config(&tree, ONE);
    let (code, out, err) = ctl(&tree, &["plan", "--config", &file]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("nic: can be bound\n  0000:00:02.0 [8086:10d3]"),
        "{out}"
    );
    assert!(out.contains("chosen by iommu_group=2"), "{out}");
    assert!(out.ends_with("would be bound to vfio-pci\n"), "{out}");
    let set = fs::read_to_string(tree.attribute(NIC, "driver_override")).unwrap();
    assert_eq!(set, "(null)\n");
    tree.bind(NIC);
    let (_, out, _) = ctl(&tree, &["plan", "--config", &file]);
    assert!(
        out.starts_with("nic: bound\n") && out.ends_with("is bound\n"),
        "{out}"
    );
    let (code, out, _) = ctl(&tree, &["plan", "--config", &file, "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &plan["mappings"]["nic"]["verdict"]),
        (0, &"ready".into())
    );
}

#[test]
fn a_function_that_does_not_answer_holds_the_plan_up_for_seconds_only() {
    let tree = host();
    tree.hang(NIC, "driver_override");
    let file = config(&tree, ONE);
    let (code, out, err) = ctl(&tree, &["plan", "--config", &file]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("nic: not known yet"), "{out}");
    assert!(
        err.contains("0000:00:02.0: its attributes cannot be read"),
        "{err}"
    );
}

#[test]
fn a_dump_is_planned_on_elsewhere() {
    let tree = host();
    let (code, dump, err) = ctl(&tree, &["dump"]);
    assert_eq!(code, 0, "{err}");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("host.jsonl");
    fs::write(&file, &dump).unwrap();
    let elsewhere = Tree::new();
    let host = file.to_str().unwrap();
    let policy = config(&elsewhere, ONE);
    let here = ctl(&tree, &["plan", "--config", &policy]);
    let there = ctl(&elsewhere, &["plan", "--config", &policy, "--host", host]);
    assert_eq!((here.0, here.1), (there.0, there.1));
    fs::write(&file, dump.replace("\"id\"", "\"idd\"")).unwrap();
    let (code, out, err) = ctl(&elsewhere, &["plan", "--config", &policy, "--host", host]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("host.jsonl: line 3: this is no function"),
        "{err}"
    );
    let (code, _, err) = ctl(
        &elsewhere,
        &["plan", "--config", &policy, "--host", "/nowhere"],
    );
    assert_eq!(code, 2);
    assert!(err.contains("/nowhere: No such file"), "{err}");
}

#[test]
fn check_tells_all_mistakes_and_where_they_are() {
    let tree = host();
    let good = config(&tree, ONE);
    let (code, out, _) = ctl(&tree, &["check", &good]);
    assert_eq!((code, out), (0, format!("{good}: ok, 1 mapping\n")));
    let bad = config(&tree, "[mapping.nic]\nmatch = { nume = 1 }\ntake = 0\n");
    let (code, out, err) = ctl(&tree, &["check", &bad]);
    assert_eq!((code, out.as_str()), (2, ""));
    // An editor jumps to a place that begins its line.
    assert!(
        err.starts_with(&format!("{bad}:2:11: unknown key `nume`")),
        "{err}"
    );
    assert!(
        err.contains("did you mean `numa`?") && err.contains(":3:8: `take` is 0"),
        "{err}"
    );
    let (code, out, err) = ctl(&tree, &["check", &bad, "--json"]);
    assert_eq!((code, err.as_str()), (2, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["valid"], false);
    assert_eq!(report["errors"][0]["line"], 2);
    assert_eq!(report["errors"][1]["column"], 8);
    let (code, _, err) = ctl(&tree, &["check", "/nowhere.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("/nowhere.toml: "), "{err}");
}

#[test]
fn each_failure_is_one_clear_line() {
    let tree = host();
    let nowhere = Path::new("/nowhere");
    let output = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"))
        .arg("--sysfs-root")
        .arg(nowhere)
        .arg("functions")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.starts_with("vfio-bindctl: /nowhere/bus/pci/devices: "),
        "{err}"
    );
    let (code, _, err) = ctl(&tree, &["--bus-address", "unix:path=/nowhere", "status"]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("vfio-bindctl: D-Bus cannot be reached: "),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
    let (code, _, err) = ctl(&tree, &["stauts"]);
    assert_eq!(code, 2);
    assert!(err.contains("status"), "{err}");
}

/// A record of a host with what `facts` says beside its functions.
fn record(tree: &Tree, name: &str, facts: &str) -> String {
    let (_, dump, _) = ctl(tree, &["dump"]);
    let lines = dump.lines().filter(|line| !line.starts_with("{\"facts\":"));
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{dump}");
    lines.insert(1, format!("{{\"facts\":{facts}}}"));
    let path = tree.root().join(name);
    fs::write(&path, lines.join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_doctor_ends_with_1_where_something_fails_and_with_0_where_it_does_not() {
    let tree = host();
    let file = config(&tree, ONE);
    let well = record(&tree, "well.jsonl", "{\"iommus\":{\"known\":[\"dmar0\"]}}");
    let (code, out, err) = ctl(&tree, &["doctor", "--config", &file, "--host", &well]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with("ok    config           valid, 1 mapping\n"),
        "{out}"
    );
    assert!(
        out.contains("warn  service          cannot be judged: "),
        "{out}"
    );
    assert!(
        out.contains("\n                       -> run it as root"),
        "{out}"
    );
    assert!(out.ends_with(" warn, 0 fail\n"), "{out}");

    let off = record(
        &tree,
        "off.jsonl",
        "{\"cpu\":\"intel\",\"iommus\":{\"known\":[]}}",
    );
    let args = ["doctor", "--config", &file, "--host", &off, "--json"];
    let (code, out, err) = ctl(&tree, &args);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let iommu = findings.iter().find(|one| one["name"] == "iommu").unwrap();
    assert_eq!(iommu["level"], "fail");
    assert!(iommu["advice"].as_str().unwrap().contains("intel_iommu=on"));
    let failed = findings.iter().filter(|one| one["level"] == "fail");
    assert_eq!(report["fail"], failed.count());

    // A config that is not valid is a finding, and the rest is still told.
    let bad = config(&tree, "[mapping.nic]\nmatch = { nume = 1 }\n");
    let (code, out, err) = ctl(&tree, &["doctor", "--config", &bad, "--host", &well]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(
        out.contains(&format!("is not valid: {bad}:2:11: unknown key")),
        "{out}"
    );
    assert!(out.contains("ok    iommu "), "{out}");
    // A record that cannot be read is no host.
    let (code, out, err) = ctl(&tree, &["doctor", "--host", "/nowhere"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("/nowhere: No such file"), "{err}");
}

#[test]
fn the_doctor_looks_at_this_host_and_needs_no_daemon() {
    let tree = host();
    tree.bind(TWIN);
    let file = config(&tree, ONE);
    let (_, out, _) = ctl(&tree, &["doctor", "--config", &file]);
    assert!(
        out.contains("mapping          nic: can be bound: 0000:00:02.0\n"),
        "{out}"
    );
    // Nobody set its override: its ID was given to the driver.
    assert!(
        out.contains("warn  unmapped         a vfio driver has 0000:00:03.0,"),
        "{out}"
    );
    assert!(out.contains("fail  iommu            off"), "{out}");
    // What a dump says of a host is what the host says.
    let (_, dump, _) = ctl(&tree, &["dump"]);
    let path = tree.root().join("host.jsonl");
    fs::write(&path, dump).unwrap();
    let path = path.to_str().unwrap();
    let (_, there, _) = ctl(&tree, &["doctor", "--config", &file, "--host", path]);
    assert_eq!(there, out);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let tree = host();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = ctl(&tree, &["completions", shell]);
        assert_eq!(code, 0);
        assert!(
            out.contains("resolve") && out.contains("cloud-hypervisor"),
            "{shell}"
        );
    }
}
