//! State: the one owner of what the daemon knows. Events in, effects out.
//!
//! Level-triggered: every event leads to the same reconciliation, so a missed
//! one heals with the next. Reads no clock: `now` is the time since the start.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    claims::{Claims, Lifetime},
    coldplug::Coldplug,
    event::{Effect, Event},
    flight::Flights,
    knobs::Tuning,
    look::Looks,
    nodes::Nodes,
    report::Report,
    retries::Retries,
    snapshot::Snapshot,
    sriov::Sriovs,
    undo::Undo,
    vfs::Withheld,
    vouch::Vouched,
};
use crate::{
    pci::{address::Address, inventory::Inventory},
    policy::{
        drift::{Drift, Memory},
        model::Policy,
        resolve::Held,
    },
};

/// How long changes are collected before everything is planned again: 256 VFs
/// come with some five uevents each.
const COLLECT: Duration = Duration::from_millis(50);

/// When the first pass counts as over, whatever is still under way: guests
/// wait for it.
const FIRST_PASS: Duration = Duration::from_secs(30);

/// The daemon's knowledge.
#[derive(Debug)]
pub struct State {
    pub(super) dry_run: bool,
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) rejected: String,
    pub(super) inventory: Option<Inventory>,
    pub(super) held: Held,
    pub(super) flights: Flights,
    pub(super) retries: Retries,
    /// Inspected functions whose inspection is old: something happened since.
    pub(super) stale: BTreeSet<Address>,
    pub(super) looks: Looks,
    /// Whose native driver udev holds back.
    pub(super) awaited: BTreeSet<Address>,
    pub(super) reconcile_at: Option<Duration>,
    /// When that was last.
    pub(super) reconciled: Option<Duration>,
    /// When the next publication may be, while work is under way.
    pub(super) tell_at: Duration,
    pub(super) first_pass_over: bool,
    pub(super) first_pass_ends: Option<Duration>,
    pub(super) lifted: BTreeSet<(String, Address, &'static str)>,
    /// What is kept from boot to boot, `None` until it was read.
    pub(super) memory: Option<Memory>,
    pub(super) vouched: Vouched,
    /// What became of what mappings had, `None` until it was compared.
    pub(super) drift: Option<Vec<Drift>>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) undo: Undo,
    pub(super) claims: Claims,
    pub(super) withheld: Withheld,
    pub(super) nodes: Nodes,
    pub(super) sriov: Sriovs,
    pub(super) tuning: Tuning,
    /// Nothing is bound until the undo journal is read: it may say that the
    /// host has something back.
    pub(super) journal_awaited: bool,
    pub(super) coldplug: Coldplug,
    /// Whether a config was read, or tried to.
    pub(super) configured_once: bool,
}

impl State {
    /// A daemon that knows nothing yet; `held` is what mappings held when an
    /// earlier one of this boot stopped. With `dry_run` nothing is applied.
    #[must_use]
    pub fn new(held: Held, dry_run: bool) -> Self {
        Self {
            dry_run,
            policy: None,
            rejected: String::new(),
            inventory: None,
            held,
            flights: Flights::default(),
            retries: Retries::default(),
            stale: BTreeSet::new(),
            looks: Looks::default(),
            awaited: BTreeSet::new(),
            reconcile_at: None,
            reconciled: None,
            tell_at: Duration::ZERO,
            first_pass_over: false,
            first_pass_ends: None,
            lifted: BTreeSet::new(),
            memory: None,
            vouched: Vouched::default(),
            drift: None,
            snapshot: Arc::new(Snapshot::starting()),
            undo: Undo::default(),
            claims: Claims::default(),
            withheld: Withheld::default(),
            nodes: Nodes::default(),
            sriov: Sriovs::default(),
            tuning: Tuning::default(),
            journal_awaited: false,
            coldplug: Coldplug::default(),
            configured_once: false,
        }
    }

    /// The same, for one that binds nothing before [`Event::Journal`] has come.
    #[must_use]
    pub fn awaiting_journal(mut self) -> Self {
        self.journal_awaited = true;
        self
    }

    /// What was published last.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The name of the slot that the function at `address` is in, where it is known.
    #[must_use]
    pub fn slot_name(&self, address: Address) -> Option<String> {
        self.inventory.as_ref()?.get(address)?.slot_name.clone()
    }

