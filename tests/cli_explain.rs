//! What `vfio-bindctl explain` and `vfio-bindctl pin` say without a daemon, of
//! a directory that looks like `/sys` and of recorded hosts.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/tree.rs"]
mod tree;

use std::{fs, path::Path};

use ctl::{NIC, TWIN, ctl, host};
use serde_json::Value;
use tree::Tree;

/// What the client says under this config.
fn asked(tree: &Tree, config: &str, args: &[&str]) -> (i32, String, String) {
    let file = tree.root().join("config.toml");
    fs::write(&file, config).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    ctl(tree, &[&config, args].concat())
}

/// A config of a mapping that matches these terms.
fn one(terms: &str) -> String {
    format!("[mapping.nic]\nmatch = {{ {terms} }}\n")
}

/// What is told on stderr but for the word about rights, which tests may lack.
fn words(err: &str) -> Vec<&str> {
    let lines = err.lines();
    lines.filter(|line| !line.contains("not root")).collect()
}

#[test]
fn an_unmatched_function_is_inspected_and_a_short_address_will_do() {
    let tree = host();
    fs::write(tree.attribute(TWIN, "driver_override"), "pci-stub\n").unwrap();
    let config = one("id = \"8086:10d3\", iommu_group = 2");
    let (code, out, err) = asked(&tree, &config, &["explain", "00:03.0"]);
    assert_eq!((code, words(&err)), (0, Vec::new()));
    assert!(out.starts_with("0000:00:03.0 [8086:10d3]"), "{out}");
    assert!(
        out.contains("  driver none, driver override pci-stub\n"),
        "{out}"
    );
    let near =
        "  nic: nearly matched: iommu_group=2 fails: it is in group 3 (id=8086:10d3 holds)\n";
    assert!(out.contains(near), "{out}");
    assert!(
        out.ends_with("what would be done: nothing, no mapping takes it\n"),
        "{out}"
    );
    let (_, out, _) = asked(&tree, &config, &["explain", NIC, "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    let function = told.get("function").unwrap();
    assert_eq!(function["mappings"]["nic"]["standing"], "chosen");
    assert_eq!(function["action"]["driver"], "vfio-pci");
    assert_eq!(function["live"], Value::Null);
}

#[test]
fn settings_are_told_as_wanted_and_as_found() {
    let tree = host();
    fs::write(tree.attribute(NIC, "d3cold_allowed"), "1\n").unwrap();
    let wish =
        "reset_method = [\"bus\", \"flr\"]\nd3cold = false\nresize_bar = { \"0\" = \"8G\" }\n";
    let config = one("iommu_group = 2") + wish;
    let wanted = "reset_method \"bus flr\", d3cold false, BAR 0 8G";
    let (_, out, _) = asked(&tree, &config, &["explain", NIC]);
    assert!(out.contains(&format!("    wants {wanted}\n")), "{out}");
    let found = "  settings: reset_method \"flr bus\", d3cold true\n";
    assert!(out.contains(found), "{out}");
    let (_, out, _) = asked(&tree, &config, &["explain", "nic"]);
    for line in [
        "reset_method bus flr",
        "d3cold false",
        "resize_bar BAR 0 8G",
    ] {
        assert!(out.contains(&format!("  {line}\n")), "{out}");
    }
    let (_, out, _) = asked(&tree, &config, &["plan"]);
    let deed = format!("would be bound to vfio-pci, with {wanted}\n");
    assert!(out.contains(&deed), "{out}");
    // Where nobody wants anything of them nobody looks.
    let (_, out, _) = asked(&tree, &one("iommu_group = 2"), &["explain", NIC]);
    assert!(
        !out.contains("settings:") && !out.contains("wants"),
        "{out}"
    );
}

#[test]
fn a_mapping_says_why_its_count_is_off() {
    let tree = host();
    let config = one("id = \"8086:10d3\"") + "expect = 1\n";
    let (code, out, _) = asked(&tree, &config, &["explain", "nic"]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("nic: refused: 2 functions match, exactly 1 expected\n"),
        "{out}"
    );
    assert!(
        out.contains("  2 functions matched, but exactly 1 expected\n"),
        "{out}"
    );
    assert!(out.contains("    by id=8086:10d3: not chosen\n"), "{out}");
}

#[test]
fn a_function_that_does_not_answer_is_explained_all_the_same() {
    let tree = host();
    tree.hang(TWIN, "driver_override");
    let (code, out, err) = asked(&tree, &one("iommu_group = 2"), &["explain", TWIN]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("0000:00:03.0: its attributes cannot be read"),
        "{err}"
    );
    assert!(out.contains("driver none, not inspected\n"), "{out}");
}

#[test]
fn exit_codes_are_those_of_the_manual() {
    let tree = host();
    let config = one("iommu_group = 2");
    for (args, wanted, word) in [
        (
            &["explain", "gpu"][..],
            4,
            "no mapping is named 'gpu'; there are: nic",
        ),
        (
            &["explain", "0f:00.0"],
            1,
            "no PCI function is at 0000:0f:00.0",
        ),
        (&["explain", "0f:00"], 2, "'0f:00' is not a PCI address"),
        (&["explain"], 2, "NAME|ADDRESS"),
        (
            &["explain", "nic", "--host", "/nowhere"],
            2,
            "/nowhere: No such file",
        ),
        (
            &["pin", "gpu"],
            4,
            "no mapping is named 'gpu'; there are: nic",
        ),
        (
            &["pin", "nic", "--host", "/nowhere"],
            2,
            "/nowhere: No such file",
        ),
    ] {
        let (code, out, err) = asked(&tree, &config, args);
        assert_eq!((code, out.as_str()), (wanted, ""), "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
    let (code, _, err) = asked(&tree, &one("iommu_group = 9"), &["pin", "nic"]);
    assert_eq!(code, 1);
    let nothing = "mapping 'nic' chooses no function: no function matches, at least 1 expected";
    assert!(err.contains(nothing), "{err}");
    let (code, _, err) = asked(&tree, &one("idd = 9"), &["explain", "nic"]);
    assert_eq!(code, 2);
    assert!(err.contains("unknown key `idd`"), "{err}");
}

/// The terms are pasted where the mapping's match was, and mean the same.
#[test]
fn a_pin_is_ready_to_be_pasted() {
    let tree = host();
    let (code, out, err) = asked(&tree, &one("address = \"00:02.0\""), &["pin", "nic"]);
    assert_eq!((code, words(&err)), (0, Vec::new()));
    assert!(
        out.starts_with("# In [mapping.nic], instead of its match:\nmatch = [\n"),
        "{out}"
    );
    assert!(
        out.contains("  { id = \"8086:10d3\", path = \"0000:00:02.0\" },\n"),
        "{out}"
    );
    let pasted = format!("[mapping.nic]\n{out}");
    let (code, out, err) = asked(&tree, &pasted, &["plan"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("  0000:00:02.0 [8086:10d3]"), "{out}");
    assert!(!out.contains(TWIN), "{out}");
    let (_, out, _) = asked(&tree, &pasted, &["pin", "nic", "--json"]);
    let pins: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(pins["pins"][0]["address"], NIC);
    assert_eq!(pins["pins"][0]["by"], "path");
    assert_eq!(pins["pins"][0]["also"], Value::Array(Vec::new()));
}

#[test]
fn a_slot_label_may_be_any_text() {
    let tree = host();
    for (address, label) in [(NIC, "Slot \"5\" [a*?]\\"), (TWIN, "Slot \"5\" [ab]\\")] {
        fs::write(tree.attribute(address, "label"), format!("{label}\n")).unwrap();
    }
    let (code, out, err) = asked(&tree, &one("address = \"00:02.0\""), &["pin", "nic"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains(r#"slot = "Slot \"5\" [[]a[*][?]]\\""#),
        "{out}"
    );
    let (code, out, err) = asked(&tree, &format!("[mapping.nic]\n{out}"), &["plan"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(NIC) && !out.contains(TWIN), "{out}");
}

#[test]
fn a_take_that_leaves_fewer_than_expected_is_said() {
    let tree = host();
    let config = one("id = \"8086:10d3\"") + "expect = 2\ntake = 1\n";
    let (code, out, err) = asked(&tree, &config, &["pin", "nic"]);
    assert_eq!(code, 0, "{err}");
    let note = "# 'expect' is exactly 2, and 1 will match: it has to become 1\n";
    assert!(out.contains(note), "{out}");
}

#[test]
fn a_recorded_host_is_explained_elsewhere() {
    let tree = host();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let dump = folder.join("gpu-server.jsonl");
    let config = fs::read_to_string(folder.join("gpu-server/serials.toml")).unwrap();
    let recorded = ["--host", dump.to_str().unwrap()];
    let (code, out, err) = asked(
        &tree,
        &config,
        &[&["explain", "a3:00.0"], &recorded[..]].concat(),
    );
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("  gpus: matched by id=10de:20b5; chosen\n"),
        "{out}"
    );
    // Two ports of one card have one serial number.
    let (code, out, err) = asked(&tree, &config, &[&["pin", "card"], &recorded[..]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    let port = r#"serial = "b8-ce-f6-03-00-10-00-00", address = "*:*:*.1" }"#;
    assert!(out.contains(port), "{out}");
}
