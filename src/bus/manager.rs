//! The manager: what a hook asks.
//!
//! Reads the snapshot and forwards requests; an answer never waits for the
//! daemon's loop unless it is a request to it. All methods take `&self`: one
//! that took `&mut self` would hold up every other call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use zbus::{Connection, interface, message::Header, object_server::SignalEmitter};

use super::{
    api::{BusError, answer, is_settled},
    caller::{Right, authorized, left},
    explain,
    request::{self, Request, Wish, claimer, ending},
    wish::{Options, share, wish},
};
use crate::{
    engine::{snapshot::Snapshot, target::Target},
    pci::address::Address,
};

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
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    async fn reserve(&self, wish: Wish) -> Result<Vec<String>, BusError> {
        let addresses = request::reserve(&self.snapshots, &self.requests, wish).await?;
        Ok(texts(&addresses))
    }
}

fn unlisted(text: String) -> BusError {
    BusError::NotReady(format!("the host's functions cannot be listed: {text}"))
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

    /// Has count devices of a bound mapping be the owner's and nobody else's
    /// until Release, all of them for a count of 0: functions, or slots where
    /// the mapping takes whole ones. What the owner has of the mapping already
    /// counts. IOMMU groups and slots are not split.
    #[zbus(out_args("addresses"))]
    async fn claim(
        &self,
        mapping: &str,
        owner: &str,
        count: u32,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<String>, BusError> {
        let caller = claimer(connection, &header).await?;
        let mut wish = wish(caller, mapping, owner, Options::new())?;
        wish.share = share(count);
        self.reserve(wish).await
    }

    /// As Claim, with options: count u or addresses as (these functions),
    /// prefer-numa u (a node whose functions come first), placement s (spread,
    /// pack or address), and one of pid u, ttl-usec t and caller b, with whose end
    /// the claim ends: a process, a time, the caller's connection.
    #[zbus(out_args("addresses"))]
    async fn claim_with(
        &self,
        mapping: &str,
        owner: &str,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<String>, BusError> {
        let caller = claimer(connection, &header).await?;
        self.reserve(wish(caller, mapping, owner, options)?).await
    }

    /// Frees all that an owner has, if anything.
    async fn release(
        &self,
        owner: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        let uid = authorized(connection, &header, Right::Claim).await?;
        request::release(&self.requests, owner.to_owned(), uid).await
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
