//! State: the one owner of what the daemon knows. Events in, effects out.
//!
//! Level-triggered: every event leads to the same reconciliation, so a missed
//! one heals with the next. Reads no clock: `now` is the time since the start.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    event::{Effect, Event, Outcome},
    flight::{Errand, Flights, Retries},
    project,
    report::Report,
    snapshot::Snapshot,
};
use crate::{
    pci::{
        address::Address,
        function::{Function, Inspection},
        inventory::Inventory,
    },
    policy::{model::Policy, resolve::Held},
};

/// How long changes are collected before everything is planned again: 256 VFs
/// come with some five uevents each.
const COLLECT: Duration = Duration::from_millis(20);

/// When the first pass counts as over, whatever is still under way: guests
/// wait for it.
const FIRST_PASS: Duration = Duration::from_secs(30);

/// The daemon's knowledge.
#[derive(Debug)]
pub struct State {
    pub(super) dry_run: bool,
    pub(super) policy: Option<Policy>,
    pub(super) rejected: String,
    pub(super) inventory: Option<Inventory>,
    pub(super) held: Held,
    pub(super) flights: Flights,
    pub(super) retries: Retries,
    /// Inspected functions whose inspection is old: something happened since.
    pub(super) stale: BTreeSet<Address>,
    pub(super) observing: BTreeSet<Address>,
    pub(super) observe_again: BTreeSet<Address>,
    pub(super) scanning: bool,
    pub(super) scan_again: bool,
    pub(super) reconcile_at: Option<Duration>,
    /// When it last was.
    pub(super) reconciled: Duration,
    pub(super) first_pass_over: bool,
    pub(super) first_pass_ends: Option<Duration>,
    pub(super) lifted: BTreeSet<(String, Address, &'static str)>,
    pub(super) snapshot: Arc<Snapshot>,
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
            observing: BTreeSet::new(),
            observe_again: BTreeSet::new(),
            scanning: false,
            scan_again: false,
            reconcile_at: None,
            reconciled: Duration::ZERO,
            first_pass_over: false,
            first_pass_ends: None,
            lifted: BTreeSet::new(),
            snapshot: Arc::new(Snapshot::starting()),
        }
    }

    /// What was published last.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
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
            Event::Changed(address) => {
                self.retries.forget(address);
                self.stale.insert(address);
                // It is looked at when the helper that changes it has ended.
                if !self.flights.is_applying(address) {
                    self.observe(address, &mut effects);
                }
            }
            Event::Removed(address) => self.removed(address, now),
            Event::Overrun => {
                effects.push(Effect::Report(Report::Overrun));
                self.scan(&mut effects);
            }
            Event::Rescan => {
                self.retries.forget_all();
                self.scan(&mut effects);
            }
            Event::Audit => self.scan(&mut effects),
            Event::Tick => {}
        }
        self.expire(now, &mut effects);
        let due = self.reconcile_at.is_some_and(|at| at <= now)
            || self
                .retries
                .next(Duration::ZERO)
                .is_some_and(|at| at <= now)
            || (!self.first_pass_over && ends <= now);
        if due {
            self.reconcile(now, ends, &mut effects);
        }
        effects
    }

    fn configured(
        &mut self,
        config: Result<Policy, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        match config {
            Ok(policy) => {
                effects.push(Effect::Report(Report::ConfigLoaded {
                    mappings: policy.mappings.len(),
                }));
                self.policy = Some(policy);
                self.rejected.clear();
                self.retries.forget_all();
                if self.inventory.is_none() {
                    self.scan(effects);
                }
            }
            Err(text) => {
                let old_goes_on = self.policy.is_some();
                effects.push(Effect::Report(Report::ConfigRejected {
                    text: text.clone(),
                    old_goes_on,
                }));
                self.rejected = if old_goes_on {
                    format!("the config on disk was not taken, the one before goes on:\n{text}")
                } else {
                    text
                };
            }
        }
        self.reconcile_at = Some(now);
    }

    fn scanned(
        &mut self,
        scanned: Result<Inventory, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.inventory.take();
        let mut inventory = match scanned {
            Ok(inventory) => inventory,
            Err(text) => {
                effects.push(Effect::Report(Report::ScanFailed { text }));
                // The next audit tries again; a host without PCI has none.
                known.clone().unwrap_or_default()
            }
        };
        if let Some(old) = &known {
            for function in old.iter() {
                if let Some(new) = inventory.get_mut(function.address)
                    && new.same_device(function)
                {
                    new.inspection.clone_from(&function.inspection);
                    self.stale.insert(function.address);
                }
            }
        }
        self.inventory = Some(inventory);
        self.scanning = false;
        if std::mem::take(&mut self.scan_again) {
            self.scan(effects);
        }
        self.reconcile_at = Some(now);
    }

    fn observed(
        &mut self,
        address: Address,
        function: Option<Box<Function>>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.observing.remove(&address);
        if self.observe_again.remove(&address) {
            self.observe(address, effects);
            return;
        }
        let Some(mut function) = function else {
            self.removed(address, now);
            return;
        };
        let Some(inventory) = self.inventory.as_mut() else {
            return;
        };
        match inventory.get(address) {
            Some(old) if old.same_device(&function) => {
                function.inspection.clone_from(&old.inspection);
            }
            Some(_) => self.retries.forget(address),
            None => {}
        }
        inventory.insert(*function);
        self.soon(now);
    }

    fn inspected(
        &mut self,
        address: Address,
        inspection: Result<Option<Inspection>, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.land(address, effects);
        let function = self.inventory.as_mut().and_then(|all| all.get_mut(address));
        match (inspection, function) {
            (Ok(Some(mut new)), Some(function)) => {
                if let Some(old) = function.inspection.take() {
                    // It was read once and is not read again.
                    new.serial = new.serial.or(old.serial);
                }
                function.inspection = Some(new);
            }
            (Ok(_), _) => self.observe(address, effects),
            (Err(text), _) => {
                self.retries.failed(address, now, text, false);
            }
        }
        // A helper is free, and its place must not stay empty for long.
        self.reconcile_at = Some(now);
    }

    fn applied(
        &mut self,
        address: Address,
        outcome: Outcome,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let errand = self.land(address, effects);
        let Some(Errand::Apply(action)) = errand else {
            return;
        };
        match outcome {
            Outcome::Bound(from) => {
                self.retries.forget(address);
                effects.push(Effect::Report(Report::Bound {
                    address,
                    driver: action.driver.to_owned(),
                    mappings: action.mappings,
                    why: action.why,
                    from,
                }));
            }
            Outcome::AlreadyBound | Outcome::Gone => self.retries.forget(address),
            Outcome::Refused(text) => {
                self.retries.failed(address, now, text, true);
            }
            Outcome::Failed { step, text } => {
                let why = format!("{step}: {text}");
                let wait = self.retries.failed(address, now, why, false);
                effects.push(Effect::Report(Report::NotBound {
                    address,
                    mappings: action.mappings,
                    step,
                    text,
                    retry_in_secs: wait.as_secs(),
                }));
            }
        }
        self.stale.insert(address);
        // The kernel's word counts, not the helper's.
        self.observe(address, effects);
        self.reconcile_at = Some(now);
    }

    fn removed(&mut self, address: Address, now: Duration) {
        if let Some(inventory) = self.inventory.as_mut() {
            inventory.remove(address);
        }
        self.retries.forget(address);
        self.stale.remove(&address);
        for addresses in self.held.values_mut() {
            addresses.remove(&address);
        }
        // What is being looked at now may have been read before it went.
        self.scan_again |= self.scanning;
        if self.observing.contains(&address) {
            self.observe_again.insert(address);
        }
        self.soon(now);
    }

    /// Takes back an errand, and tells if it was late.
    fn land(&mut self, address: Address, effects: &mut Vec<Effect>) -> Option<Errand> {
        let flight = self.flights.finish(address)?;
        if flight.stuck {
            effects.push(Effect::Report(Report::CameBack { address }));
        }
        Some(flight.errand)
    }

    fn expire(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for (address, errand) in self.flights.expire(now) {
            effects.push(Effect::Report(Report::Stuck {
                address,
                doing: project::errand(&errand),
            }));
            self.reconcile_at = Some(now);
        }
    }

    fn soon(&mut self, now: Duration) {
        let at = if self.observing.is_empty() && self.flights.is_quiet() {
            now
        } else {
            now + COLLECT
        };
        self.reconcile_at = Some(self.reconcile_at.map_or(at, |old| old.min(at)));
    }

    fn observe(&mut self, address: Address, effects: &mut Vec<Effect>) {
        // Until the first scan is in there is nothing that one function adds to.
        if self.inventory.is_none() || self.scanning {
            self.scan_again |= self.scanning;
        } else if self.observing.insert(address) {
            effects.push(Effect::Observe(address));
        } else {
            self.observe_again.insert(address);
        }
    }

    fn scan(&mut self, effects: &mut Vec<Effect>) {
        if self.scanning {
            self.scan_again = true;
        } else {
            self.scanning = true;
            effects.push(Effect::Scan);
        }
    }
}
