//! The whole daemon and vfio-bindctl: what was taken is given back, and stays
//! so. No kernel answers here; what one would change, the test does.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    client::until,
    ctl::ctl,
    private_bus::{PrivateBus, is_root},
    program::{Daemon, NIC, OTHER, host, mapping, settled},
    tree::Tree,
};

fn config() -> String {
    mapping("nic", NIC) + &mapping("other", OTHER)
}

async fn status(bus: &str) -> Value {
    let (code, out, err) = ctl(bus, &["status", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

async fn until_state(bus: &str, state: &str) {
    until(state, async || {
        let now = status(bus).await;
        now.pointer("/mappings/other/state")
            .is_some_and(|one| one == state)
    })
    .await;
}

/// Somebody clears the override, which a plain file does not do by itself.
fn clear(tree: &Tree) {
    fs::write(tree.attribute(OTHER, "driver_override"), "(null)\n").unwrap();
}

fn entry(state: &Path) -> Value {
    let file = state.join("undo").join(format!("{OTHER}.json"));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_taken_is_given_back_and_stays_so_until_it_is_taken_again() {
    if !is_root("a restore by the client") {
        return;
    }
    let (bus, tree) = (PrivateBus::start(), host());
    let (state, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directories = [
        ("STATE_DIRECTORY", state.path()),
        ("RUNTIME_DIRECTORY", run.path()),
    ];
    let start = || Daemon::in_earnest(&tree, &config(), &bus.address(), &directories);
    let mut daemon = start();
    let address = bus.address();
    settled(&address).await;
    // Nobody binds it, but it has been written to.
    until_state(&address, "failed").await;
    let taken = entry(state.path());
    assert_eq!(taken["vfio-bindd-undo"], 1);
    assert_eq!(taken["phase"], "taken");
    assert_eq!(taken["former"]["driver"], Value::Null);
    assert_eq!(taken["mappings"], serde_json::json!(["other"]));
    for (args, wanted, word) in [
        (
            &["restore", "nobody"][..],
            4,
            "no mapping is named 'nobody'",
        ),
        (&["restore", "nic"], 1, "mapping 'nic' has taken nothing"),
        (&["restore", NIC], 1, "was never taken"),
        (&["restore"], 2, "--all"),
        (&["restore", "nic", "--all"], 2, "--all"),
    ] {
        let (code, out, err) = ctl(&address, args).await;
        assert_eq!((code, out.as_str()), (wanted, ""), "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
    // What does not read back was not given back.
    let (code, _, err) = ctl(&address, &["restore", "other"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("the driver override is"), "{err}");
    assert_eq!(entry(state.path())["phase"], "returning");
    clear(&tree);
    let (code, out, err) = ctl(&address, &["restore", OTHER]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    assert_eq!(entry(state.path())["phase"], "released");
    let now = status(&address).await;
    assert_eq!(now["mappings"]["other"]["state"], "released");
    assert_eq!(now["mappings"]["nic"]["state"], "bound");
    let (code, _, err) = ctl(&address, &["resolve", "other", "--wait", "1min"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(
        err.contains("is released: the host has 0000:00:03.0 back"),
        "{err}"
    );
    let map = fs::read(run.path().join("map.json")).unwrap();
    let map: Value = serde_json::from_slice(&map).unwrap();
    assert_eq!(map["mappings"]["other"]["state"], "released");
    assert_eq!(ctl(&address, &["rescan"]).await.0, 0);
    assert_eq!(ctl(&address, &["restore", "--all"]).await.0, 0);

    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
    let daemon = start();
    settled(&address).await;
    until_state(&address, "released").await;
    daemon.until_logged(1, "stays with the host").await;
    let (code, _, err) = ctl(&address, &["rescan", "--take"]).await;
    assert_eq!(code, 0, "{err}");
    until_state(&address, "failed").await;
    assert_eq!(entry(state.path())["phase"], "taken");
    clear(&tree);
    // It is tried again and again, and each try sets the override.
    until("it is given back", async || {
        clear(&tree);
        ctl(&address, &["restore", "--all"]).await.0 == 0
    })
    .await;
    assert_eq!(ctl(&address, &["reload"]).await.0, 0);
    until_state(&address, "failed").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_entry_that_cannot_be_read_is_told_and_left_alone() {
    if !is_root("a restore by the client") {
        return;
    }
    let (bus, tree) = (PrivateBus::start(), host());
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join(format!("undo/{OTHER}.json"));
    fs::create_dir(state.path().join("undo")).unwrap();
    fs::write(&file, "{\"vfio-bindd-undo\": 9}").unwrap();
    let directories = [("STATE_DIRECTORY", state.path())];
    let daemon = Daemon::in_earnest(&tree, &config(), &bus.address(), &directories);
    settled(&bus.address()).await;
    daemon.until_logged(2, "format 9 is not known").await;
    until_state(&bus.address(), "failed").await;
    let now = status(&bus.address()).await;
    let reason = now["mappings"]["other"]["reason"].as_str().unwrap();
    assert!(reason.contains("keeping the undo journal: "), "{reason}");
    let set = fs::read_to_string(tree.attribute(OTHER, "driver_override")).unwrap();
    assert_eq!(set, "(null)\n");
    let (code, _, err) = ctl(&bus.address(), &["restore", OTHER]).await;
    assert_eq!(code, 1);
    assert!(err.contains("delete the file"), "{err}");
    assert!(file.exists());
}

#[tokio::test(flavor = "current_thread")]
async fn without_a_journal_or_in_a_dry_run_a_restore_says_why_it_cannot() {
    if !is_root("a restore by the client") {
        return;
    }
    let (bus, tree) = (PrivateBus::start(), host());
    let mut daemon = Daemon::in_earnest(&tree, &config(), &bus.address(), &[]);
    settled(&bus.address()).await;
    daemon.until_logged(1, "there is no state directory").await;
    let (code, _, err) = ctl(&bus.address(), &["restore", "other"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("without a state directory"), "{err}");
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
    let state = tempfile::tempdir().unwrap();
    let undo = state.path().join("undo");
    fs::create_dir(&undo).unwrap();
    let dry = Daemon::start_with(
        &tree,
        Some(&config()),
        &bus.address(),
        &[("STATE_DIRECTORY", state.path())],
    );
    settled(&bus.address()).await;
    let (code, _, err) = ctl(&bus.address(), &["restore", "--all"]).await;
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("--dry-run"), "{err}");
    drop(dry);
}