    /// When [`Event::Tick`] is due, `None` if nothing waits for time.
    #[must_use]
    pub fn next_tick(&self, now: Duration) -> Option<Duration> {
        let first_pass = self.first_pass_ends.filter(|_| !self.first_pass_over);
        [
            self.reconcile_at,
            first_pass,
            self.flights.next_deadline(),
            self.retries.next(now),
            self.sriov.next(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes in `event`, and says what is to be done.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let ends = *self.first_pass_ends.get_or_insert(now + FIRST_PASS);
        if !event.is_progress() {
            self.tell_at = now;
        }
        match event {
            Event::Config(config) => self.configured(config, now, &mut effects),
            Event::Scanned(inventory) => self.scanned(inventory, now, &mut effects),
            Event::Observed(address, function) => {
                self.observed(address, function, now, &mut effects);
            }
            Event::Inspected(address, inspection) => {
                self.inspected(address, inspection, now, &mut effects);
            }
            Event::Applied(address, outcome) => self.applied(address, outcome, now, &mut effects),
            Event::Owned(address, owned) => self.owned(address, owned, now, &mut effects),
            Event::Tuned(address, tuned) => self.tuned(address, tuned, now, &mut effects),
            Event::Recalled(memory) => {
                self.memory = Some(memory);
                self.reconcile_at = Some(now);
            }
            Event::Vouched(known) => self.vouched.recall(known),
            Event::UdevIdle { all_along } => {
                self.udev_is_idle(all_along, &mut effects);
                self.reconcile_at = Some(now);
            }
            Event::Changed(address) => self.changed(address, &mut effects),
            Event::Interface(address) => self.look_at(address, &mut effects),
            Event::Arrived(address) => self.arrived(address, &mut effects),
            Event::Removed(address) => self.removed(address, now, &mut effects),
            Event::Overrun => {
                effects.push(Effect::Report(Report::Overrun));
                self.look_again();
                self.sriov.look_again();
                self.scan(&mut effects);
            }
            Event::Rescan => {
                self.look_again();
                self.sriov.ask_again();
                self.retries.forget_all();
                self.scan(&mut effects);
            }
            Event::RescanTake => {
                self.look_again();
                self.sriov.ask_again();
                self.undo.retake();
                self.retries.forget_all();
                self.scan(&mut effects);
            }
            Event::Journal { entries, trouble } => {
                self.journal(entries, trouble, now, &mut effects);
            }
            Event::Restore { asker, target } => self.restore(asker, &target, now, &mut effects),
            Event::Withheld(pfs) => self.withheld.recall(pfs),
            Event::Withholding(pf, result) => self.withholding(pf, result, now, &mut effects),
            Event::Made(pf, made) => self.made(pf, made, now, &mut effects),
            Event::Settled(pf, settled) => self.settled(pf, settled, now, &mut effects),
            Event::Restored(address, returned) => {
                self.restored(address, returned, now, &mut effects);
            }
            Event::Retaken(address, result) => self.retaken(address, result, now, &mut effects),
            Event::Claimed(claims) => effects.extend(self.recall_claims(claims, now)),
            Event::Claim { asker, asked } => self.claim(asker, asked, &mut effects),
            Event::Release { asker, owner, uid } => {
                let result = self.release(&owner, uid, now, &mut effects);
                effects.push(Effect::Freed { asker, result });
            }
            Event::Users(users) => self.users_found(&users, now, &mut effects),
            Event::ClaimOver(serial) => {
                self.claims_over(now, &mut effects, |claim| claim.serial == serial);
            }
            Event::CallersLeft { bus, names } => {
                self.claims_over(now, &mut effects, |claim| match &claim.lifetime {
                    Lifetime::Caller { name, bus: on } => *on != bus || names.contains(name),
                    _ => false,
                });
            }
            Event::Unfinished(all) => self.take_over(all, now),
            Event::Finished(address) => self.finished(address, now, &mut effects),
            Event::Holders(address, holders) => {
                if self.flights.held_by(address, holders) {
                    self.reconcile_at = Some(now);
                }
            }
            Event::Audit => {
                self.find_holders(&mut effects);
                self.withheld.judge_anew();
                self.withheld.try_again();
                self.nodes.look_again();
                self.sriov.look_again();
                self.tuning.look_again();
                self.scan(&mut effects);
            }
            Event::Tick => {}
        }
        self.keep_shrunk_claims(now, &mut effects);
        self.expire(now, &mut effects);
        self.dispatch_returns(now, &mut effects);
        let due = self.reconcile_at.is_some_and(|at| at <= now)
            || [
                self.retries.next(Duration::ZERO),
                self.sriov.next(Duration::ZERO),
            ]
            .into_iter()
            .flatten()
            .any(|at| at <= now)
            || (!self.first_pass_over && ends <= now);
        if due {
            self.reconcile(now, ends, &mut effects);
        }
        self.answer(&mut effects);
        effects
    }

    /// Somebody may have changed what was seen to.
    fn look_again(&mut self) {
        self.withheld.look_again();
        self.nodes.look_again();
        self.tuning.look_again();
    }

    pub(super) fn soon(&mut self, now: Duration) {
        let at = if !self.looks.is_observing() && self.flights.is_quiet() {
            // The first of a burst counts at once, and the rest of it together.
            let last = self.reconciled.map_or(now, |last| last + COLLECT);
            last.max(now)
        } else {
            now + COLLECT
        };
        self.reconcile_at = Some(self.reconcile_at.map_or(at, |old| old.min(at)));
    }
}
