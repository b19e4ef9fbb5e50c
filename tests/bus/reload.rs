//! A new config, and a new look at the host.

use std::{fs, time::Duration};

use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    client::{Client, FOR_EVER, soon, until},
    private_bus::{PrivateBus, is_root},
    program::{Daemon, NIC, OTHER, host, mapping, one, reader, settled},
    tree::{Tree, pipe},
};

const UNKNOWN: &str = "org.vfiobindd1.Error.UnknownMapping";
/// What would be wrong has happened by then, mostly; nothing right needs it.
const A_WHILE: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "current_thread")]
async fn a_reload_takes_a_good_config_and_leaves_a_bad_one() {
    if !is_root("Reload on D-Bus") {
        return;
    }
    let (bus, tree) = (PrivateBus::start(), host());
    let daemon = Daemon::start(&tree, Some(&mapping("nic", NIC)), &bus.address());
    let client = settled(&bus.address()).await;

    daemon.configure(&mapping("card", NIC));
    assert_eq!(client.resolve("card").await.unwrap_err().0, UNKNOWN);
    assert_eq!(client.reload().await, Ok(()));
    assert_eq!(client.resolve("card").await, one(NIC));
    assert_eq!(client.resolve("nic").await.unwrap_err().0, UNKNOWN);

    daemon.configure(&format!("{}expct = 2\n", mapping("nic", NIC)));
    let (error, text) = client.reload().await.unwrap_err();
    assert_eq!(error, "org.vfiobindd1.Error.InvalidConfig");
    let place = format!("{}:3:1: unknown key `expct`", daemon.config().display());
    assert!(text.starts_with(&place), "{text}");
    assert_eq!(client.resolve("card").await, one(NIC));
    assert_eq!(client.resolve("nic").await.unwrap_err().0, UNKNOWN);
    assert_eq!(client.manager("State").await, "ready");
    let reason = client.manager("Reason").await;
    assert!(reason.contains("the one before goes on"), "{reason}");
    assert!(reason.contains(&place), "{reason}");

    daemon.configure(&mapping("uplink", NIC));
    assert_eq!(client.reload().await, Ok(()));
    assert_eq!(client.resolve("uplink").await, one(NIC));
    assert_eq!(client.manager("Reason").await, "");
}

#[tokio::test(flavor = "current_thread")]
async fn sighup_takes_a_good_config_and_leaves_a_bad_one() {
    let (bus, tree) = (PrivateBus::start(), host());
    let daemon = Daemon::start(&tree, Some(&mapping("nic", NIC)), &bus.address());
    let client = settled(&bus.address()).await;
    daemon.configure("\n[mapping.nic]\nmatch = {}\n");
    daemon.signal(Signal::HUP);
    until("the config is read and not taken", async || {
        client.manager("Reason").await.contains("config.toml:3:")
    })
    .await;
    assert_eq!(client.resolve("nic").await, one(NIC));
    daemon.configure(&mapping("card", NIC));
    daemon.signal(Signal::HUP);
    until("the config is read and taken", async || {
        client.resolve("card").await == one(NIC)
    })
    .await;
    assert_eq!(client.manager("Reason").await, "");
    assert_eq!(client.resolve("nic").await.unwrap_err().0, UNKNOWN);
}

#[tokio::test(flavor = "current_thread")]
async fn the_config_that_is_in_force_is_the_one_that_was_read_last() {
    if !is_root("Reload on D-Bus") {
        return;
    }
    let (bus, tree) = (PrivateBus::start(), host());
    let daemon = Daemon::start(&tree, Some(&mapping("old", NIC)), &bus.address());
    let client = settled(&bus.address()).await;
    daemon.until_logged(1, "config in force").await;
    // A disk that is slow, for this one read: a pipe that nobody writes to.
    let drop_ins = daemon.folder.path().join("config.d");
    fs::create_dir(&drop_ins).unwrap();
    let (slow, aside) = (drop_ins.join("slow.toml"), drop_ins.join("aside"));
    pipe(&slow);
    daemon.signal(Signal::HUP);
    let reader = reader(&slow).await;
    fs::rename(&slow, aside).unwrap();
    daemon.configure(&mapping("new", NIC));
    let reload = tokio::spawn({
        let client = client.clone();
        async move { client.reload().await }
    });
    // Long enough for a wrong answer; the right one takes its time.
    sleep(A_WHILE).await;
    drop(reader);
    assert_eq!(soon(reload).await.unwrap(), Ok(()));
    daemon.until_logged(3, "config in force").await;
    assert_eq!(client.resolve("new").await, one(NIC));
    assert_eq!(client.resolve("old").await.unwrap_err().0, UNKNOWN);
}

#[tokio::test(flavor = "current_thread")]
async fn a_rescan_is_not_answered_by_a_scan_that_began_before_it() {
    if !is_root("Rescan on D-Bus") {
        return;
    }
    let (bus, tree) = (PrivateBus::start(), Tree::new());
    tree.add(NIC, 2);
    tree.add(OTHER, 3);
    let slow = tree.hang(OTHER, "numa_node");
    let _daemon = Daemon::start(&tree, Some(&mapping("nic", NIC)), &bus.address());
    let client = Client::served(&bus.address()).await;
    // Functions are scanned in order: this scan has seen NIC without a driver.
    let first = reader(&slow).await;
    tree.bind(NIC);
    let rescan = tokio::spawn({
        let client = client.clone();
        async move { client.rescan().await }
    });
    // Long enough for the request to be in.
    sleep(A_WHILE).await;
    // The scan that follows is as slow.
    tree.release();
    tree.hang(OTHER, "numa_node");
    drop(first);
    let second = reader(&slow).await;
    sleep(A_WHILE).await;
    assert!(!rescan.is_finished(), "the first scan knows nothing of it");
    tree.release();
    drop(second);
    assert_eq!(soon(rescan).await.unwrap(), Ok(()));
    assert_eq!(client.resolve("nic").await, one(NIC));
}

#[tokio::test(flavor = "current_thread")]
async fn a_bad_config_at_the_start_is_published_and_can_be_mended() {
    for (config, wrong) in [
        (Some("[mapping.nic]\nmtch = 1\n"), "config.toml:2:1: "),
        (None, "config.toml: "),
    ] {
        let (bus, tree) = (PrivateBus::start(), host());
        let mut daemon = Daemon::start(&tree, config, &bus.address());
        let client = settled(&bus.address()).await;
        assert_eq!(client.manager("State").await, "failed");
        let reason = client.manager("Reason").await;
        assert!(reason.contains(wrong), "{reason}");
        let (error, text) = client.resolve("nic").await.unwrap_err();
        assert_eq!(error, "org.vfiobindd1.Error.InvalidConfig");
        assert!(text.contains("'nic'") && text.contains(wrong), "{text}");
        assert_eq!(client.objects().await.len(), 0);
        if is_root("a mended config is waited for") {
            daemon.configure(&mapping("nic", NIC));
            // The first scan, which takes its time.
            tree.hang(NIC, "numa_node");
            assert_eq!(client.reload().await, Ok(()));
            let wait = tokio::spawn({
                let client = client.clone();
                async move { client.resolve_wait("nic", FOR_EVER).await }
            });
            let (error, text) = client.resolve("nic").await.unwrap_err();
            assert_eq!(error, "org.vfiobindd1.Error.NotReady", "{text}");
            assert_eq!(client.manager("State").await, "starting");
            tree.release();
            assert_eq!(soon(wait).await.unwrap(), one(NIC));
            assert_eq!(client.manager("State").await, "ready");
        }
        daemon.signal(Signal::TERM);
        assert!(daemon.ended().await.success());
    }
}
