//! Who may call what on the system bus.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::{file, members::members, path};

/// What the daemon asks polkit about, whether the caller may; `tests/bus` has
/// nobody try them all.
const CHANGES: [&str; 8] = [
    "Claim",
    "ClaimWith",
    "Release",
    "Reload",
    "Rescan",
    "RescanTake",
    "Restore",
    "RestoreAll",
];

#[test]
fn members_are_open_by_name() {
    let policy = file("packaging/org.vfiobindd1.conf");
    let (root, default) = policy.split_once("context=\"default\"").unwrap();
    assert!(root.contains("<policy user=\"root\">"));
    assert!(root.contains("<allow own=\"org.vfiobindd1\"/>"));
    assert!(root.contains("<allow send_destination=\"org.vfiobindd1\"/>"));
    assert!(!default.contains("own="));
    let open = default
        .split("send_member=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let open: BTreeSet<_> = open.map(str::to_owned).collect();
    let methods: BTreeSet<_> = members("method").into_iter().collect();
    assert_eq!(open, methods);
    // A new method reads or changes; somebody has to say which.
    let requests = file("tests/bus/requests.rs");
    let (_, tried) = requests.split_once("const CHANGES").unwrap();
    let (tried, _) = tried.split_once("];").unwrap();
    for change in CHANGES {
        assert!(methods.contains(change), "{change} is no method");
        // dbus-send cannot send what it takes; the lab tries it with busctl.
        let is_tried = change == "ClaimWith" || tried.contains(&format!("\"{change}\""));
        assert!(is_tried, "{change} is not tried");
    }
    for read in ["Explain", "Plan", "Resolve", "ResolveWait"] {
        assert!(methods.contains(read), "{read} is no method");
    }
    assert_eq!(methods.len(), CHANGES.len() + 4);
    for line in default.lines().filter(|line| line.contains("<allow ")) {
        assert!(
            line.contains("send_destination=\"org.vfiobindd1\""),
            "{line}"
        );
        // An interface of ours without its members named would open them all.
        let ours = line.contains("send_interface=\"org.vfiobindd1.");
        assert_eq!(ours, line.contains("send_member="), "{line}");
        assert!(line.contains("send_interface="), "{line}");
    }
}

#[test]
fn polkit_knows_the_actions() {
    let policy = file("packaging/org.vfiobindd1.policy");
    let ids: Vec<_> = policy
        .split("action id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let asked = file("src/bus/caller.rs");
    for id in &ids {
        assert!(
            asked.contains(&format!("\"{id}\"")),
            "{id} is never asked for"
        );
    }
    assert_eq!(ids, ["org.vfiobindd1.claim", "org.vfiobindd1.manage"]);
    for (open, close) in [("<action ", "</action>"), ("<defaults>", "</defaults>")] {
        assert_eq!(policy.matches(open).count(), policy.matches(close).count());
    }
}

#[test]
fn the_bus_takes_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bus.conf");
    let text = format!(
        "<busconfig><listen>unix:dir={}</listen><include>{}</include></busconfig>",
        folder.path().display(),
        path("packaging/org.vfiobindd1.conf").display()
    );
    fs::write(&config, text).unwrap();
    let mut bus = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", config.display()))
        .args(["--nofork", "--nopidfile", "--print-address"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let read = BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address);
    bus.kill().unwrap();
    let ended = bus.wait_with_output().unwrap();
    assert!(read.is_ok() && address.starts_with("unix:"), "{ended:?}");
}
