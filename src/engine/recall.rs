//! Recall: what mappings had before this boot, and what is kept for the next.
//!
//! Nothing is compared, told or kept before the first pass is over: until then
//! serial numbers are missing, and what is bound is not all.

use super::{event::Effect, report::Report, state::State};
use crate::policy::{
    drift::{compare, remember, review},
    plan::Plan,
};

impl State {
    /// `settled` says that nothing is under way, or that it took too long.
    pub(super) fn look_back(&mut self, plan: &Plan, settled: bool, effects: &mut Vec<Effect>) {
        let (Some(memory), Some(policy), Some(inventory)) =
            (self.memory.as_mut(), &self.policy, &self.inventory)
        else {
            return;
        };
        // A host whose functions cannot be listed says nothing of any.
        if inventory.is_empty() || (self.drift.is_none() && !settled) {
            return;
        }
        let before = memory.clone();
        if let Some(drift) = &mut self.drift {
            *drift = review(drift, policy, inventory, plan, memory);
        } else {
            let drift = compare(policy, inventory, plan, memory);
            // Once a boot, not once a start of the daemon.
            if !memory.told {
                effects.extend(drift.iter().map(|one| {
                    Effect::Report(Report::Drifted {
                        mapping: one.mapping.clone(),
                        address: one.address,
                        text: one.text.clone(),
                    })
                }));
            }
            memory.told = true;
            self.drift = Some(drift);
        }
        memory.map = remember(policy, inventory, plan, memory);
        // A dry run is not what the host did.
        if *memory != before && !self.dry_run {
            effects.push(Effect::Remember(memory.clone()));
        }
    }
}
