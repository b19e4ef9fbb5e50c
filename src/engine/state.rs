//! State: the one owner of what the daemon knows. Events in, effects out.
//!
//! Level-triggered: every event leads to the same reconciliation, so a missed
//! one heals with the next. Reads no clock: `now` is the time since the start.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    flight::{Errand, Flights, Retries},
    project::{self, View},
    report::Report,
    snapshot::{DaemonState, Snapshot},
};
use crate::{
    pci::{
        address::Address,
        function::{Function, Inspection, is_vfio_driver},
        inventory::Inventory,
    },
    policy::{
        model::Policy,
        plan::{Action, Plan, plan},
        resolve::Held,
    },
};

/// How long changes are collected before everything is planned again: 256 VFs
/// come with some five uevents each.
const COLLECT: Duration = Duration::from_millis(20);

/// When the first pass counts as over, whatever is still under way: guests
/// wait for it.
const FIRST_PASS: Duration = Duration::from_secs(30);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A config was read, or could not be.
    Config(Result<Policy, String>),
    /// All functions were scanned.
    Scanned(Inventory),
    /// One function was looked at; `None` if it is not there.
    Observed(Address, Option<Box<Function>>),
    /// A helper inspected a function; `None` if it is not there.
    Inspected(Address, Result<Option<Inspection>, String>),
    /// A helper finished an action.
    Applied(Address, Outcome),
    /// The kernel says that a function came or changed.
    Changed(Address),
    /// The kernel says that a function went.
    Removed(Address),
    /// Uevents were lost.
    Overrun,
    /// Everything is to be looked at again, now.
    Rescan,
    /// It is time for the slow look at everything that heals what was missed.
    Audit,
    /// Time has passed.
    Tick,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The wanted driver has it now; it had this one before.
    Bound(Option<String>),
    /// The wanted driver had it already.
    AlreadyBound,
    /// It is not there.
    Gone,
    /// The helper's own look found a reason against it.
    Refused(String),
    /// The kernel said no at this step, in words.
    Failed {
        /// The step.
        step: String,
        /// What the kernel said.
        text: String,
    },
}

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Scan all functions; answer with [`Event::Scanned`].
    Scan,
    /// Look at one function; answer with [`Event::Observed`].
    Observe(Address),
    /// Have a helper inspect a function; answer with [`Event::Inspected`].
    Inspect {
        /// The function.
        address: Address,
        /// Its serial number was read already and need not be again.
        serial_known: bool,
    },
    /// Have a helper apply an action; answer with [`Event::Applied`].
    Apply(Action),
    /// Publish this.
    Publish(Arc<Snapshot>),
    /// Tell this.
    Report(Report),
}

