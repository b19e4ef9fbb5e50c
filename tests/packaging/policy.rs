//! Who may call what on the system bus.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::{file, members::members, path};

/// What only root may call.
const CHANGES: [&str; 5] = ["Reload", "Rescan", "RescanTake", "Restore", "RestoreAll"];

#[test]
fn everyone_may_read_and_only_root_may_change() {
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
    // A new method is open or for root; somebody has to say which.
    let mut reads: BTreeSet<_> = members("method").into_iter().collect();
    for change in CHANGES {
        assert!(reads.remove(change), "{change} is no method");
    }
    assert_eq!(open, reads);
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
