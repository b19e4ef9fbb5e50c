//! The bus layer by itself: the test is the daemon's loop.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use vfio_bindd::{
    bus::{
        publish,
        request::{Request, Wish},
        varlink::{self, message::INTERFACE},
    },
    engine::{
        claims::Unclaimed,
        snapshot::{
            DaemonState, FunctionState, FunctionView, MappingState, MappingView, PfState, PfView,
            Snapshot,
        },
    },
    pci::address::Address,
};

use crate::{
    client::soon,
    support::{FunctionExt as _, at, nic},
};

pub(crate) struct Service {
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) requests: mpsc::Receiver<Request>,
    task: JoinHandle<()>,
}

impl Service {
    /// Serves on the bus at `address`, which need not be there.
    pub(crate) fn start(address: &str, snapshot: Snapshot) -> Self {
        let (snapshots, followed) = watch::channel(Arc::new(snapshot));
        let (sender, requests) = mpsc::channel(16);
        let task = tokio::spawn(publish::run(Some(address.to_owned()), followed, sender));
        Self {
            snapshots,
            requests,
            task,
        }
    }

    /// Answers at the socket below `root`, without a bus.
    pub(crate) fn on_socket(root: &Path, snapshot: Snapshot) -> Self {
        let (snapshots, followed) = watch::channel(Arc::new(snapshot));
        let (sender, requests) = mpsc::channel(16);
        let listener = UnixListener::from_std(listener(root)).unwrap();
        let task = tokio::spawn(varlink::serve(listener, followed, sender));
        Self {
            snapshots,
            requests,
            task,
        }
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    pub(crate) async fn request(&mut self) -> Request {
        soon(self.requests.recv()).await.unwrap()
    }

    /// Ends it as the daemon's end does, and waits for that.
    pub(crate) async fn end(self) {
        drop(self.snapshots);
        soon(self.task).await.unwrap();
    }
}

/// The daemon's socket on the host at `root`, which nobody serves yet.
pub(crate) fn listener(root: &Path) -> net::UnixListener {
    let path = socket(root);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let listener = net::UnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

pub(crate) fn socket(root: &Path) -> PathBuf {
    root.join("run/vfio-bindd").join(INTERFACE)
}

/// A mapping in this state, and why.
pub(crate) fn view(state: MappingState, reason: &str, addresses: &[&str]) -> MappingView {
    MappingView {
        description: String::new(),
        state,
        reason: reason.to_owned(),
        addresses: addresses.iter().map(|address| at(address)).collect(),
        beside: Vec::new(),
        claims: BTreeMap::new(),
        proxmox: None,
    }
}

pub(crate) fn bound(addresses: &[&str]) -> MappingView {
    view(MappingState::Bound, "", addresses)
}

pub(crate) fn pending(addresses: &[&str]) -> MappingView {
    view(MappingState::Pending, "is not bound yet", addresses)
}

/// A PF that is to have two VFs and has so many.
pub(crate) fn pf(vfs: u16) -> (Address, PfView) {
    let vf = |index| at(&format!("0000:3b:02.{index}"));
    let view = PfView {
        name: "uplink".to_owned(),
        state: if vfs == 2 {
            PfState::Ready
        } else {
            PfState::Pending
        },
        reason: if vfs == 2 { "" } else { "gets 2 VFs" }.to_owned(),
        driver: Some("igb".to_owned()),
        wanted: 2,
        total: 7,
        vfs: (0..vfs).map(vf).collect(),
        settings: [(1, "vlan 100".to_owned())].into(),
    };
    (at("0000:3b:00.0"), view)
}

/// A snapshot of these mappings; their functions are what they would be then.
pub(crate) fn snapshot<const N: usize>(
    generation: u64,
    mappings: [(&str, MappingView); N],
) -> Snapshot {
    let mut snapshot = Snapshot {
        generation,
        state: DaemonState::Ready,
        iommu: true,
        ..Snapshot::starting()
    };
    for (name, view) in mappings {
        let is_bound = view.state == MappingState::Bound;
        if !is_bound {
            snapshot.state = DaemonState::Degraded;
            snapshot.reason = format!("{name} is {}", view.state);
        }
        for address in &view.addresses {
            let function = nic(&address.to_string());
            let of_driver = if is_bound {
                (function.driver("vfio-pci"), FunctionState::Bound)
            } else {
                (function, FunctionState::Pending)
            };
            let entry = snapshot
                .functions
                .entry(*address)
                .or_insert_with(|| FunctionView {
                    function: of_driver.0,
                    mappings: Vec::new(),
                    state: of_driver.1,
                    reason: String::new(),
                });
            entry.mappings.push(name.to_owned());
        }
        snapshot.mappings.insert(name.to_owned(), view);
    }
    snapshot
}

/// Answers claims; what was asked for.
pub(crate) async fn answer(
    service: &mut Service,
    answers: Vec<Result<&str, Unclaimed>>,
) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for answer in answers {
        let Request::Claim(wish, claimer) = service.request().await else {
            unreachable!("a claim was asked for");
        };
        claimer
            .send(answer.map(|address| vec![at(address)]))
            .unwrap();
        wishes.push(*wish);
    }
    wishes
}

/// Answers a release; of whom.
pub(crate) async fn released(service: &mut Service) -> String {
    let Request::Release {
        owner, releaser, ..
    } = service.request().await
    else {
        unreachable!("a release was asked for");
    };
    releaser.send(Ok(())).unwrap();
    owner
}
