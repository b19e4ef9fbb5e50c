//! What is done to PFs and their VFs: when a helper is sent, and for what.
//!
//! A part of [`State`] as `intake` and `reconcile` are; `making` and `setting` have
//! what is sent and what comes of it.

use std::{collections::BTreeMap, time::Duration};

use super::present;
use crate::{
    engine::{coldplug::Coldplug, event::Effect, state::State},
    pci::{address::Address, function::Role},
    policy::{
        plan::Plan,
        sriov::{PfPlan, Standing},
    },
};

impl State {
    /// Sends helpers to PFs that are not as they are to be; says whether anything
    /// waits for its turn.
    pub(in crate::engine) fn review_sriov(
        &mut self,
        plan: &Plan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if self.dry_run || self.journal_awaited {
            return false;
        }
        self.sriov.keep_only(&plan.sriov);
        // A driver that makes VFs is loaded by udev, and so is what names its interface.
        let driverless = |pf: &PfPlan| matches!(pf.standing, Standing::Waiting(_));
        let awaited = !plan.sriov.absent.is_empty() || plan.sriov.pfs.values().any(driverless);
        let mut waits = awaited && self.coldplug != Coldplug::Over;
        for (address, pf) in &plan.sriov.pfs {
            waits |= self.review_pf(*address, pf, now, effects);
        }
        waits
    }

    fn review_pf(
        &mut self,
        address: Address,
        pf: &PfPlan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if pf.standing == Standing::Make && self.sriov.is_all(address, pf).is_none() {
            match self.hindrance(address, pf) {
                None => {
                    self.sriov.hindered.remove(&address);
                    if self.sriov.makes.may_start(address, now) {
                        return self.make_vfs(address, pf, now, effects);
                    }
                }
                // Those that there are stay, and are still to be right.
                Some(text) => self.hindered(address, text, effects),
            }
        } else {
            self.sriov.hindered.remove(&address);
            self.sriov.makes.forget(address);
        }
        // What is wrong with it may be just what would be set.
        let settings = match pf.standing {
            Standing::Refused(_) => BTreeMap::new(),
            _ => present(pf),
        };
        let stale = self.sriov.stale.contains(&address);
        if settings.is_empty() || (self.sriov.is_settled(address, pf) && !stale) {
            if settings.is_empty() {
                self.sriov.settled.remove(&address);
                self.sriov.stale.remove(&address);
            }
            self.sriov.sets.forget(address);
            return false;
        }
        self.settle_vfs(address, pf, settings, now, effects)
    }

    /// Why nobody is to get the function now: as a VF it may be about to go, or it is
    /// not set for whoever comes next.
    pub(in crate::engine) fn unfit(&self, address: Address) -> Option<String> {
        let function = self.inventory.as_ref()?.get(address)?;
        let Role::Vf { pf, .. } = function.role else {
            return None;
        };
        if self.flights.is_making_vfs(pf) {
            let flight = self.flights.get(pf)?;
            let doing = flight.errand.doing();
            return Some(format!("{address} may go: its PF {pf} is {doing}"));
        }
        self.unset(address)
    }

    /// Why the function is not as whoever comes next is to find it, if it is a VF.
    pub(in crate::engine) fn unset(&self, address: Address) -> Option<String> {
        let function = self.inventory.as_ref()?.get(address)?;
        let text = self.sriov.held_back(&self.snapshot.plan.sriov, function)?;
        Some(format!("{address} {text}"))
    }

    /// A function went: if it was a VF, its PF has it no more, which the kernel tells
    /// of none but those that come (drivers/pci/iov.c, `sriov_disable`, v6.12).
    pub(in crate::engine) fn lost_by_its_pf(
        &mut self,
        address: Address,
        effects: &mut Vec<Effect>,
    ) {
        let function = self.inventory.as_ref().and_then(|all| all.get(address));
        let Some(Role::Vf { pf, .. }) = function.map(|one| one.role.clone()) else {
            return;
        };
        self.look_at(pf, effects);
    }

    /// The entry of the config that the PF belongs to.
    pub(super) fn sriov_name(&self, pf: Address) -> String {
        let plan = self.snapshot.plan.sriov.pfs.get(&pf);
        plan.map(|plan| plan.name.clone()).unwrap_or_default()
    }
}
