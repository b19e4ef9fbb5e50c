//! Requests: what callers want the daemon to do, and how it is brought to it.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::oneshot;
use zbus::{Connection, message::Header};

use super::{
    api::{BusError, answer},
    caller::{Right, authorized},
    manager::{Manager, texts},
    wish::Caller,
};
use crate::{
    engine::{
        claims::{Share, Unclaimed},
        target::Target,
        undo::Unrestored,
    },
    pci::address::Address,
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

    /// Has functions be somebody's.
    pub(super) async fn reserve(&self, wish: Wish) -> Result<Vec<String>, BusError> {
        let mapping = wish.mapping.clone();
        // In the words that a question for it gets.
        answer(&self.snapshot(), &mapping)?;
        let (sender, receiver) = oneshot::channel();
        let request = Request::Claim(Box::new(wish), sender);
        self.requests.send(request).await.map_err(|_| ending())?;
        let granted = receiver.await.map_err(|_| ending())?;
        granted.map(|addresses| texts(&addresses)).map_err(|why| {
            match answer(&self.snapshot(), &mapping) {
                Err(no) if why == Unclaimed::NotBound => no,
                _ => BusError::from(why),
            }
        })
    }
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
