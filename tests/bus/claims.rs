//! Claims over the bus: who may, what is asked of the daemon, and what comes back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::process::Command;
use vfio_bindd::{
    bus::{
        api::{MANAGER, NAME, ROOT},
        request::{Lasts, Request, Wish},
    },
    engine::{
        claims::{Claim, Lifetime, Share, Unclaimed},
        snapshot::{MappingState, Snapshot},
    },
};
use zbus::{Variant, connection::Builder, interface};

use crate::{
    client::{Client, Refusal, soon},
    private_bus::{PrivateBus, is_root},
    service::{Service, bound, snapshot, view},
    support::at,
};

const NIC: &str = "0000:01:00.0";
const NOBODY: &str = "65534";

fn one() -> Snapshot {
    snapshot(1, [("nic", bound(&[NIC]))])
}

async fn claim_with(
    client: &Client,
    mapping: &str,
    options: &[(&str, Variant<'_>)],
) -> Result<Vec<String>, Refusal> {
    let options: HashMap<&str, &Variant<'_>> =
        options.iter().map(|(name, value)| (*name, value)).collect();
    let body = (mapping, "vm 1", options);
    let reply = client.send((NAME, ROOT, MANAGER), "ClaimWith", &body);
    Ok(reply.await?.body().deserialize().unwrap())
}

/// What the daemon is asked, which answers that.
async fn asked(service: &mut Service, answer: Result<Vec<&str>, Unclaimed>) -> Wish {
    let Request::Claim(wish, claimer) = service.request().await else {
        unreachable!("a claim was asked for");
    };
    let answer = answer.map(|addresses| addresses.into_iter().map(at).collect());
    claimer.send(answer).unwrap();
    *wish
}

#[tokio::test(flavor = "current_thread")]
async fn a_claim_is_what_the_daemon_grants() {
    if !is_root("claims reach the daemon") {
        return;
    }
    let bus = PrivateBus::start();
    let mut service = Service::start(&bus.address(), one());
    let client = Client::served(&bus.address()).await;

    let body = ("nic", "vm 1", 1_u32);
    let call = client.send((NAME, ROOT, MANAGER), "Claim", &body);
    let (reply, wish) = tokio::join!(call, asked(&mut service, Ok(vec![NIC])));
    let got: Vec<String> = reply.unwrap().body().deserialize().unwrap();
    assert_eq!(got, [NIC]);
    assert_eq!(
        (wish.mapping.as_str(), wish.owner.as_str()),
        ("nic", "vm 1")
    );
    assert_eq!((wish.uid, wish.share), (0, Share::Devices(1)));
    assert_eq!(wish.lasts, Lasts::UntilReleased);

    let options = [("caller", true.into()), ("prefer-numa", 1_u32.into())];
    let call = claim_with(&client, "nic", &options);
    let (reply, wish) = tokio::join!(call, asked(&mut service, Ok(vec![NIC])));
    assert_eq!(reply.unwrap(), [NIC]);
    assert_eq!((wish.share, wish.prefer_numa), (Share::All, Some(1)));
    let name = client.0.unique_name().unwrap().to_string();
    let bus_id = client.0.server_guid().to_string();
    assert_eq!(wish.lasts, Lasts::Caller { name, bus: bus_id });

    let text = || "0000:01:00.0 is claimed by 'vm 2'".to_owned();
    for (no, error) in [
        (Unclaimed::NoneFree(text()), "NoneFree"),
        (Unclaimed::Refused(text()), "Refused"),
        (Unclaimed::Unknown(text()), "NotReady"),
    ] {
        let call = claim_with(&client, "nic", &[]);
        let (reply, _) = tokio::join!(call, asked(&mut service, Err(no)));
        assert_eq!(reply, Err((format!("{NAME}.Error.{error}"), text())));
    }

    let call = tokio::spawn({
        let client = client.clone();
        async move {
            let reply = client.send((NAME, ROOT, MANAGER), "Release", &"vm 1");
            reply.await.map(drop)
        }
    });
    let Request::Release {
        owner,
        uid,
        releaser,
    } = service.request().await
    else {
        unreachable!("a release was asked for");
    };
    assert_eq!((owner.as_str(), uid), ("vm 1", 0));
    releaser.send(Ok(())).unwrap();
    assert_eq!(soon(call).await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "current_thread")]
async fn what_cannot_be_claimed_does_not_reach_the_daemon() {
    if !is_root("claims reach the daemon") {
        return;
    }
    let bus = PrivateBus::start();
    let mappings = [
        ("nic", bound(&[NIC])),
        ("not-yet", view(MappingState::Pending, "why", &[])),
    ];
    let service = Service::start(&bus.address(), snapshot(1, mappings));
    let client = Client::served(&bus.address()).await;
    for (mapping, options, error) in [
        ("gpu", vec![], "UnknownMapping"),
        ("not-yet", vec![], "NotReady"),
        ("nic", vec![("number", 1_u32.into())], "InvalidArgument"),
        (
            "nic",
            vec![("addresses", vec!["gpu"].into())],
            "InvalidArgument",
        ),
    ] {
        let (name, text) = claim_with(&client, mapping, &options).await.unwrap_err();
        assert_eq!(name, format!("{NAME}.Error.{error}"), "{text}");
        assert!(!text.is_empty());
    }
    for (member, owner) in [("Claim", ""), ("Claim", "a\nb"), ("Release", " a")] {
        let called = if member == "Claim" {
            let body = ("nic", owner, 0_u32);
            client.send((NAME, ROOT, MANAGER), member, &body).await
        } else {
            client.send((NAME, ROOT, MANAGER), member, &owner).await
        };
        let (name, text) = called.unwrap_err();
        assert_eq!(name, format!("{NAME}.Error.InvalidArgument"), "{text}");
    }
    assert!(service.requests.is_empty());
}

/// As polkit is on the bus; it lets `allowed` be done by everyone.
struct Polkit {
    allowed: &'static str,
}

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    #[allow(clippy::unused_async, reason = "the interface wants it")]
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, zbus::OwnedVariant>),
        action: &str,
        _details: HashMap<String, String>,
        flags: u32,
        _cancellation: &str,
    ) -> ((bool, bool, HashMap<String, String>),) {
        assert_eq!(subject.0, "system-bus-name");
        assert!(subject.1.get("name").unwrap().to_string().contains(":1."));
        assert_eq!(flags, 0, "nobody is there to be asked");
        ((action == self.allowed, false, HashMap::new()),)
    }
}

