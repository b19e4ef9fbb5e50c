//! What changes something: who may ask, and what comes back.

use std::process::Output;

use tokio::process::Command;
use vfio_bindd::{
    bus::request::Request,
    engine::{snapshot::Snapshot, target::Target, undo::Unrestored},
};

use crate::{
    client::{Client, soon},
    private_bus::{PrivateBus, is_root},
    service::{Service, bound, snapshot},
};

const NIC: &str = "0000:01:00.0";
/// nobody, who is in no group here.
const NOBODY: &str = "65534";

fn one() -> Snapshot {
    snapshot(1, [("nic", bound(&[NIC]))])
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_is_answered_when_the_daemon_has_done_it() {
    if !is_root("Reload and Rescan reach the daemon") {
        return;
    }
    let bus = PrivateBus::start();
    let mut service = Service::start(&bus.address(), one());
    let client = Client::served(&bus.address()).await;
    let ask = |reload: bool| {
        let client = client.clone();
        tokio::spawn(async move {
            if reload {
                client.reload().await
            } else {
                client.rescan().await
            }
        })
    };

    let reload = ask(true);
    let Request::Reload(answer) = service.request().await else {
        unreachable!("a reload was asked for");
    };
    // Meanwhile others are answered, and nobody is told that it is done.
    assert!(client.resolve("nic").await.is_ok());
    assert!(!reload.is_finished());
    answer.send(Ok(())).unwrap();
    assert_eq!(soon(reload).await.unwrap(), Ok(()));

    let reload = ask(true);
    let Request::Reload(answer) = service.request().await else {
        unreachable!("a reload was asked for");
    };
    let text = "config.toml:3:1: unknown key `expct` in a mapping\n  |\n3 | expct = 2\n";
    answer.send(Err(text.to_owned())).unwrap();
    let invalid = "org.vfiobindd1.Error.InvalidConfig".to_owned();
    let wanted = Err((invalid, text.to_owned()));
    assert_eq!(soon(reload).await.unwrap(), wanted);

    let rescan = ask(false);
    let Request::Rescan(answer) = service.request().await else {
        unreachable!("a rescan was asked for");
    };
    answer.send(Ok(())).unwrap();
    assert_eq!(soon(rescan).await.unwrap(), Ok(()));

    // A daemon that ends answers nothing any more, and its callers hear of it.
    let rescan = ask(false);
    drop(service.request().await);
    let ending = Err((
        "org.vfiobindd1.Error.NotReady".to_owned(),
        "the daemon is ending".to_owned(),
    ));
    assert_eq!(soon(rescan).await.unwrap(), ending);
    service.requests.close();
    assert_eq!(soon(ask(true)).await.unwrap(), ending);
}

#[tokio::test(flavor = "current_thread")]
async fn each_restore_is_what_was_asked_for_and_each_no_has_its_error() {
    if !is_root("Restore reaches the daemon") {
        return;
    }
    let bus = PrivateBus::start();
    let mut service = Service::start(&bus.address(), one());
    let client = Client::served(&bus.address()).await;
    let text = || "0000:01:00.0 is in use".to_owned();
    for (asked, wanted, result, error) in [
        (Some("nic"), Target::Mapping("nic".to_owned()), Ok(()), ""),
        (
            Some(NIC),
            Target::Function(NIC.parse().unwrap()),
            Err(Unrestored::Refused(text())),
            "Refused",
        ),
        (
            Some("01:00.0"),
            Target::Function(NIC.parse().unwrap()),
            Err(Unrestored::Stuck(text())),
            "Stuck",
        ),
        (
            Some(""),
            Target::Mapping(String::new()),
            Err(Unrestored::Unknown(text())),
            "UnknownMapping",
        ),
        (
            None,
            Target::All,
            Err(Unrestored::Failed(text())),
            "NotRestored",
        ),
        (
            None,
            Target::All,
            Err(Unrestored::NothingTaken(text())),
            "NothingTaken",
        ),
        (
            None,
            Target::All,
            Err(Unrestored::NotReady(text())),
            "NotReady",
        ),
    ] {
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.restore(asked).await }
        });
        let Request::Restore(target, answer) = service.request().await else {
            unreachable!("a restore was asked for");
        };
        assert_eq!(target, wanted);
        answer.send(result.clone()).unwrap();
        let error = format!("org.vfiobindd1.Error.{error}");
        let heard = soon(call).await.unwrap();
        assert_eq!(heard, result.map_err(|_| (error, text())));
    }
    let take = tokio::spawn(async move { client.rescan_take().await });
    let Request::RescanTake(answer) = service.request().await else {
        unreachable!("a rescan that takes was asked for");
    };
    answer.send(Ok(())).unwrap();
    assert_eq!(soon(take).await.unwrap(), Ok(()));
}

