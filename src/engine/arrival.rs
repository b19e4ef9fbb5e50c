//! Arrival: functions that are plugged in, whose native driver udev holds back
//! until it is clear whether a mapping has them.
//!
//! A part of [`State`] as `intake` and `reconcile` are. Owns when nothing more is
//! to be waited for; how long udev waits at most is not decided here.

use std::{collections::BTreeSet, time::Duration};

use super::{event::Effect, state::State};
use crate::{
    pci::address::Address,
    policy::plan::{Plan, Verdict},
};

impl State {
    /// udev waits for the function. What comes before the first pass is over
    /// belongs to the boot: the host may need it, and nobody waits.
    pub(super) fn arrived(&mut self, address: Address, effects: &mut Vec<Effect>) {
        if self.dry_run || self.policy.is_none() || !self.first_pass_over {
            effects.push(Effect::Settled(address));
            return;
        }
        self.awaited.insert(address);
        // Whoever tells first, the kernel or udev: it was not looked at since.
        self.changed(address, effects);
    }

    /// Lets udev go on with what nothing is to be done to, after what could
    /// start was started.
    pub(super) fn settle(&mut self, plan: &Plan, now: Duration, effects: &mut Vec<Effect>) {
        let awaited = std::mem::take(&mut self.awaited);
        let (open, settled) = awaited
            .into_iter()
            .partition(|address| self.is_open(*address, plan, now));
        self.awaited = open;
        effects.extend(BTreeSet::into_iter(settled).map(Effect::Settled));
    }

    /// Whether something is under way at the function, or about to be. One that
    /// is stuck or waits to be tried again may take any time, and one that waits
    /// for udev would wait for the very event.
    fn is_open(&self, address: Address, plan: &Plan, now: Duration) -> bool {
        if !self.looks.is_seen(address) {
            return true;
        }
        if let Some(flight) = self.flights.get(address) {
            return !flight.stuck;
        }
        let mut pending = plan
            .mappings
            .values()
            .filter(|mapping| mapping.verdict == Verdict::Pending);
        let wanted = plan.inspect.contains(&address)
            || plan.actions.iter().any(|action| action.address == address)
            || pending.any(|mapping| mapping.chooses(address));
        wanted && self.retries.may_start(address, now) && !self.waits_for_udev(address)
    }
}
