//! Served: whether a mapping can be had by now, or no longer, before that is told.
//!
//! A part of [`State`] as `intake` and `reconcile` are. `project` has the words for
//! the same.

use std::collections::BTreeSet;

use super::{snapshot::MappingState, state::State};
use crate::{
    pci::address::Address,
    policy::{
        model::Mapping,
        plan::{MappingPlan, Plan, Verdict},
    },
};

impl State {
    /// Whether a mapping is bound by now, no longer, or to others, and it was not
    /// told. Whoever starts a guest must not get what is gone.
    pub(super) fn turns(&self, plan: &Plan) -> bool {
        plan.mappings.iter().any(|(name, mapping)| {
            let told = self.snapshot.mappings.get(name);
            let told = told.filter(|told| told.state == MappingState::Bound);
            let wanted = self.policy.as_ref().and_then(|all| all.mappings.get(name));
            let out = wanted.map_or_else(BTreeSet::new, |one| self.sits_out(one, mapping, plan));
            let served: Vec<_> = mapping
                .addresses()
                .filter(|one| !out.contains(one))
                .collect();
            let bound = mapping.verdict == Verdict::Ready
                && mapping.functions.iter().all(|chosen| chosen.bound)
                && wanted.is_some_and(|wanted| self.are_as_wanted(wanted, &served, plan));
            match told {
                Some(told) if bound => served != told.addresses,
                told => bound || told.is_some(),
            }
        })
    }

    /// What a mapping does without for now.
    fn sits_out(&self, wanted: &Mapping, mapping: &MappingPlan, plan: &Plan) -> BTreeSet<Address> {
        match &self.inventory {
            Some(inventory) if !self.dry_run => {
                let sriov = &self.sriov;
                sriov.sitting_out(&plan.sriov, inventory, wanted, mapping)
            }
            _ => BTreeSet::new(),
        }
    }

    /// Whether those who are to open the nodes of these functions can, their settings
    /// are what they are to be, and those that are VFs are set.
    fn are_as_wanted(&self, wanted: &Mapping, served: &[Address], plan: &Plan) -> bool {
        let owned = |address: &Address| {
            let wish = plan.nodes.get(address);
            wish.is_none_or(|wish| self.nodes.are(*address, wish))
        };
        let tuned = |address: &Address| {
            let wish = plan.knobs.get(address);
            wish.is_none_or(|wish| self.tuning.are(*address, wish))
        };
        let set = |address: &Address| {
            let function = self.inventory.as_ref().and_then(|all| all.get(*address));
            function.is_none_or(|one| {
                matches!(self.sriov.waits(&self.flights, &plan.sriov, one), Ok(None))
            })
        };
        self.dry_run
            || ((wanted.ownership.is_empty() || served.iter().all(owned))
                && (wanted.knobs.is_empty() || served.iter().all(tuned))
                && served.iter().all(set))
    }
}
