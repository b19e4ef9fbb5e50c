//! Vouch: which bound functions the early stage of the next boot may take
//! before their drivers come.
//!
//! Owns who is vouched for: a function that this boot took from its native
//! driver with no use of it found, or that was vouched for before and stayed
//! bound since. What a guard held that `allow` lifted is not vouched for, nor
//! is what had no driver: there was nothing to be seen idle.

use std::collections::{BTreeMap, BTreeSet};

use super::{event::Effect, state::State};
use crate::{
    pci::{address::Address, function::is_vfio_driver},
    policy::{
        early::Known,
        plan::{Plan, Verdict},
    },
};

/// The functions that are vouched for.
#[derive(Debug, Default)]
pub(super) struct Vouched {
    known: BTreeMap<Address, Known>,
    told: Option<Vec<Known>>,
}

impl Vouched {
    /// These were vouched for earlier; what this daemon found itself counts more.
    pub(super) fn recall(&mut self, known: Vec<Known>) {
        for one in known {
            self.known.entry(one.address).or_insert(one);
        }
    }

    /// Another function is at `address`, or none.
    pub(super) fn forget(&mut self, address: Address) {
        self.known.remove(&address);
    }
}

impl State {
    /// The function at `address` was taken `from` this driver just now. Asked
    /// before it is forgotten what that was seen to be used for. pci-stub is no
    /// driver that uses anything: without it another one may.
    pub(super) fn vouch_for(&mut self, address: Address, from: Option<&str>) {
        let native = from.is_some_and(|driver| driver != "pci-stub");
        let inventory = self.inventory.as_ref().filter(|_| native);
        let function = inventory.and_then(|all| all.get(address));
        let idle = function.filter(|function| {
            let inspection = function.inspection.as_ref();
            inspection.is_some_and(|inspection| inspection.usage.is_empty())
        });
        match idle {
            Some(function) => {
                self.vouched.known.insert(address, Known::of(function));
            }
            None => self.vouched.forget(address),
        }
    }

    /// Forgets what is not bound any more, or not the same.
    pub(super) fn review_vouched(&mut self) {
        let Some(inventory) = &self.inventory else {
            return;
        };
        self.vouched.known.retain(|address, known| {
            // It was bound just now, and that is not seen yet.
            if !self.looks.is_seen(*address) {
                return true;
            }
            let function = inventory.get(*address);
            function.is_some_and(|function| {
                let driver = function.driver.as_deref();
                known.is_like(function) && driver.is_some_and(is_vfio_driver)
            })
        });
    }

    /// Has it kept who is vouched for, if that is something new.
    pub(super) fn vouch(&mut self, plan: &Plan, effects: &mut Vec<Effect>) {
        if !self.first_pass_over || self.dry_run || self.journal_awaited {
            return;
        }
        let ready = plan.mappings.values();
        let bound: BTreeSet<_> = ready
            .filter(|mapping| mapping.verdict == Verdict::Ready)
            .flat_map(|mapping| &mapping.functions)
            .filter(|chosen| chosen.bound)
            .map(|chosen| chosen.address)
            .collect();
        let known = self.vouched.known.values();
        let known: Vec<_> = known
            .filter(|one| bound.contains(&one.address))
            .cloned()
            .collect();
        if self.vouched.told.as_ref() != Some(&known) {
            self.vouched.told = Some(known.clone());
            effects.push(Effect::Vouch(known));
        }
    }
}
