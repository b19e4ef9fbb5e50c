//! The socket of hooks: what is asked there, and by whom.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use vfio_bindd::{
    bus::request::{Lasts, Request},
    engine::{
        claims::{Share, Unclaimed},
        snapshot::{MappingState, Snapshot},
    },
};

use crate::{
    client::soon,
    private_bus::is_root,
    service::{Service, bound, pending, snapshot, socket, view},
    support::at,
};

const A: &str = "0000:01:00.0";
const B: &str = "0000:01:00.1";

fn some() -> Snapshot {
    let refused = view(MappingState::Refused, "0000:02:00.0 is in use", &[]);
    let mut snapshot = snapshot(
        7,
        [
            ("gpu", bound(&[A, B])),
            ("late", pending(&[])),
            ("disk", refused),
        ],
    );
    let gpu = snapshot.mappings.get_mut("gpu").unwrap();
    gpu.proxmox = Some("gpu0".to_owned());
    gpu.claims.insert(at(A), "vm \"1\"".to_owned());
    snapshot
}

fn served() -> (TempDir, Service) {
    let root = tempfile::tempdir().unwrap();
    let service = Service::on_socket(root.path(), some());
    (root, service)
}

/// Writes that, and reads whatever comes until the connection is closed or an answer
/// has come.
async fn exchange(root: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket(root)).await.unwrap();
    // Whoever says too much is not heard to the end.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let mut byte = [0];
    while let Ok(1) = soon(stream.read(&mut byte)).await {
        if byte == [0] {
            break;
        }
        answer.push(byte[0]);
    }
    answer
}

