//! The manager: what a hook asks.
//!
//! Reads the snapshot and forwards requests; an answer never waits for the
//! daemon's loop unless it is a request to it. All methods take `&self`: one
//! that took `&mut self` would hold up every other call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use zbus::{Connection, Message, interface, message::Header, object_server::SignalEmitter};

use super::{
    api::{BusError, answer, is_settled},
    explain,
    publish::Request,
};
use crate::{
    engine::{snapshot::Snapshot, target::Target},
    pci::address::Address,
};

/// How often it is checked whether a caller still waits for its answer.
const CALLER_CHECK: Duration = Duration::from_secs(2);

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
    async fn ask<E>(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        request: impl FnOnce(oneshot::Sender<Result<(), E>>) -> Request,
        failed: impl FnOnce(E) -> BusError,
    ) -> Result<(), BusError> {
        only_root(connection, header).await?;
        let (sender, receiver) = oneshot::channel();
        self.requests
            .send(request(sender))
            .await
            .map_err(|_| ending())?;
        let done = receiver.await.map_err(|_| ending())?;
        done.map_err(failed)
    }
}

fn unlisted(text: String) -> BusError {
    BusError::NotReady(format!("the host's functions cannot be listed: {text}"))
}

fn ending() -> BusError {
    BusError::NotReady("the daemon is ending".to_owned())
}

/// Comes back once the caller is not on the bus any more, or no bus is there.
async fn left(connection: &Connection, header: &Header<'_>) {
    loop {
        tokio::select! {
            () = connection.closed() => return,
            () = sleep(CALLER_CHECK) => {}
        }
        let Some(caller) = header.sender() else {
            continue;
        };
        let reply = ask_bus(connection, "NameHasOwner", caller.as_str()).await;
        let here = reply.and_then(|reply| reply.body().deserialize());
        // What cannot be asked is asked again.
        if let Ok(false) = here {
            return;
        }
    }
}

async fn ask_bus(connection: &Connection, question: &str, name: &str) -> zbus::Result<Message> {
    let bus = "org.freedesktop.DBus";
    let path = "/org/freedesktop/DBus";
    connection
        .call_method(Some(bus), path, Some(bus), question, &name)
        .await
}

/// The bus policy says so too; this holds where that file is missing.
async fn only_root(connection: &Connection, header: &Header<'_>) -> Result<(), BusError> {
    let denied = |why: &str| BusError::AccessDenied(format!("only root may do this; {why}"));
    let sender = header
        .sender()
        .ok_or_else(|| denied("the caller has no name"))?;
    let reply = ask_bus(connection, "GetConnectionUnixUser", sender.as_str()).await?;
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
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<String>, BusError> {
        let mut snapshots = self.snapshots.clone();
        let settled = |snapshot: &Arc<Snapshot>| is_settled(snapshot, mapping);
        let limit = Duration::from_micros(timeout_usec);
        let last = tokio::select! {
            waited = timeout(limit, snapshots.wait_for(settled)) => match waited {
                Ok(Ok(snapshot)) => answer(&snapshot, mapping),
                Ok(Err(_)) => Err(ending()),
                Err(_) => match answer(&self.snapshot(), mapping) {
                    Err(BusError::NotReady(text)) => Err(BusError::Timeout(text)),
                    last => last,
                },
            },
            // Anyone may wait for ever; what nobody hears must not pile up.
            () = left(connection, &header) => {
                Err(BusError::Timeout("the caller has left".to_owned()))
            }
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

    /// All that is known of a mapping or of the function at an address as JSON:
    /// what matches and what does not and by which term, what guards it, what
    /// would be done, and how far the daemon is.
    #[zbus(out_args("json"))]
    fn explain(&self, target: &str) -> Result<String, BusError> {
        let explanation = explain::answer(&self.snapshot(), target)?;
        serde_json::to_string(&explanation)
            .map_err(|error| BusError::Bus(zbus::Error::Failure(error.to_string())))
    }

    /// Reads the config again; one that is not valid changes nothing.
    async fn reload(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.ask(
            connection,
            &header,
            Request::Reload,
            BusError::InvalidConfig,
        )
        .await
    }

    /// Looks at all functions again.
    async fn rescan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.ask(connection, &header, Request::Rescan, unlisted)
            .await
    }

    /// As Rescan, and binds again what was given back.
    async fn rescan_take(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        self.ask(connection, &header, Request::RescanTake, unlisted)
            .await
    }

    /// Gives back to the host what a mapping took, or the function at an
    /// address, with the driver and the override that it had. None of it is
    /// given back while a virtual machine uses a part.
    async fn restore(
        &self,
        target: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        let target = target
            .parse()
            .map_or_else(|_| Target::Mapping(target.to_owned()), Target::Function);
        let request = |answer| Request::Restore(target, answer);
        self.ask(connection, &header, request, BusError::from).await
    }

    /// As Restore, of all that was taken.
    async fn restore_all(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        let request = |answer| Request::Restore(Target::All, answer);
        self.ask(connection, &header, request, BusError::from).await
    }

    /// A mapping's state or its functions changed.
    #[zbus(signal)]
    pub(super) async fn mapping_changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        state: &str,
        addresses: Vec<String>,
    ) -> zbus::Result<()>;

    /// A function is not where a mapping had it before this boot.
    #[zbus(signal)]
    pub(super) async fn drifted(
        emitter: &SignalEmitter<'_>,
        mapping: &str,
        text: &str,
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

    /// What became of functions that are not where mappings had them before
    /// this boot, a sentence each.
    #[zbus(property)]
    fn drift(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        snapshot.drift.iter().map(|one| one.text.clone()).collect()
    }

    /// Whether the host has a working IOMMU.
    #[zbus(property)]
    fn iommu(&self) -> bool {
        self.snapshot().iommu
    }
}
