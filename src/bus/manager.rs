//! The manager: what a hook asks.
//!
//! Reads the snapshot and forwards requests; an answer never waits for the
//! daemon's loop unless it is a request to it. All methods take `&self`: one
//! that took `&mut self` would hold up every other call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use zbus::{Connection, interface, message::Header, object_server::SignalEmitter};

use super::{
    api::{BusError, answer, is_settled},
    publish::Request,
};
use crate::{engine::snapshot::Snapshot, pci::address::Address};

/// The manager's object.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) requests: mpsc::Sender<Request>,
}

pub(super) fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

impl Manager {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Has the daemon do something; only root may ask.
    async fn ask(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        request: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Request,
    ) -> Result<(), BusError> {
        only_root(connection, header).await?;
        let (sender, receiver) = oneshot::channel();
        let gone = || BusError::NotReady("the daemon is ending".to_owned());
        self.requests
            .send(request(sender))
            .await
            .map_err(|_| gone())?;
        let done = receiver.await.map_err(|_| gone())?;
        done.map_err(BusError::InvalidConfig)
    }
}

/// The bus policy says so too; this holds where that file is missing.
async fn only_root(connection: &Connection, header: &Header<'_>) -> Result<(), BusError> {
    let denied = |why: &str| BusError::AccessDenied(format!("only root may do this; {why}"));
    let sender = header
        .sender()
        .ok_or_else(|| denied("the caller has no name"))?;
    let reply = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionUnixUser",
            &sender.as_str(),
        )
        .await?;
    let uid: u32 = reply.body().deserialize()?;
    if uid == 0 {
        Ok(())
    } else {
        Err(denied(&format!("the caller's uid is {uid}")))
    }
}

/// Which PCI functions the configured mappings resolve to, and what the daemon
/// is doing about them.
#[interface(name = "org.vfiobindd1.Manager")]
impl Manager {
    /// The addresses of a mapping's functions, if all of them are bound.
    #[zbus(out_args("addresses"))]
    fn resolve(&self, mapping: &str) -> Result<Vec<String>, BusError> {
        answer(&self.snapshot(), mapping).map(|addresses| texts(&addresses))
    }

    /// As Resolve, but waits until the mapping is bound or cannot become so,
    /// at most for timeout_usec microseconds.
    #[zbus(out_args("addresses"))]
    async fn resolve_wait(
        &self,
        mapping: &str,
        timeout_usec: u64,
    ) -> Result<Vec<String>, BusError> {
        let mut snapshots = self.snapshots.clone();
        let settled = |snapshot: &Arc<Snapshot>| is_settled(&answer(snapshot, mapping));
        let limit = Duration::from_micros(timeout_usec);
        let last = match timeout(limit, snapshots.wait_for(settled)).await {
            Ok(Ok(snapshot)) => answer(&snapshot, mapping),
            Ok(Err(_)) => Err(BusError::NotReady("the daemon is ending".to_owned())),
            Err(_) => match answer(&self.snapshot(), mapping) {
                Err(BusError::NotReady(text)) => Err(BusError::Timeout(text)),
                last => last,
            },
        };
        last.map(|addresses| texts(&addresses))
    }

    /// The plan as JSON: each mapping's verdict, functions and refusals, and
    /// what is to be done.
    #[zbus(out_args("json"))]
    fn plan(&self) -> Result<String, BusError> {
        serde_json::to_string(&self.snapshot().plan)
            .map_err(|error| BusError::Bus(zbus::Error::Failure(error.to_string())))
    }

    /// Reads the config again; one that is not valid changes nothing.
    async fn reload(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.ask(connection, &header, Request::Reload).await
    }

    /// Looks at all functions again.
    async fn rescan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.ask(connection, &header, Request::Rescan).await
    }

    /// A mapping's state or its functions changed.
    #[zbus(signal)]
    pub(super) async fn mapping_changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        state: &str,
        addresses: Vec<String>,
    ) -> zbus::Result<()>;

    /// Something that is published changed.
    #[zbus(signal)]
    pub(super) async fn changed(emitter: &SignalEmitter<'_>, generation: u64) -> zbus::Result<()>;

    /// The daemon's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    /// One of starting, ready, degraded, failed.
    #[zbus(property)]
    fn state(&self) -> String {
        self.snapshot().state.to_string()
    }

    /// Why: all that is wrong with a config, or which mappings are not bound.
    #[zbus(property)]
    fn reason(&self) -> String {
        self.snapshot().reason.clone()
    }

    /// Grows with each change of what is published.
    #[zbus(property)]
    fn generation(&self) -> u64 {
        self.snapshot().generation
    }

    /// The addresses of each mapping that is bound.
    #[zbus(property)]
    fn map(&self) -> BTreeMap<String, Vec<String>> {
        let snapshot = self.snapshot();
        let bound = snapshot.bound();
        bound
            .map(|(name, addresses)| (name.to_owned(), texts(addresses)))
            .collect()
    }

    /// Functions that are still bound and that no mapping wants any more.
    #[zbus(property)]
    fn left_over(&self) -> Vec<String> {
        texts(&self.snapshot().left_over)
    }

    /// Whether the host has a working IOMMU.
    #[zbus(property)]
    fn iommu(&self) -> bool {
        self.snapshot().iommu
    }
}
