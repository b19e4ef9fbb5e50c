//! Requests: what callers want the daemon to do, and how it is brought to it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};
use zbus::{Connection, message::Header};

use super::{
    api::{BusError, answer},
    caller::{Right, authorized},
    manager::Manager,
    wish::{Caller, named},
};
use crate::{
    engine::{
        claims::{Share, Unclaimed},
        snapshot::Snapshot,
        target::Target,
        undo::Unrestored,
    },
    pci::address::Address,
    policy::placement::Placement,
};

/// What callers want the daemon to do.
#[derive(Debug)]
pub enum Request {
    /// Read the config again; the answer is what is wrong with it.
    Reload(oneshot::Sender<Result<(), String>>),
    /// Look at all functions again.
    Rescan(oneshot::Sender<Result<(), String>>),
    /// The same, and take again what was given back.
    RescanTake(oneshot::Sender<Result<(), String>>),
    /// Give functions back; the answer is why that did not work.
    Restore(Target, oneshot::Sender<Result<(), Unrestored>>),
    /// Have functions for oneself; the answer is which, or why none.
    Claim(Box<Wish>, oneshot::Sender<Result<Vec<Address>, Unclaimed>>),
    /// Free what an owner has.
    Release {
        /// Whose claims.
        owner: String,
        /// The user who asks.
        uid: u32,
        /// Who hears how it ended.
        releaser: oneshot::Sender<Result<(), Unclaimed>>,
    },
    /// These connections are not on this bus, or no more: its id, and their
    /// unique names.
    CallersLeft {
        /// The bus.
        bus: String,
        /// Who left.
        names: BTreeSet<String>,
    },
}

/// What a caller wants to have for itself.
#[derive(Debug)]
pub struct Wish {
    /// Of this mapping.
    pub mapping: String,
    /// For whom, in the caller's words.
    pub owner: String,
    /// The caller's user.
    pub uid: u32,
    /// Which part of it.
    pub share: Share,
    /// The NUMA node whose functions come first.
    pub prefer_numa: Option<u32>,
    /// How they are chosen among equals.
    pub placement: Option<Placement>,
    /// How long.
    pub lasts: Lasts,
}

/// How long a claim lasts unless it is released before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Until it is released.
    UntilReleased,
    /// As long as the process with this number.
    Process(u32),
    /// As long as the caller's connection.
    Caller {
        /// Its unique name.
        name: String,
        /// The bus's id.
        bus: String,
    },
    /// For this long.
    For(Duration),
}

impl Manager {
    /// Has the daemon do something; not everyone may ask.
    pub(super) async fn ask<E>(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        request: impl FnOnce(oneshot::Sender<Result<(), E>>) -> Request,
        failed: impl FnOnce(E) -> BusError,
    ) -> Result<(), BusError> {
        authorized(connection, header, Right::Manage).await?;
        let (sender, receiver) = oneshot::channel();
        self.requests
            .send(request(sender))
            .await
            .map_err(|_| ending())?;
        let done = receiver.await.map_err(|_| ending())?;
        done.map_err(failed)
    }
}

/// Has functions be somebody's.
pub(super) async fn reserve(
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    requests: &mpsc::Sender<Request>,
    wish: Wish,
) -> Result<Vec<Address>, BusError> {
    let mapping = wish.mapping.clone();
    // In the words that a question for it gets.
    answer(&snapshots.borrow(), &mapping)?;
    let (sender, receiver) = oneshot::channel();
    let request = Request::Claim(Box::new(wish), sender);
    requests.send(request).await.map_err(|_| ending())?;
    let granted = receiver.await.map_err(|_| ending())?;
    granted.map_err(|why| match answer(&snapshots.borrow(), &mapping) {
        Err(no) if why == Unclaimed::NotBound => no,
        _ => BusError::from(why),
    })
}

/// Frees what `owner` has; `uid` is the user who asks.
pub(super) async fn release(
    requests: &mpsc::Sender<Request>,
    owner: String,
    uid: u32,
) -> Result<(), BusError> {
    named(&owner)?;
    let (releaser, receiver) = oneshot::channel();
    let request = Request::Release {
        owner,
        uid,
        releaser,
    };
    requests.send(request).await.map_err(|_| ending())?;
    let freed = receiver.await.map_err(|_| ending())?;
    freed.map_err(BusError::from)
}

/// Who calls, if they may claim.
pub(super) async fn claimer(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Caller, BusError> {
    let uid = authorized(connection, header, Right::Claim).await?;
    let name = header.sender().map(ToString::to_string);
    Ok(Caller {
        uid,
        name: name.unwrap_or_default(),
        bus: connection.server_guid().to_string(),
    })
}

pub(super) fn ending() -> BusError {
    BusError::NotReady("the daemon is ending".to_owned())
}
