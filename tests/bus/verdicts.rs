//! What the daemon leaves for the early stage of the next boot.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    client::until,
    private_bus::PrivateBus,
    program::{Daemon, OTHER, host, mapping, settled},
};

/// What a former boot left: a function that is bound in this one.
fn former() -> Value {
    json!({
        "vfio-bindd-verdicts": 1, "boot_id": "former", "ready": true,
        "functions": [{
            "address": "0000:00:02.0", "path": "0000:00:02.0", "id": "8086:10d3",
            "subsystem": "8086:0000", "class": "020000", "serial": null,
        }],
    })
}

fn read(state: &Path) -> Value {
    let text = fs::read(state.join("verdicts.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn a_boot_is_not_ready_before_the_daemon_says_so() {
    let (bus, tree) = (PrivateBus::start(), host());
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("verdicts.json"), former().to_string()).unwrap();
    // The first pass takes as long as this does.
    tree.hang(OTHER, "driver_override");
    let directories = [("STATE_DIRECTORY", state.path())];
    let config = mapping("other", OTHER);
    let daemon = Daemon::in_earnest(&tree, &config, &bus.address(), &directories);
    until("the file is of this boot", async || {
        read(state.path())["boot_id"] != "former"
    })
    .await;
    let begun = read(state.path());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(begun["boot_id"], boot.trim());
    // No early stage of this boot found them the same.
    assert_eq!(
        (&begun["ready"], &begun["functions"]),
        (&false.into(), &json!([]))
    );
    tree.release();
    settled(&bus.address()).await;
    until("it is ready", async || read(state.path())["ready"] == true).await;
    drop(daemon);
}

#[tokio::test(flavor = "current_thread")]
async fn a_function_that_was_taken_early_keeps_its_verdict() {
    let (bus, tree) = (PrivateBus::start(), host());
    let state = tempfile::tempdir().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // As the early stage of this boot marks it.
    let mut marked = former();
    marked["boot_id"] = boot.trim().into();
    marked["ready"] = false.into();
    fs::write(state.path().join("verdicts.json"), marked.to_string()).unwrap();
    let directories = [("STATE_DIRECTORY", state.path())];
    let config = mapping("nic", "0000:00:02.0");
    let daemon = Daemon::in_earnest(&tree, &config, &bus.address(), &directories);
    until("it is ready", async || read(state.path())["ready"] == true).await;
    assert_eq!(read(state.path())["functions"], former()["functions"]);
    drop(daemon);
}

#[tokio::test(flavor = "current_thread")]
async fn a_dry_run_leaves_the_verdicts_alone() {
    let (bus, tree) = (PrivateBus::start(), host());
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("verdicts.json"), former().to_string()).unwrap();
    let directories = [("STATE_DIRECTORY", state.path())];
    let config = mapping("other", OTHER);
    let daemon = Daemon::start_with(&tree, Some(&config), &bus.address(), &directories);
    settled(&bus.address()).await;
    assert_eq!(read(state.path()), former());
    drop(daemon);
}
