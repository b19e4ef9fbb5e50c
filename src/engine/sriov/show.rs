//! What is published of PFs, and of VFs that still wait for their settings.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::{
        event::Effect,
        project::View,
        report::Report,
        snapshot::{FunctionState, PfState, PfView},
    },
    pci::address::Address,
    policy::{
        model::Mapping,
        plan::MappingPlan,
        sriov::{PfPlan, SriovPlan, Standing},
    },
};

impl View<'_> {
    /// PFs that are to have VFs.
    pub(in crate::engine) fn pfs(&self) -> BTreeMap<Address, PfView> {
        let pfs = self.plan.sriov.pfs.iter();
        pfs.map(|(address, pf)| (*address, self.pf(*address, pf)))
            .collect()
    }

    fn pf(&self, address: Address, pf: &PfPlan) -> PfView {
        let (state, reason) = self.standing(address, pf);
        let function = self.inventory.get(address);
        let settings = pf.settings.iter();
        PfView {
            name: pf.name.clone(),
            state,
            reason,
            driver: function.and_then(|function| function.driver.clone()),
            wanted: pf.wanted,
            total: pf.total,
            vfs: pf.vfs.clone(),
            settings: settings
                .map(|(index, one)| (*index, one.to_string()))
                .collect(),
        }
    }

    fn standing(&self, address: Address, pf: &PfPlan) -> (PfState, String) {
        if let Some(flight) = self.flights.stuck(address) {
            return (PfState::Stuck, flight.stuck_words());
        }
        match &pf.standing {
            Standing::Refused(text) => return (PfState::Refused, text.clone()),
            Standing::Waiting(text) => return (PfState::Pending, text.clone()),
            Standing::Right | Standing::Make => {}
        }
        if let Some(text) = self.sriov.hindrance(address) {
            return (PfState::Refused, text);
        }
        let retry = self.sriov.makes.get(address);
        if let Some(retry) = retry.or_else(|| self.sriov.sets.get(address)) {
            let waits = || self.sriov.only_waits(address, pf);
            let state = if retry.refused {
                PfState::Refused
            } else if self.sriov.makes.get(address).is_none() && waits() {
                PfState::Pending
            } else {
                PfState::Failed
            };
            return (state, retry.text.clone());
        }
        if let Some(why) = self.sriov.is_all(address, pf) {
            let reason = format!("has {} of {} VFs: {why}", pf.vfs.len(), pf.wanted);
            return (PfState::Failed, reason);
        }
        if self.sriov.is_right(address, pf) {
            return (PfState::Ready, String::new());
        }
        let reason = match pf.standing {
            Standing::Right => "has its VFs, which are being set".to_owned(),
            _ => pf.words(),
        };
        (PfState::Pending, reason)
    }

    /// What keeps the daemon from being ready, a clause each.
    pub(in crate::engine) fn unready(
        &self,
        pfs: &BTreeMap<Address, PfView>,
    ) -> impl Iterator<Item = String> {
        let absent = self.plan.sriov.absent.iter();
        let absent = absent.map(|name| format!("sriov {name} is absent"));
        let pfs = pfs.iter().filter(|(_, pf)| pf.state != PfState::Ready);
        let pfs: Vec<_> = pfs
            .map(|(address, pf)| format!("sriov {} of {address} is {}", pf.name, pf.state))
            .collect();
        absent.chain(pfs)
    }

    /// What a mapping does without for now.
    pub(in crate::engine) fn sitting_out(
        &self,
        mapping: &Mapping,
        planned: &MappingPlan,
    ) -> BTreeSet<Address> {
        // A dry run sets nothing.
        if self.nodes.is_none() {
            return BTreeSet::new();
        }
        let (plan, inventory) = (&self.plan.sriov, self.inventory);
        self.sriov.sitting_out(plan, inventory, mapping, planned)
    }

    /// A function that a mapping has, with what it is set to if it is a VF: nobody is
    /// to get one before.
    pub(in crate::engine) fn with_settings(
        &self,
        address: Address,
        found: (FunctionState, String),
    ) -> (FunctionState, String) {
        // A dry run sets nothing.
        let function = self.nodes.and_then(|_| self.inventory.get(address));
        let Some(function) = function.filter(|_| found.0 == FunctionState::Bound) else {
            return found;
        };
        match self.sriov.waits(self.flights, &self.plan.sriov, function) {
            Ok(None) => found,
            Ok(Some(reason)) => (FunctionState::Pending, reason),
            Err(reason) => (FunctionState::Failed, reason),
        }
    }
}

/// Tells of PFs with which nothing can be done, and of entries without one.
pub(in crate::engine) fn report(old: &SriovPlan, new: &SriovPlan, effects: &mut Vec<Effect>) {
    for name in new.absent.difference(&old.absent) {
        effects.push(Effect::Report(Report::NoPf { name: name.clone() }));
    }
    for (address, pf) in &new.pfs {
        let before = old.pfs.get(address).map(|pf| &pf.standing);
        match &pf.standing {
            Standing::Refused(text) | Standing::Waiting(text) if before != Some(&pf.standing) => {
                effects.push(Effect::Report(Report::VfsNotMade {
                    pf: *address,
                    name: pf.name.clone(),
                    text: text.clone(),
                    retry_in_secs: None,
                }));
            }
            _ => {}
        }
    }
}