async fn polkit(bus: &PrivateBus, allowed: &'static str) -> zbus::Connection {
    let path = "/org/freedesktop/PolicyKit1/Authority";
    Builder::address(bus.address().as_str())
        .serve_at(path, Polkit { allowed })
        .name("org.freedesktop.PolicyKit1")
        .build()
        .await
        .unwrap()
}

/// Claims as nobody, by a program of its own.
async fn nobody(bus: &PrivateBus, member: &str, arguments: &[&str]) -> (bool, String) {
    let call = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .args([
            "dbus-send",
            "--print-reply=literal",
            "--dest=org.vfiobindd1",
        ])
        .arg(format!("--bus={}", bus.address()))
        .args([ROOT, &format!("{MANAGER}.{member}")])
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = soon(call).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "current_thread")]
async fn whom_polkit_allows_may_claim_and_nothing_else() {
    if !is_root("polkit is asked about others") {
        return;
    }
    // Whoever may own polkit's name on the system bus is polkit's matter.
    let bus = PrivateBus::start_without_policy();
    let mut service = Service::start(&bus.address(), one());
    let _client = Client::served(&bus.address()).await;
    let polkit = polkit(&bus, "org.vfiobindd1.claim").await;
    let claim = ["string:nic", "string:vm", "uint32:1"];
    let call = nobody(&bus, "Claim", &claim);
    let ((granted, said), wish) = tokio::join!(call, asked(&mut service, Ok(vec![NIC])));
    assert!(granted && said.contains(NIC), "{said}");
    assert_eq!(wish.uid, 65534);
    let (done, said) = nobody(&bus, "Reload", &[]).await;
    assert!(
        !done && said.contains("the caller's uid is 65534"),
        "{said}"
    );
    assert!(said.contains("org.vfiobindd1.manage"), "{said}");
    assert!(service.requests.is_empty());
    drop(polkit);
    let (done, said) = nobody(&bus, "Claim", &claim).await;
    assert!(!done && said.contains("polkit does not say"), "{said}");
}

#[tokio::test(flavor = "current_thread")]
async fn claims_are_published_and_those_of_callers_who_left_end() {
    let bus = PrivateBus::start();
    let caller = Client::new(&bus.address()).await;
    let gone = Client::new(&bus.address()).await;
    let bus_id = caller.0.server_guid().to_string();
    let name = |client: &Client| client.0.unique_name().unwrap().to_string();
    let tied = |name: &str, bus: &str| Claim {
        mapping: "nic".to_owned(),
        owner: name.to_owned(),
        uid: 0,
        addresses: BTreeSet::from([at(NIC)]),
        lifetime: Lifetime::Caller {
            name: name.to_owned(),
            bus: bus.to_owned(),
        },
        serial: 1,
    };
    let mut claimed = one();
    let left = name(&gone);
    claimed.claims = vec![
        tied(&name(&caller), &bus_id),
        tied(&left, &bus_id),
        tied(":1.1", "another bus"),
    ];
    let claims = BTreeMap::from([(at(NIC), "vm 1".to_owned())]);
    claimed.mappings.get_mut("nic").unwrap().claims = claims;
    gone.0.close().await.unwrap();
    let mut service = Service::start(&bus.address(), claimed);
    let client = Client::served(&bus.address()).await;
    let objects = client.objects().await;
    let mapping = &objects["/mapping/nic"]["org.vfiobindd1.Mapping"];
    assert!(mapping["Claims"].contains("vm 1"), "{mapping:?}");
    let Request::CallersLeft { bus, names } = service.request().await else {
        unreachable!("a caller left");
    };
    assert_eq!((bus, names), (bus_id, BTreeSet::from([left])));
    // Once is enough.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(service.requests.is_empty());
}
