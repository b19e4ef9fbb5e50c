//! What Resolve and ResolveWait answer, and when.

use vfio_bindd::engine::snapshot::{DaemonState, MappingState, Snapshot};

use crate::{
    client::{Client, FOR_EVER, soon, until},
    private_bus::PrivateBus,
    service::{Service, bound, pending, snapshot, view},
};

const GPU: [&str; 2] = ["0000:3b:00.0", "0000:3b:00.1"];

async fn serve(snapshot: Snapshot) -> (PrivateBus, Service, Client) {
    let bus = PrivateBus::start();
    let service = Service::start(&bus.address(), snapshot);
    let client = Client::served(&bus.address()).await;
    (bus, service, client)
}

fn no(name: &str, text: &str) -> Result<Vec<String>, (String, String)> {
    let name = format!("org.vfiobindd1.Error.{name}");
    Err((name, text.to_owned()))
}

fn yes() -> Result<Vec<String>, (String, String)> {
    Ok(GPU.map(str::to_owned).into())
}

/// How many calls wait in the service: each follows the snapshots.
async fn until_waiting(service: &Service, before: usize, calls: usize) {
    until("the calls wait in the service", async || {
        service.snapshots.receiver_count() == before + calls
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn each_state_has_its_answer_and_each_no_names_the_mapping() {
    let states = [
        ("gpu", bound(&GPU)),
        (
            "pending",
            view(
                MappingState::Pending,
                "1 of 2 functions are not bound yet",
                &[],
            ),
        ),
        (
            "absent",
            view(MappingState::Absent, "0 of at least 1 match", &[]),
        ),
        (
            "refused",
            view(
                MappingState::Refused,
                "0000:01:00.0 nvme0n1p2 is mounted on /var",
                &[],
            ),
        ),
        (
            "stuck",
            view(
                MappingState::Stuck,
                "0000:02:00.0 does not come back",
                &["0000:02:00.0"],
            ),
        ),
        ("failed", view(MappingState::Failed, "", &[])),
        (
            "back",
            view(
                MappingState::Released,
                "the host has 0000:04:00.0 back",
                &[],
            ),
        ),
    ];
    let (_bus, service, client) = serve(snapshot(1, states)).await;
    assert_eq!(client.resolve("gpu").await, yes());
    for (name, error, text) in [
        (
            "pending",
            "NotReady",
            "mapping 'pending' is pending: 1 of 2 functions are not bound yet",
        ),
        (
            "absent",
            "NotReady",
            "mapping 'absent' is absent: 0 of at least 1 match",
        ),
        (
            "refused",
            "Refused",
            "mapping 'refused' is refused: 0000:01:00.0 nvme0n1p2 is mounted on /var",
        ),
        (
            "stuck",
            "Stuck",
            "mapping 'stuck' is stuck: 0000:02:00.0 does not come back",
        ),
        ("failed", "NotReady", "mapping 'failed' is failed"),
        (
            "back",
            "NotReady",
            "mapping 'back' is released: the host has 0000:04:00.0 back",
        ),
        (
            "gpus",
            "UnknownMapping",
            "no mapping is named 'gpus'; there are: absent, back, failed, gpu, pending, refused, stuck",
        ),
    ] {
        assert_eq!(client.resolve(name).await, no(error, text), "{name}");
    }
    service.publish(snapshot(2, []));
    let none = no(
        "UnknownMapping",
        "no mapping is named 'gpu'; none is configured",
    );
    assert_eq!(client.resolve("gpu").await, none);
}

#[tokio::test(flavor = "current_thread")]
async fn before_the_first_pass_and_without_a_config_there_is_an_answer_too() {
    let (_bus, service, client) = serve(Snapshot::starting()).await;
    let starting = no(
        "NotReady",
        "mapping 'gpu' is not known yet: the first pass is not over",
    );
    assert_eq!(client.resolve("gpu").await, starting);
    service.publish(Snapshot {
        generation: 1,
        state: DaemonState::Failed,
        reason: "config.toml:3:1: unknown key `expct`".to_owned(),
        ..Snapshot::starting()
    });
    let failed = no(
        "InvalidConfig",
        "mapping 'gpu' is not bound: the config is not valid: \
         config.toml:3:1: unknown key `expct`",
    );
    assert_eq!(client.resolve("gpu").await, failed);
    assert_eq!(client.resolve_wait("gpu", FOR_EVER).await, failed);
}

#[tokio::test(flavor = "current_thread")]
async fn a_wait_ends_when_the_mapping_is_bound_and_not_before() {
    let (_bus, service, client) = serve(Snapshot::starting()).await;
    let before = service.snapshots.receiver_count();
    let wait = tokio::spawn({
        let client = client.clone();
        async move { client.resolve_wait("gpu", FOR_EVER).await }
    });
    until_waiting(&service, before, 1).await;
    for (generation, state) in [
        (1, MappingState::Absent),
        (2, MappingState::Pending),
        (3, MappingState::Failed),
    ] {
        service.publish(snapshot(generation, [("gpu", view(state, "", &GPU))]));
        // Whatever waits has seen it once this is answered.
        let text = format!("mapping 'gpu' is {state}");
        assert_eq!(client.resolve("gpu").await, no("NotReady", &text));
        assert!(!wait.is_finished(), "{state} is not the end");
    }
    service.publish(snapshot(4, [("gpu", bound(&GPU))]));
    assert_eq!(soon(wait).await.unwrap(), yes());
}

#[tokio::test(flavor = "current_thread")]
async fn a_wait_does_not_wait_for_what_cannot_come() {
    let (_bus, service, client) = serve(snapshot(
        1,
        [
            ("gpu", bound(&GPU)),
            ("late", pending(&[])),
            ("refused", view(MappingState::Refused, "no", &[])),
            ("stuck", view(MappingState::Stuck, "", &[])),
            ("back", view(MappingState::Released, "", &[])),
        ],
    ))
    .await;
    assert_eq!(client.resolve_wait("gpu", FOR_EVER).await, yes());
    assert_eq!(client.resolve_wait("gpu", 0).await, yes());
    for (name, error, text) in [
        ("refused", "Refused", "mapping 'refused' is refused: no"),
        ("stuck", "Stuck", "mapping 'stuck' is stuck"),
        ("back", "NotReady", "mapping 'back' is released"),
        (
            "gpus",
            "UnknownMapping",
            "no mapping is named 'gpus'; there are: back, gpu, late, refused, stuck",
        ),
    ] {
        let answer = client.resolve_wait(name, FOR_EVER).await;
        assert_eq!(answer, no(error, text), "{name}");
    }
    let late = no("Timeout", "mapping 'late' is pending: is not bound yet");
    assert_eq!(client.resolve_wait("late", 0).await, late);
    assert_eq!(client.resolve_wait("late", 50_000).await, late);
    // And what is said no to while somebody waits ends the wait.
    let before = service.snapshots.receiver_count();
    let wait = tokio::spawn({
        let client = client.clone();
        async move { client.resolve_wait("late", FOR_EVER).await }
    });
    until_waiting(&service, before, 1).await;
    let refused = view(MappingState::Refused, "its disk is mounted", &[]);
    service.publish(snapshot(2, [("late", refused)]));
    let text = "mapping 'late' is refused: its disk is mounted";
    assert_eq!(soon(wait).await.unwrap(), no("Refused", text));
}

#[tokio::test(flavor = "current_thread")]
async fn many_waits_hold_nobody_up() {
    const WAITS: usize = 50;
    let late = snapshot(1, [("gpu", pending(&GPU)), ("nic", bound(&[]))]);
    let (bus, service, client) = serve(late).await;
    let before = service.snapshots.receiver_count();
    let waits: Vec<_> = (0..WAITS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.resolve_wait("gpu", FOR_EVER).await })
        })
        .collect();
    until_waiting(&service, before, WAITS).await;
    // The same caller and another one.
    for other in [client.clone(), Client::new(&bus.address()).await] {
        assert_eq!(other.resolve("nic").await, Ok(Vec::new()));
        assert_eq!(other.manager("State").await, "degraded");
        assert_eq!(other.objects().await.len(), 4);
        assert!(other.introspect("/org/vfiobindd1").await.contains("Plan"));
    }
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    service.publish(snapshot(2, [("gpu", bound(&GPU))]));
    for wait in waits {
        assert_eq!(soon(wait).await.unwrap(), yes());
    }
    until_waiting(&service, before, 0).await;
}
