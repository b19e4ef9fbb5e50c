//! Reconcile: plan again, start what can start, publish what changed.
//!
//! The second half of [`State`]: `state` takes events in, this lets effects out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    errand::Errand,
    event::Effect,
    project::View,
    report::Report,
    snapshot::{DaemonState, MappingState, Snapshot},
    sriov,
    state::State,
};
use crate::{
    pci::{address::Address, function::is_vfio_driver, inventory::Inventory},
    policy::{
        plan::{Plan, Verdict, plan_around},
        resolve::Held,
    },
};

/// How often it is told how far the work is. Functions are bound by the dozen;
/// each telling wakes the bus and all who listen. What a mapping comes to is
/// told at once.
const TELLING: Duration = Duration::from_secs(1);

impl State {
    pub(super) fn reconcile(&mut self, now: Duration, ends: Duration, effects: &mut Vec<Effect>) {
        self.reconcile_at = None;
        self.reconciled = Some(now);
        // What the host has back must not look bound meanwhile; but a disk that
        // does not answer must not keep all else from being seen.
        let early = self.journal_awaited && now < ends;
        let (Some(policy), Some(inventory), false) = (&self.policy, &self.inventory, early) else {
            let mut snapshot = Snapshot::starting();
            if self.policy.is_none() && !self.rejected.is_empty() {
                self.first_pass_over = true;
                snapshot.state = DaemonState::Failed;
                snapshot.reason.clone_from(&self.rejected);
            }
            // A config that was mended is not wrong until the scan is in.
            self.publish(snapshot, effects);
            return;
        };
        let released = self.undo.released();
        let plan = plan_around(inventory, policy, &self.held, &released);
        hold(&mut self.held, inventory, &plan, &released);
        report_lifted(&mut self.lifted, &plan, effects);
        self.review_vouched();
        self.review_withheld(&released, now, effects);
        // Before anything is bound: udev reads it when a node comes into being.
        self.keep_nodes(&plan, effects);
        let mut waits = self.dispatch(&plan, now, effects);
        waits |= self.review_knobs(&plan, now, effects);
        waits |= self.review_nodes(&plan, now, effects);
        waits |= self.review_sriov(&plan, now, effects);
        self.settle(&plan, now, effects);
        let quiet = !waits
            && self.flights.is_quiet()
            && !self.looks.is_observing()
            && !self.looks.is_scanning();
        let settled = quiet || ends <= now;
        self.first_pass_over |= settled;
        self.look_back(&plan, settled, effects);
        if !quiet && now < self.tell_at && !self.turns(&plan) {
            self.reconcile_at = Some(self.tell_at);
            return;
        }
        self.tell_at = now + TELLING;
        let (Some(policy), Some(inventory)) = (&self.policy, &self.inventory) else {
            return;
        };
        let view = View {
            policy,
            inventory,
            plan: &plan,
            flights: &self.flights,
            retries: &self.retries,
            undo: &self.undo,
            nodes: (!self.dry_run).then_some(&self.nodes),
            sriov: &self.sriov,
            tuning: (!self.dry_run).then_some(&self.tuning),
            claims: &self.claims,
            coldplug: self.coldplug,
            first_pass_over: self.first_pass_over,
            drift: self.drift.as_deref().unwrap_or_default(),
            rejected: &self.rejected,
        };
        let snapshot = view.snapshot();
        self.publish(snapshot, effects);
        // After it was told that the first pass is over.
        self.vouch(&plan, effects);
    }

    /// Starts what the plan asks for and can start now; says whether anything
    /// of it still waits for a place.
    fn dispatch(&mut self, plan: &Plan, now: Duration, effects: &mut Vec<Effect>) -> bool {
        let mut waits = false;
        let live = plan
            .mappings
            .values()
            .filter(|mapping| mapping.verdict != Verdict::Released);
        let unbound = live.flat_map(|mapping| {
            let chosen = mapping.functions.iter().filter(|chosen| !chosen.bound);
            let refused = mapping.refusals.iter().map(|refusal| refusal.address);
            chosen.map(|chosen| chosen.address).chain(refused)
        });
        let inspected = |address: &Address| {
            let function = self.inventory.as_ref().and_then(|all| all.get(*address));
            function.is_some_and(|function| function.inspection.is_some())
        };
        // What is being looked at may turn out to be bound.
        let stale = unbound
            .filter(|address| self.stale.contains(address) && !self.looks.is_at(*address))
            .filter(inspected);
        let inspect: BTreeSet<_> = plan.inspect.iter().copied().chain(stale).collect();
        let variant = self.policy.as_ref();
        let settings = variant.is_some_and(|policy| policy.asks_for_settings());
        let variant = variant.is_some_and(|policy| policy.asks_for_variants());
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
                variant,
                settings,
            });
        }
        let actions = if self.dry_run || self.journal_awaited {
            &[][..]
        } else {
            &plan.actions
        };
        for action in actions {
            let address = action.address;
            if self.waits_for_udev(address) {
                waits = true;
                continue;
            }
            let errand = Errand::Apply(action.clone());
            // Or what was bound just now would be bound again.
            let settled = self.looks.is_seen(address) && !self.stale.contains(&address);
            if !self.retries.may_start(address, now) {
                continue;
            }
            if settled && self.flights.admits(address, &errand) {
                if !action.knobs.is_empty() {
                    self.tuning.touched(address);
                }
                let effect = Effect::Apply(action.clone());
                self.send(address, errand, effect, now, effects);
            } else {
                waits |= self.flights.stuck(address).is_none();
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
            let same_words = before.is_some_and(|before| {
                // How far the work on it is, is not worth a line each time.
                let counts = mapping.state == MappingState::Pending;
                let same = before.reason == mapping.reason && before.addresses == mapping.addresses;
                before.state == mapping.state && (counts || same)
            });
            if !same_words {
                effects.push(Effect::Report(Report::Mapping {
                    name: name.clone(),
                    state: mapping.state,
                    reason: mapping.reason.clone(),
                    addresses: mapping.addresses.clone(),
                }));
            }
        }
        sriov::report(&self.snapshot.plan.sriov, &snapshot.plan.sriov, effects);
        self.snapshot = Arc::new(snapshot);
        effects.push(Effect::Publish(Arc::clone(&self.snapshot)));
    }
}

/// Notes what mappings hold now, and forgets what somebody else gave back to
/// the host. What was given back on request stays its mapping's choice.
fn hold(held: &mut Held, inventory: &Inventory, plan: &Plan, released: &BTreeSet<Address>) {
    for addresses in held.values_mut() {
        addresses.retain(|address| {
            if released.contains(address) {
                return true;
            }
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
