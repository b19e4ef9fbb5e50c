//! The whole daemon while a helper of it hangs: it answers, it stops at once,
//! and the next one leaves alone what that helper is at.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    client::{Client, until},
    private_bus::PrivateBus,
    program::{Daemon, NIC, OTHER, host, mapping, one},
};

/// What the next daemon is told of the helper.
fn kept(run: &Path) -> Value {
    let text = fs::read(run.join("errands.json")).unwrap();
    let errands: Value = serde_json::from_slice(&text).unwrap();
    let entry = errands.pointer(&format!("/helpers/{OTHER}"));
    entry.cloned().unwrap_or_default()
}

async fn refusal(client: &Client) -> (String, String) {
    client.resolve("other").await.unwrap_err()
}

#[tokio::test(flavor = "current_thread")]
async fn what_hangs_is_left_alone_by_the_next_start_too_until_it_comes_back() {
    const STUCK: &str = "org.vfiobindd1.Error.Stuck";
    let (bus, tree) = (PrivateBus::start(), host());
    let run = tempfile::tempdir().unwrap();
    let directories = [("RUNTIME_DIRECTORY", run.path())];
    tree.hang(OTHER, "driver_override");
    let config = mapping("nic", NIC) + &mapping("other", OTHER);
    let start = || Daemon::start_with(&tree, Some(&config), &bus.address(), &directories);
    let mut daemon = start();
    let client = Client::served(&bus.address()).await;
    until("it is stuck", async || refusal(&client).await.0 == STUCK).await;
    let (_, text) = refusal(&client).await;
    assert!(text.contains("does not come back from reading"), "{text}");
    assert_eq!(client.resolve("nic").await, one(NIC));
    let first = kept(run.path());
    assert_eq!(first["late"], true);
    // The worst of stops.
    daemon.signal(Signal::KILL);
    assert!(!daemon.ended().await.success());

    let mut daemon = start();
    let client = Client::served(&bus.address()).await;
    until("the other mapping goes on", async || {
        client.resolve("nic").await == one(NIC)
    })
    .await;
    let (error, text) = refusal(&client).await;
    assert_eq!(error, STUCK, "{text}");
    assert!(text.contains("does not come back from reading"), "{text}");
    assert_eq!(kept(run.path())["helper"], first["helper"]);
    tree.release();
    until("it goes on with the function", async || {
        refusal(&client).await.0 == "org.vfiobindd1.Error.NotReady"
    })
    .await;
    daemon.until_logged(1, "is no longer stuck").await;
    assert_eq!(kept(run.path()), Value::Null);
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_that_cannot_be_read_is_told_and_holds_nobody_up() {
    let (bus, tree) = (PrivateBus::start(), host());
    let run = tempfile::tempdir().unwrap();
    fs::write(run.path().join("errands.json"), "{").unwrap();
    let directories = [("RUNTIME_DIRECTORY", run.path())];
    let config = mapping("nic", NIC);
    let daemon = Daemon::start_with(&tree, Some(&config), &bus.address(), &directories);
    daemon.until_logged(1, "errands.json: ").await;
    let client = Client::served(&bus.address()).await;
    until("it is bound", async || {
        client.resolve("nic").await == one(NIC)
    })
    .await;
}
