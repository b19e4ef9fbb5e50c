//! Late: what does not come back, in this daemon or from the one before, until
//! it does.
//!
//! A part of [`State`] as `intake` and `reconcile` are. Starts nothing for a
//! function that is stuck but the look who holds it.

use std::time::Duration;

use super::{
    errand::Errand,
    event::{Effect, Unfinished},
    report::Report,
    state::State,
};
use crate::pci::address::Address;

impl State {
    /// Sends a helper for an errand that writes to a function, and has it kept
    /// that it does.
    pub(super) fn send(
        &mut self,
        address: Address,
        errand: Errand,
        effect: Effect,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let unfinished = unfinished(&errand, false);
        self.flights.start(address, errand, now);
        effects.push(effect);
        effects.push(Effect::Unfinished(address, unfinished));
    }

    /// Takes back an errand, and tells if it was late.
    pub(super) fn land(&mut self, address: Address, effects: &mut Vec<Effect>) -> Option<Errand> {
        let flight = self.flights.finish(address)?;
        if flight.stuck {
            effects.push(Effect::Report(Report::CameBack { address }));
        }
        if flight.stuck || flight.errand.writes() {
            effects.push(Effect::Finished(address));
        }
        Some(flight.errand)
    }

    /// Marks what is past its deadline, and has somebody look why.
    pub(super) fn expire(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let late = self.flights.expire(now);
        if late.is_empty() {
            return;
        }
        for (address, errand) in late {
            let unfinished = unfinished(&errand, true);
            effects.push(Effect::Report(Report::Stuck {
                address,
                doing: unfinished.doing.clone(),
            }));
            effects.push(Effect::Unfinished(address, unfinished));
            if errand.is_held_up() {
                effects.push(Effect::FindHolders(address));
            }
            if matches!(errand, Errand::Restore { .. }) {
                self.return_is_late(address);
            }
        }
        self.tell_at = now;
        self.reconcile_at = Some(now);
    }

    /// Has a helper look once more for those who hold what is stuck.
    pub(super) fn find_holders(&mut self, effects: &mut Vec<Effect>) {
        let stuck = self.flights.ask_for_holders().into_iter();
        effects.extend(stuck.map(Effect::FindHolders));
    }

    /// Helpers of an earlier daemon are still at these.
    pub(super) fn take_over(&mut self, all: Vec<(Address, Unfinished)>, now: Duration) {
        for (address, unfinished) in all {
            self.flights.take_over(address, unfinished, now);
        }
    }

    /// A helper of an earlier daemon ended; how, only the kernel knows.
    pub(super) fn finished(&mut self, address: Address, now: Duration, effects: &mut Vec<Effect>) {
        let flight = self.flights.get(address);
        if !flight.is_some_and(|one| matches!(one.errand, Errand::Former { .. })) {
            return;
        }
        self.land(address, effects);
        self.stale.insert(address);
        self.observe(address, effects);
        self.reconcile_at = Some(now);
    }
}

fn unfinished(errand: &Errand, late: bool) -> Unfinished {
    Unfinished {
        doing: errand.doing(),
        group: errand.group(),
        makes_vfs: errand.makes_vfs(),
        late,
    }
}