/// Calls as nobody, by a program of its own.
async fn as_nobody(bus: &PrivateBus, arguments: &[&str]) -> Output {
    let call = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .args(["dbus-send", "--print-reply=literal"])
        .arg(format!("--bus={}", bus.address()))
        .args(arguments)
        .kill_on_drop(true)
        .output();
    soon(call).await.unwrap()
}

/// What only root may call where there is no polkit. dbus-send knows no variants,
/// so that ClaimWith is the lab's to try.
const CHANGES: [(&str, &[&str]); 7] = [
    ("Claim", &["string:nic", "string:vm", "uint32:0"]),
    ("Release", &["string:vm"]),
    ("Reload", &[]),
    ("Rescan", &[]),
    ("RescanTake", &[]),
    ("Restore", &["string:nic"]),
    ("RestoreAll", &[]),
];

const OURS: [&str; 2] = ["--dest=org.vfiobindd1", "/org/vfiobindd1"];

async fn refused(bus: &PrivateBus, arguments: &[&str]) -> String {
    let output = as_nobody(bus, arguments).await;
    assert!(!output.status.success(), "{arguments:?} is for root only");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn everyone_may_read_and_only_root_may_change() {
    if !is_root("others may read and not change") {
        return;
    }
    let bus = PrivateBus::start();
    let mut service = Service::start(&bus.address(), one());
    let client = Client::served(&bus.address()).await;
    let [to, root] = OURS;
    let nic = "string:nic";
    let manager = "string:org.vfiobindd1.Manager";
    for (member, arguments, wanted) in [
        ("org.vfiobindd1.Manager.Resolve", &[nic][..], NIC),
        (
            "org.vfiobindd1.Manager.ResolveWait",
            &[nic, "uint64:1000000"],
            NIC,
        ),
        ("org.vfiobindd1.Manager.Plan", &[], "{}"),
        (
            "org.freedesktop.DBus.Properties.Get",
            &[manager, "string:State"],
            "ready",
        ),
        ("org.freedesktop.DBus.Properties.GetAll", &[manager], NIC),
        (
            "org.freedesktop.DBus.ObjectManager.GetManagedObjects",
            &[],
            "pci_0000_01_00_0",
        ),
        (
            "org.freedesktop.DBus.Introspectable.Introspect",
            &[],
            "ResolveWait",
        ),
        ("org.freedesktop.DBus.Peer.Ping", &[], ""),
    ] {
        let output = as_nobody(&bus, &[&[to, root, member], arguments].concat()).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{member}: {error}");
        assert!(said.contains(wanted), "{member}: {said}");
    }
    for (member, arguments) in CHANGES {
        let member = format!("org.vfiobindd1.Manager.{member}");
        let call = [&[to, root, member.as_str()], arguments].concat();
        let error = refused(&bus, &call).await;
        let denied = "Error org.vfiobindd1.Error.AccessDenied: only root may do this, and whom";
        assert!(error.starts_with(denied), "{error}");
    }
    let name = [
        "--dest=org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus.RequestName",
        "string:org.vfiobindd1",
        "uint32:2",
    ];
    let error = refused(&bus, &name).await;
    assert!(error.contains("AccessDenied"), "{error}");
    // Requests come in order: had one of those come, it would be the first.
    let rescan = tokio::spawn(async move { client.rescan().await });
    let Request::Rescan(answer) = service.request().await else {
        unreachable!("the reload of nobody reached the daemon");
    };
    answer.send(Ok(())).unwrap();
    assert_eq!(soon(rescan).await.unwrap(), Ok(()));
    assert!(service.requests.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn only_root_may_change_even_where_the_policy_file_is_missing() {
    if !is_root("the daemon itself asks who calls") {
        return;
    }
    let bus = PrivateBus::start_without_policy();
    let service = Service::start(&bus.address(), one());
    let _client = Client::served(&bus.address()).await;
    let [to, root] = OURS;
    let member = "org.vfiobindd1.Manager.Resolve";
    let output = as_nobody(&bus, &[to, root, member, "string:nic"]).await;
    assert!(output.status.success(), "nobody reaches the daemon");
    for (member, arguments) in CHANGES {
        let member = format!("org.vfiobindd1.Manager.{member}");
        let call = [&[to, root, member.as_str()], arguments].concat();
        let error = refused(&bus, &call).await;
        let wanted = "Error org.vfiobindd1.Error.AccessDenied: only root may do this, and whom \
                      polkit allows org.vfiobindd1.";
        assert!(error.starts_with(wanted), "{error}");
        let wanted = "the caller's uid is 65534, and polkit does not say: ";
        assert!(error.contains(wanted), "{error}");
    }
    assert!(
        service.requests.is_empty(),
        "a refused request came through"
    );
}
