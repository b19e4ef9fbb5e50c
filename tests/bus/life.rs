//! The bus comes late, dies, comes back; and there can be only one of us.

use crate::{
    client::{Client, FOR_EVER, soon, until},
    private_bus::PrivateBus,
    service::{Service, bound, pending, snapshot},
};

const ONE: [&str; 1] = ["0000:01:00.0"];
const TWO: [&str; 1] = ["0000:02:00.0"];

async fn is_answered(client: &Client, wanted: &[&str]) -> bool {
    client.resolve("nic").await.is_ok_and(|one| one == wanted)
}

#[tokio::test(flavor = "current_thread")]
async fn a_bus_that_comes_late_is_served() {
    let mut bus = PrivateBus::prepare();
    let service = Service::start(&bus.address(), snapshot(1, [("nic", bound(&ONE))]));
    // No bus holds the daemon up: it goes on, and is published as it is then.
    service.publish(snapshot(2, [("nic", bound(&TWO))]));
    tokio::task::yield_now().await;
    bus.up();
    let client = Client::served(&bus.address()).await;
    assert!(is_answered(&client, &TWO).await);
    service.end().await;
    until("the name is free again", async || {
        client.owner().await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_bus_that_dies_and_comes_back_is_served_again() {
    let full = |generation| {
        let mappings = [
            ("late", pending(&[])),
            ("new", bound(&ONE)),
            ("nic", bound(&TWO)),
        ];
        snapshot(generation, mappings)
    };
    let mut bus = PrivateBus::start();
    let service = Service::start(&bus.address(), full(1));
    let client = Client::served(&bus.address()).await;
    let before = service.snapshots.receiver_count();
    let wait = tokio::spawn(async move { client.resolve_wait("late", FOR_EVER).await });
    until("the call waits in the service", async || {
        service.snapshots.receiver_count() == before + 1
    })
    .await;
    for (generation, changed_meanwhile) in [(2, false), (4, true)] {
        bus.down();
        if changed_meanwhile {
            service.publish(full(generation));
        }
        bus.up();
        let client = Client::served(&bus.address()).await;
        assert!(is_answered(&client, &TWO).await);
        let objects = client.objects().await;
        let paths: Vec<_> = objects.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/function/pci_0000_01_00_0",
                "/function/pci_0000_02_00_0",
                "/mapping/late",
                "/mapping/new",
                "/mapping/nic",
            ]
        );
        // Changes are told again, too.
        let mut signals = client.signals().await;
        service.publish(snapshot(generation + 1, [("nic", bound(&TWO))]));
        let last = format!("Changed {}", generation + 1);
        let said = signals.through(&last).await;
        assert!(said.contains(&"MappingChanged new absent []".to_owned()));
    }
    // Whoever waited on the dead bus is told by it, and nothing of that stays.
    assert!(soon(wait).await.unwrap().is_err());
    until("nobody waits any more", async || {
        service.snapshots.receiver_count() == before
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_daemon_steals_nothing_and_takes_over_when_the_first_ends() {
    let bus = PrivateBus::start();
    let watcher = Client::new(&bus.address()).await;
    let first = Service::start(&bus.address(), snapshot(1, [("nic", bound(&ONE))]));
    let client = Client::served(&bus.address()).await;
    let owner = client.owner().await;
    let mut comings = watcher.comings().await;
    let second = Service::start(&bus.address(), snapshot(1, [("nic", bound(&TWO))]));
    // It comes, is told that the name is taken, and goes; and tries again.
    let mut tries = 0;
    while tries < 2 {
        let line = comings.next().await;
        assert!(!line.contains("changes hands"), "{line}");
        assert!(!line.starts_with("org.vfiobindd1 "), "{line}");
        tries += usize::from(line.ends_with(" goes"));
        assert!(is_answered(&client, &ONE).await);
    }
    assert_eq!(client.owner().await, owner);
    first.publish(snapshot(2, [("nic", pending(&ONE))]));
    let (error, _) = client.resolve("nic").await.unwrap_err();
    assert_eq!(error, "org.vfiobindd1.Error.NotReady", "the first goes on");
    first.end().await;
    until("the second answers", async || {
        is_answered(&client, &TWO).await
    })
    .await;
    drop(second);
}

#[tokio::test(flavor = "current_thread")]
async fn a_caller_that_goes_takes_its_wait_along() {
    let bus = PrivateBus::start();
    let service = Service::start(&bus.address(), snapshot(1, [("nic", pending(&ONE))]));
    let stays = Client::served(&bus.address()).await;
    let goes = Client::new(&bus.address()).await;
    let before = service.snapshots.receiver_count();
    let waits: Vec<_> = [&stays, &goes]
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move { client.resolve_wait("nic", FOR_EVER).await })
        })
        .into();
    let waiting = async |count: usize| {
        until("so many calls wait in the service", async || {
            service.snapshots.receiver_count() == before + count
        })
        .await;
    };
    waiting(2).await;
    // Anyone may wait for ever: what is left behind must not pile up.
    goes.0.close().await.unwrap();
    waiting(1).await;
    service.publish(snapshot(2, [("nic", bound(&ONE))]));
    waiting(0).await;
    for (wait, served) in waits.into_iter().zip([true, false]) {
        assert_eq!(soon(wait).await.unwrap().is_ok(), served);
    }
}