/// The daemon's knowledge.
#[derive(Debug)]
pub struct State {
    dry_run: bool,
    policy: Option<Policy>,
    rejected: String,
    inventory: Option<Inventory>,
    held: Held,
    flights: Flights,
    retries: Retries,
    /// Inspected functions whose inspection is old: something happened since.
    stale: BTreeSet<Address>,
    observing: BTreeSet<Address>,
    observe_again: BTreeSet<Address>,
    scanning: bool,
    scan_again: bool,
    reconcile_at: Option<Duration>,
    /// When it last was.
    reconciled: Duration,
    first_pass_over: bool,
    first_pass_ends: Option<Duration>,
    lifted: BTreeSet<(String, Address, &'static str)>,
    snapshot: Arc<Snapshot>,
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
                self.observe(address, &mut effects);
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

    fn scanned(&mut self, mut inventory: Inventory, now: Duration, effects: &mut Vec<Effect>) {
        if let Some(old) = &self.inventory {
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
        self.soon(now);
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

    fn reconcile(&mut self, now: Duration, ends: Duration, effects: &mut Vec<Effect>) {
        self.reconcile_at = None;
        self.reconciled = now;
        let (Some(policy), Some(inventory)) = (&self.policy, &self.inventory) else {
            if self.policy.is_none() && !self.rejected.is_empty() {
                self.first_pass_over = true;
                self.publish(
                    Snapshot {
                        state: DaemonState::Failed,
                        reason: self.rejected.clone(),
                        ..Snapshot::starting()
                    },
                    effects,
                );
            }
            return;
        };
        let plan = plan(inventory, policy, &self.held);
        hold(&mut self.held, inventory, &plan);
        report_lifted(&mut self.lifted, &plan, effects);
        let waits = self.dispatch(&plan, now, effects);
        let quiet =
            !waits && self.flights.is_quiet() && self.observing.is_empty() && !self.scanning;
        self.first_pass_over |= quiet || ends <= now;
        let (Some(policy), Some(inventory)) = (&self.policy, &self.inventory) else {
            return;
        };
        let view = View {
            policy,
            inventory,
            plan: &plan,
            flights: &self.flights,
            retries: &self.retries,
            first_pass_over: self.first_pass_over,
            rejected: &self.rejected,
        };
        let snapshot = view.snapshot();
        self.publish(snapshot, effects);
    }

    /// Starts what the plan asks for and can start now; says whether anything
    /// of it still waits for a place.
    fn dispatch(&mut self, plan: &Plan, now: Duration, effects: &mut Vec<Effect>) -> bool {
        let mut waits = false;
        let unbound = plan.mappings.values().flat_map(|mapping| {
            let chosen = mapping.functions.iter().filter(|chosen| !chosen.bound);
            let refused = mapping.refusals.iter().map(|refusal| refusal.address);
            chosen.map(|chosen| chosen.address).chain(refused)
        });
        let stale = unbound.filter(|address| self.stale.contains(address));
        let inspect: BTreeSet<_> = plan.inspect.iter().copied().chain(stale).collect();
        for address in inspect {
            if !self.retries.may_start(address, now) {
                continue;
            }
            if !self.flights.admits(address, &Errand::Inspect) {
                waits |= self.flights.get(address).is_none();
                continue;
            }
            let function = self.inventory.as_ref().and_then(|all| all.get(address));
            let serial_known = function
                .and_then(|function| function.inspection.as_ref())
                .is_some_and(|inspection| inspection.serial.is_some());
            self.stale.remove(&address);
            self.flights.start(address, Errand::Inspect, now);
            effects.push(Effect::Inspect {
                address,
                serial_known,
            });
        }
        let actions = if self.dry_run { &[][..] } else { &plan.actions };
        for action in actions {
            let address = action.address;
            let errand = Errand::Apply(action.clone());
            let settled = !self.observing.contains(&address) && !self.stale.contains(&address);
            if !self.retries.may_start(address, now) {
                continue;
            }
            if settled && self.flights.admits(address, &errand) {
                self.flights.start(address, errand, now);
                effects.push(Effect::Apply(action.clone()));
            } else {
                waits |= self.flights.get(address).is_none_or(|flight| !flight.stuck);
            }
        }
        waits
    }

    fn publish(&mut self, mut snapshot: Snapshot, effects: &mut Vec<Effect>) {
        snapshot.generation = self.snapshot.generation;
        if snapshot == *self.snapshot {
            return;
        }
        snapshot.generation += 1;
        for (name, mapping) in &snapshot.mappings {
            let before = self.snapshot.mappings.get(name);
            if before != Some(mapping) {
                effects.push(Effect::Report(Report::Mapping {
                    name: name.clone(),
                    state: mapping.state,
                    reason: mapping.reason.clone(),
                    addresses: mapping.addresses.clone(),
                }));
            }
        }
        self.snapshot = Arc::new(snapshot);
        effects.push(Effect::Publish(Arc::clone(&self.snapshot)));
    }
}

/// Notes what mappings hold now, and forgets what the host has back.
fn hold(held: &mut Held, inventory: &Inventory, plan: &Plan) {
    for addresses in held.values_mut() {
        addresses.retain(|address| {
            let driver = inventory
                .get(*address)
                .and_then(|one| one.driver.as_deref());
            driver.is_some_and(is_vfio_driver)
        });
    }
    for (name, mapping) in &plan.mappings {
        let bound = mapping.functions.iter().filter(|chosen| chosen.bound);
        let addresses = held.entry(name.clone()).or_default();
        addresses.extend(bound.map(|chosen| chosen.address));
    }
}

/// Tells of each lifted guard once, not at every plan.
fn report_lifted(
    told: &mut BTreeSet<(String, Address, &'static str)>,
    plan: &Plan,
    effects: &mut Vec<Effect>,
) {
    for (name, mapping) in &plan.mappings {
        for lifted in &mapping.lifted {
            let guard = lifted.guard.unwrap_or_default();
            if told.insert((name.clone(), lifted.address, guard)) {
                effects.push(Effect::Report(Report::Lifted {
                    mapping: name.clone(),
                    address: lifted.address,
                    guard: guard.to_owned(),
                    text: lifted.reason.clone(),
                }));
            }
        }
    }
}
