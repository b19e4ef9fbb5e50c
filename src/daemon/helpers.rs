//! Who is sent to do what may never come back, and what is known of them.
//!
//! Brings their answers to the loop as events. Never waits for one: a helper
//! that is late answers late, or never.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{
    answers::helped,
    errands::{Errands, TakenDown},
    work::finish,
};
use crate::{
    engine::event::{Event, Unfinished},
    kernel::helper::{
        pool::{Lease, Pool, PoolError},
        process::Process,
        protocol::{Reply, Request},
    },
    pci::address::Address,
};

/// How often it is looked whether a helper of an earlier daemon has ended.
const LOOKS: Duration = Duration::from_secs(2);

/// The helpers, and what they are at.
#[derive(Debug)]
pub(super) struct Helpers {
    pool: Pool,
    errands: Errands,
    events: mpsc::UnboundedSender<Event>,
}

impl Helpers {
    /// Helpers of `pool`; what they are at is kept in `directory`, if there is
    /// one.
    pub(super) fn new(
        pool: Pool,
        directory: Option<&Path>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            pool,
            errands: Errands::new(directory),
            events,
        }
    }

    /// What helpers of an earlier daemon are still at; the loop hears when each
    /// of them ends.
    pub(super) fn take_over(&mut self) -> Vec<(Address, Unfinished)> {
        let found = self.errands.take_over().unwrap_or_else(|error| {
            tracing::warn!("what helpers of an earlier start are at cannot be read: {error}");
            Vec::new()
        });
        let found = found.into_iter().map(|(address, helper, unfinished)| {
            tokio::spawn(ended(address, helper, self.events.clone()));
            (address, unfinished)
        });
        found.collect()
    }

    /// Sends a helper to the function. One that `unbinds` takes down first by
    /// what the function could be held, which an unbind takes out of sysfs.
    pub(super) fn send(&mut self, address: Address, request: Request, unbinds: bool) {
        let events = self.events.clone();
        match self.pool.lease() {
            Ok(lease) => {
                let taken_down = TakenDown::default();
                self.errands
                    .sent(address, lease.process(), Arc::clone(&taken_down));
                tokio::spawn(async move {
                    let taken_down = unbinds.then_some(taken_down);
                    let reply = carry(lease, address, &request, taken_down).await;
                    finish(&events, helped(address, &request, reply));
                });
            }
            Err(error) => {
                self.errands.not_sent(address);
                finish(&events, helped(address, &request, Err(error)));
            }
        }
    }

    /// Has another helper look who holds the function that one does not come
    /// back from.
    pub(super) fn find_holders(&self, address: Address) {
        let before = self.errands.handles(address);
        let request = Request::Holders { address, before };
        let (pool, events) = (self.pool.clone(), self.events.clone());
        tokio::spawn(async move {
            let reply = pool.call(&request).await;
            finish(&events, helped(address, &request, reply));
        });
    }

    /// Keeps for the next daemon what the function's helper is at.
    pub(super) fn keep(&mut self, address: Address, unfinished: Unfinished) {
        if let Err(error) = self.errands.keep(address, unfinished) {
            tracing::warn!("errands.json cannot be written: {error}");
        }
    }

    /// The function's helper came back, or has ended.
    pub(super) fn over(&mut self, address: Address) {
        if let Err(error) = self.errands.over(address) {
            tracing::warn!("errands.json cannot be written: {error}");
        }
    }
}

async fn carry(
    mut lease: Lease,
    address: Address,
    request: &Request,
    taken_down: Option<TakenDown>,
) -> Result<Reply, PoolError> {
    if let Some(taken_down) = taken_down
        && let Reply::Handles(found) = lease.ask(&Request::Handles(address)).await?
    {
        taken_down.get_or_init(|| found);
    }
    let reply = lease.ask(request).await?;
    lease.done();
    Ok(reply)
}

/// Waits until a helper of an earlier daemon ends.
async fn ended(address: Address, helper: Process, events: mpsc::UnboundedSender<Event>) {
    while helper.lives() {
        sleep(LOOKS).await;
    }
    finish(&events, Event::Finished(address));
}
