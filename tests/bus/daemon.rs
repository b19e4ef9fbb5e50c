//! The whole daemon in a dry run: it plans and publishes, and writes nothing.

use std::fs;

use rustix::process::Signal;

use crate::{
    client::{Client, FOR_EVER, soon, until},
    private_bus::{PrivateBus, is_root},
    program::{Daemon, NIC, OTHER, host, mapping, one, reader, settled},
    tree::pipe,
};

#[tokio::test(flavor = "current_thread")]
async fn a_dry_run_publishes_what_is_and_what_would_be_done() {
    let (bus, tree) = (PrivateBus::start(), host());
    let config = mapping("nic", NIC) + &mapping("other", OTHER);
    let mut daemon = Daemon::start(&tree, Some(&config), &bus.address());
    let client = settled(&bus.address()).await;
    assert_eq!(client.manager("State").await, "degraded");
    assert_eq!(client.manager("Reason").await, "other is pending");
    assert_eq!(client.resolve("nic").await, one(NIC));
    let (error, text) = client.resolve("other").await.unwrap_err();
    assert_eq!(error, "org.vfiobindd1.Error.NotReady");
    assert!(text.starts_with("mapping 'other' is pending: "), "{text}");
    let plan: serde_json::Value = serde_json::from_str(&client.plan().await).unwrap();
    let actions = plan["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 1, "{plan}");
    assert!(actions.iter().all(|action| action["address"] == OTHER));
    let driver_override = tree.attribute(OTHER, "driver_override");
    assert_eq!(fs::read_to_string(driver_override).unwrap(), "(null)\n");
    if is_root("a rescan is answered when its findings are published") {
        tree.bind(OTHER);
        assert_eq!(client.rescan().await, Ok(()));
        assert_eq!(client.resolve("other").await, one(OTHER));
        assert_eq!(client.manager("State").await, "ready");
    }
    daemon.signal(Signal::INT);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "current_thread")]
async fn a_stop_waits_for_nobody() {
    let (bus, tree) = (PrivateBus::start(), host());
    // A helper that never comes back, and callers that wait for it.
    tree.hang(OTHER, "driver_override");
    let config = mapping("nic", NIC) + &mapping("other", OTHER);
    let mut daemon = Daemon::start(&tree, Some(&config), &bus.address());
    let client = Client::served(&bus.address()).await;
    until("the mapping is known", async || {
        client.resolve("nic").await == one(NIC)
    })
    .await;
    let wait = tokio::spawn({
        let client = client.clone();
        async move { client.resolve_wait("other", FOR_EVER).await }
    });
    let (error, text) = client.resolve("other").await.unwrap_err();
    assert_eq!(error, "org.vfiobindd1.Error.NotReady", "{text}");
    assert!(!wait.is_finished());
    // A disk that does not come back, either.
    let drop_ins = daemon.folder.path().join("config.d");
    fs::create_dir(&drop_ins).unwrap();
    pipe(&drop_ins.join("slow.toml"));
    daemon.signal(Signal::HUP);
    let read = reader(&drop_ins.join("slow.toml")).await;
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
    drop(read);
    assert!(soon(wait).await.unwrap().is_err());
    until("the name is free", async || client.owner().await.is_err()).await;
}

#[tokio::test(flavor = "current_thread")]
async fn no_bus_is_needed_to_start_or_to_stop() {
    let (mut bus, tree) = (PrivateBus::prepare(), host());
    let mut daemon = Daemon::start(&tree, Some(&mapping("nic", NIC)), &bus.address());
    daemon.until_logged(1, "D-Bus cannot be reached").await;
    bus.up();
    let client = Client::served(&bus.address()).await;
    assert_eq!(client.resolve_wait("nic", FOR_EVER).await, one(NIC));
    bus.down();
    daemon.until_logged(1, "connection to D-Bus is lost").await;
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
}
