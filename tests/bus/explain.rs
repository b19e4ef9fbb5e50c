//! Explain and drift, from the bus layer by itself and from the whole daemon,
//! and what vfio-bindctl makes of them.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use vfio_bindd::{
    engine::snapshot::{Basis, DaemonState, MappingState, Snapshot},
    policy::{drift::Drift, plan::plan, resolve::Held},
};

use crate::{
    client::{Client, Refusal},
    ctl::ctl,
    private_bus::PrivateBus,
    program::{Daemon, NIC, OTHER, host, mapping, settled},
    service::{Service, bound, snapshot},
    support::{self, FunctionExt as _, at, by_address, inventory, nic},
    tree::Tree,
};

fn no(name: &str, text: &str) -> Result<Value, Refusal> {
    Err((format!("org.vfiobindd1.Error.{name}"), text.to_owned()))
}

/// A snapshot of one mapping with what it was made of.
fn explained() -> Snapshot {
    let address = "0000:01:00.0";
    let policy = support::policy([("nic", support::mapping(vec![by_address("01:00.0")]))]);
    let inventory = inventory([nic(address).driver("vfio-pci"), nic("0000:02:00.0")]);
    Snapshot {
        plan: plan(&inventory, &policy, &Held::new()),
        basis: Some(Basis {
            inventory,
            policy: Arc::new(policy),
        }),
        ..snapshot(1, [("nic", bound(&[address]))])
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_explanation_has_the_live_state_and_each_no_its_error() {
    let bus = PrivateBus::start();
    let service = Service::start(&bus.address(), explained());
    let client = Client::served(&bus.address()).await;
    let told = client.explain("nic").await.unwrap();
    let live = json!({ "state": "bound", "reason": "" });
    assert_eq!(told["mapping"]["live"], live);
    assert_eq!(told["mapping"]["candidates"][0]["standing"], "chosen");
    // A short address will do.
    let told = client.explain("01:00.0").await.unwrap();
    assert_eq!(told["function"]["live"], live);
    assert_eq!(told["function"]["mappings"]["nic"]["relation"], "matched");
    let told = client.explain("0000:02:00.0").await.unwrap();
    let nobody = json!({ "state": null, "reason": "" });
    assert_eq!(told["function"]["live"], nobody);
    for (target, name, text) in [
        (
            "gpu",
            "UnknownMapping",
            "no mapping is named 'gpu'; there are: nic",
        ),
        (
            "",
            "UnknownMapping",
            "no mapping is named ''; there are: nic",
        ),
        (
            "0f:00.0",
            "UnknownFunction",
            "no PCI function is at 0000:0f:00.0",
        ),
        (
            "0f:00",
            "UnknownFunction",
            "'0f:00' is not a PCI address: expected domain:bus:device.function in hex, like \
             0000:3b:00.0",
        ),
    ] {
        assert_eq!(client.explain(target).await, no(name, text), "{target}");
    }
    service.publish(Snapshot::starting());
    let early = no(
        "NotReady",
        "nothing is known yet: the first pass is not over",
    );
    assert_eq!(client.explain("nic").await, early);
    service.publish(Snapshot {
        state: DaemonState::Failed,
        reason: "config.toml:3:1: unknown key `expct`".to_owned(),
        ..Snapshot::starting()
    });
    let text = "the config is not valid: config.toml:3:1: unknown key `expct`";
    assert_eq!(client.explain("nic").await, no("InvalidConfig", text));
}

#[tokio::test(flavor = "current_thread")]
async fn a_stuck_function_is_explained_as_such() {
    let mut stuck = explained();
    let view = stuck.mappings.get_mut("nic").unwrap();
    view.state = MappingState::Stuck;
    view.reason = "0000:01:00.0 does not come back from binding vfio-pci".to_owned();
    let bus = PrivateBus::start();
    let _service = Service::start(&bus.address(), stuck);
    let client = Client::served(&bus.address()).await;
    let told = client.explain("nic").await.unwrap();
    let reason = "0000:01:00.0 does not come back from binding vfio-pci";
    let live = json!({ "state": "stuck", "reason": reason });
    assert_eq!(told["mapping"]["live"], live);
}

#[tokio::test(flavor = "current_thread")]
async fn a_drift_is_signalled_once() {
    let bus = PrivateBus::start();
    let service = Service::start(&bus.address(), explained());
    let client = Client::served(&bus.address()).await;
    let mut signals = client.signals().await;
    let drift = |text: &str| Drift {
        mapping: "nic".to_owned(),
        address: at("0000:01:00.0"),
        text: text.to_owned(),
    };
    let mut next = explained();
    next.generation = 2;
    next.drift = vec![drift("nic moved")];
    service.publish(next.clone());
    let said = signals.through("Changed 2").await;
    assert_eq!(
        said,
        [
            "PropertiesChanged Generation=uint64 2",
            "PropertiesChanged Drift=[\"nic moved\"]",
            "Drifted nic: nic moved",
            "Changed 2",
        ]
    );
    next.generation = 3;
    next.drift.push(drift("nic is gone"));
    service.publish(next);
    let said = signals.through("Changed 3").await;
    let told: Vec<_> = said
        .iter()
        .filter(|line| line.starts_with("Drifted"))
        .collect();
    assert_eq!(told, ["Drifted nic: nic is gone"]);
}

fn file(state: &Path, boot_id: &str, id: &str) {
    let entry = json!({
        "address": "0000:00:09.0", "id": id, "subsystem": "8086:0000", "class": "020000",
        "serial": null, "path": "0000:00:02.0", "slot": null,
    });
    let kept = json!({
        "vfio-bindd-last-map": 1, "boot_id": boot_id, "told": false,
        "mappings": { "nic": [entry] }, "previous": {},
    });
    fs::write(state.join("last-map.json"), kept.to_string()).unwrap();
}

async fn drift(tree: &Tree, state: &Path) -> (Daemon, PrivateBus) {
    let bus = PrivateBus::start();
    let variables = [("STATE_DIRECTORY", state)];
    let config = mapping("nic", NIC);
    let daemon = Daemon::start_with(tree, Some(&config), &bus.address(), &variables);
    settled(&bus.address()).await;
    (daemon, bus)
}

#[tokio::test(flavor = "current_thread")]
async fn a_map_of_a_former_boot_is_compared_and_shown() {
    let (tree, state) = (host(), tempfile::tempdir().unwrap());
    file(state.path(), "another boot", "8086:10d3");
    let (daemon, bus) = drift(&tree, state.path()).await;
    let moved = format!("nic moved from 0000:00:09.0 to {NIC} (same path)");
    daemon
        .until_logged(1, &format!("since the last boot: {moved}"))
        .await;
    let (code, out, err) = ctl(&bus.address(), &["status"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains(&format!("since the last boot: {moved}\n")),
        "{out}"
    );
    let (_, out, _) = ctl(&bus.address(), &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["drift"], json!([moved]));
    // A dry run keeps nothing: the next start may be a real one.
    let kept = fs::read_to_string(state.path().join("last-map.json")).unwrap();
    assert!(kept.contains("another boot"), "{kept}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_map_that_cannot_be_read_is_named_and_put_aside() {
    let (tree, state) = (host(), tempfile::tempdir().unwrap());
    fs::write(state.path().join("last-map.json"), "{ \"vfio").unwrap();
    let (daemon, bus) = drift(&tree, state.path()).await;
    daemon
        .until_logged(1, "last-map.json cannot be understood: ")
        .await;
    daemon.until_logged(1, "last-map.json.bad").await;
    let aside = fs::read_to_string(state.path().join("last-map.json.bad")).unwrap();
    assert_eq!(aside, "{ \"vfio");
    let (_, out, _) = ctl(&bus.address(), &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["drift"], json!([]));
}

#[tokio::test(flavor = "current_thread")]
async fn the_client_asks_the_daemon_and_does_without_it() {
    let (bus, tree) = (PrivateBus::start(), host());
    let config = mapping("nic", NIC) + &mapping("other", OTHER);
    let daemon = Daemon::start(&tree, Some(&config), &bus.address());
    settled(&bus.address()).await;
    let address = bus.address();
    let (code, out, err) = ctl(&address, &["explain", "00:03.0"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("the daemon says: pending: is not bound yet\n"),
        "{out}"
    );
    assert!(
        out.contains("other: matched by address=0000:00:03.0; chosen\n"),
        "{out}"
    );
    // It was bound when the daemon started, and was not looked at since.
    let (_, out, _) = ctl(&address, &["explain", NIC]).await;
    assert!(
        out.contains("vfio-pci, not inspected: it was bound before\n"),
        "{out}"
    );
    let (code, out, err) = ctl(&address, &["explain", "nic", "--json"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["mapping"]["live"]["state"], "bound");
    for (target, wanted, word) in [
        ("gpu", 4, "no mapping is named 'gpu'; there are: nic, other"),
        ("0f:00.0", 1, "no PCI function is at 0000:0f:00.0"),
        ("0f:00", 2, "is not a PCI address"),
    ] {
        let (code, out, err) = ctl(&address, &["explain", target]).await;
        assert_eq!((code, out.as_str()), (wanted, ""), "{target}: {err}");
        assert!(err.contains(word), "{target}: {err}");
    }
    // Where the daemon has another config or host, it is not asked.
    let own = daemon.config();
    let (own, root) = (own.to_str().unwrap(), tree.root().to_str().unwrap());
    let look = ["--config", own, "--sysfs-root", root];
    for (target, with) in [(OTHER, 0), ("other", 0), ("0f:00.0", 1), ("gpu", 4)] {
        let offline = [&look[..], &["explain", target, "--json"]].concat();
        let (code, out, err) = ctl(&address, &offline).await;
        assert_eq!(code, with, "{err}");
        if code != 0 {
            continue;
        }
        let mut by_daemon = client_json(&address, target).await;
        let kind = if target == OTHER {
            "function"
        } else {
            "mapping"
        };
        by_daemon[kind]["live"] = Value::Null;
        let by_look: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(by_look, by_daemon, "{target}");
    }
}

async fn client_json(address: &str, target: &str) -> Value {
    Client::new(address).await.explain(target).await.unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn without_a_daemon_the_client_says_so_and_looks_itself() {
    let bus = PrivateBus::start();
    for address in [bus.address(), "unix:path=/nowhere".to_owned()] {
        // Of the machine that runs the test, which may have no PCI.
        let (code, out, err) = ctl(&address, &["explain", "no-such-mapping"]).await;
        assert!(code != 0 && out.is_empty(), "{err}");
        assert!(err.contains("this is by the config on disk"), "{err}");
        let (_, _, err) = ctl(&address, &["explain", "no-such-mapping", "--offline"]).await;
        assert!(!err.contains("this is by the config"), "{err}");
    }
    // A daemon that is there and does not answer costs no more than seconds.
    let client = Client::new(&bus.address()).await;
    client
        .0
        .request_name(vfio_bindd::bus::api::NAME)
        .await
        .unwrap();
    let start = std::time::Instant::now();
    let (code, _, err) = ctl(&bus.address(), &["explain", "no-such-mapping"]).await;
    assert!(code != 0 && err.contains("this is by the config"), "{err}");
    assert!(start.elapsed() < std::time::Duration::from_secs(15));
}