async fn call(root: &Path, method: &str, parameters: Value) -> Value {
    let call = json!({ "method": method, "parameters": parameters });
    let mut text = call.to_string().into_bytes();
    text.push(0);
    serde_json::from_slice(&exchange(root, &text).await).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_hook_asks_is_answered() {
    let (root, _service) = served();
    let root = root.path();
    let resolve = async |name: &str| {
        let parameters = json!({ "mapping": name });
        call(root, "org.vfiobindd1.Resolve", parameters).await
    };
    assert_eq!(
        resolve("gpu").await,
        json!({ "parameters": { "addresses": [A, B] } })
    );
    for (name, error, words) in [
        ("late", "NotReady", "mapping 'late' is pending"),
        ("disk", "Refused", "0000:02:00.0 is in use"),
        ("nic", "UnknownMapping", "no mapping is named 'nic'"),
    ] {
        let answer = resolve(name).await;
        assert_eq!(answer["error"], format!("org.vfiobindd1.{error}"));
        let reason = answer["parameters"]["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{reason}");
    }
    let status = call(root, "org.vfiobindd1.Status", json!({})).await;
    let status = &status["parameters"];
    assert_eq!(
        (&status["state"], &status["generation"]),
        (&json!("degraded"), &json!(7))
    );
    assert_eq!(
        status["mappings"]["gpu"],
        json!({
            "state": "bound",
            "reason": "",
            "addresses": [A, B],
            "beside": [],
            "claims": { A: "vm \"1\"" },
            "proxmox": "gpu0",
        })
    );
    assert!(status["mappings"]["disk"].get("proxmox").is_none());
}

#[tokio::test(flavor = "current_thread")]
async fn it_can_be_introspected() {
    let (root, _service) = served();
    let root = root.path();
    let info = call(root, "org.varlink.service.GetInfo", Value::Null).await;
    assert_eq!(
        info["parameters"]["interfaces"],
        json!(["org.varlink.service", "org.vfiobindd1"])
    );
    let asked = json!({ "interface": "org.vfiobindd1" });
    let answer = call(root, "org.varlink.service.GetInterfaceDescription", asked).await;
    let text = answer["parameters"]["description"].as_str().unwrap();
    for method in ["Resolve", "Status", "Claim", "Release"] {
        assert!(text.contains(&format!("\nmethod {method}(")), "{method}");
        let unknown = format!("org.vfiobindd1.{method}d");
        let answer = call(root, &unknown, json!({})).await;
        assert_eq!(answer["error"], "org.varlink.service.MethodNotFound");
        assert_eq!(answer["parameters"]["method"], unknown);
    }
    let answer = call(root, "org.example.Resolve", json!({})).await;
    assert_eq!(answer["error"], "org.varlink.service.InterfaceNotFound");
    assert_eq!(answer["parameters"]["interface"], "org.example");
}

#[tokio::test(flavor = "current_thread")]
async fn root_claims_and_releases() {
    if !is_root("others may not claim here") {
        return;
    }
    let (root, mut service) = served();
    let root = root.path();
    let claim = json!({ "mapping": "gpu", "owner": "pve-100", "addresses": [A], "pid": 4711 });
    let answer = async |service: &mut Service, answer| {
        let Request::Claim(wish, claimer) = service.request().await else {
            unreachable!("a claim was asked for");
        };
        claimer.send(answer).unwrap();
        wish
    };
    let granted = Ok(vec![at(A), at(B)]);
    let (said, wish) = tokio::join!(
        call(root, "org.vfiobindd1.Claim", claim.clone()),
        answer(&mut service, granted)
    );
    assert_eq!(said["parameters"]["addresses"], json!([A, B]));
    assert_eq!((wish.uid, wish.owner.as_str()), (0, "pve-100"));
    assert_eq!(wish.share, Share::These(std::iter::once(at(A)).collect()));
    assert_eq!(wish.lasts, Lasts::Process(4711));
    let (said, _) = tokio::join!(
        call(root, "org.vfiobindd1.Claim", claim),
        answer(&mut service, Err(Unclaimed::NoneFree("taken".to_owned())))
    );
    assert_eq!(said["error"], "org.vfiobindd1.NoneFree");
    assert_eq!(said["parameters"]["reason"], "taken");
    let release = async {
        let Request::Release {
            owner,
            uid,
            releaser,
        } = service.request().await
        else {
            unreachable!("a release was asked for");
        };
        releaser.send(Ok(())).unwrap();
        (owner, uid)
    };
    let owner = json!({ "owner": "pve-100" });
    let (said, released) = tokio::join!(call(root, "org.vfiobindd1.Release", owner), release);
    assert_eq!(said, json!({ "parameters": {} }));
    assert_eq!(released, ("pve-100".to_owned(), 0));
    for (wrong, words) in [
        (json!({}), "missing field `mapping`"),
        (json!({ "mapping": 7, "owner": "a" }), "invalid type"),
        (
            json!({ "mapping": "gpu", "owner": "a\nb" }),
            "control characters",
        ),
        (
            json!({ "mapping": "gpu", "owner": "a", "many": 2 }),
            "unknown field `many`",
        ),
        (
            json!({ "mapping": "gpu", "owner": "a", "addresses": ["1f.0x"] }),
            "1f.0x",
        ),
        (
            json!({ "mapping": "gpu", "owner": "a", "pid": 1, "ttlUsec": 1 }),
            "pid and ttlUsec exclude one another",
        ),
    ] {
        let said = call(root, "org.vfiobindd1.Claim", wrong.clone()).await;
        assert_eq!(said["error"], "org.vfiobindd1.InvalidArgument", "{wrong}");
        let reason = said["parameters"]["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{reason}");
    }
    assert!(service.requests.is_empty());
}

/// Neither an answer nor harm: the connection is closed, and others are served.
#[tokio::test(flavor = "current_thread")]
async fn what_is_no_call_is_not_answered() {
    let (root, _service) = served();
    let root = root.path();
    let long = vec![b' '; 70_000];
    for bytes in [
        &b"{\0"[..],
        b"\0",
        b"[]\0",
        b"\xff\xfe\0",
        b"GET / HTTP/1.1\0",
        &long,
    ] {
        assert_eq!(exchange(root, bytes).await, b"");
    }
    // Many who say nothing keep nobody from being heard.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(UnixStream::connect(socket(root)).await.unwrap());
    }
    let asked = json!({ "mapping": "gpu" });
    let answer = call(root, "org.vfiobindd1.Resolve", asked).await;
    assert_eq!(answer["parameters"]["addresses"], json!([A, B]));
}
