//! Nodes: who may open the nodes of what is bound, before it is told as bound.
//!
//! A part of [`State`] as `intake` and `reconcile` are. udev is left what is
//! wanted before anything is bound, so that a node comes into being as it is to
//! be; helpers look that it is, after each bind and from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    errand::Errand,
    event::{Effect, Owned},
    project::View,
    report::Report,
    snapshot::FunctionState,
    state::State,
};
use crate::{
    pci::{address::Address, function::is_vfio_driver, inventory::Inventory},
    policy::{
        model::Mapping,
        ownership::Ownership,
        plan::{Chosen, Plan},
    },
};

/// What is left for udev.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By IOMMU group.
    pub groups: BTreeMap<u32, Ownership>,
    /// By function, of the nodes that the kernel makes for each.
    pub functions: BTreeMap<Address, Ownership>,
}

impl Rules {
    fn new(inventory: &Inventory, plan: &Plan) -> Self {
        let group = |address: &Address| inventory.get(*address)?.iommu_group;
        let groups = plan.nodes.iter();
        let groups = groups.filter_map(|(address, wish)| Some((group(address)?, wish.clone())));
        Self {
            groups: groups.collect(),
            functions: plan.nodes.clone(),
        }
    }
}

/// How far it is with nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// What was left for udev last, `None` before that was ever done.
    told: Option<Rules>,
    /// As what nodes were found, or made.
    settled: BTreeMap<Address, Ownership>,
    /// Of these, the ones that may be otherwise by now.
    stale: BTreeSet<Address>,
}

impl Nodes {
    /// Whether the function's nodes are so, as far as is known.
    pub(super) fn are(&self, address: Address, wanted: &Ownership) -> bool {
        self.settled.get(&address) == Some(wanted)
    }

    /// Something about the function is new.
    pub(super) fn changed(&mut self, address: Address) {
        self.stale.insert(address);
    }

    /// The function went, and its nodes with it.
    pub(super) fn forget(&mut self, address: Address) {
        self.settled.remove(&address);
        self.stale.remove(&address);
    }

    /// Somebody may have changed any of them.
    pub(super) fn look_again(&mut self) {
        self.stale.extend(self.settled.keys());
    }
}

impl State {
    /// Leaves for udev what the plan wants of nodes.
    pub(super) fn keep_nodes(&mut self, plan: &Plan, effects: &mut Vec<Effect>) {
        let (Some(inventory), false) = (&self.inventory, self.dry_run) else {
            return;
        };
        let rules = Rules::new(inventory, plan);
        if self.nodes.told.as_ref() != Some(&rules) {
            self.nodes.told = Some(rules.clone());
            effects.push(Effect::KeepNodes(rules));
        }
    }

    /// Sends helpers to the nodes of what is bound; says whether anything still
    /// waits for a place.
    pub(super) fn review_nodes(
        &mut self,
        plan: &Plan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let (Some(inventory), false) = (&self.inventory, self.dry_run) else {
            return false;
        };
        let on_vfio = |address: &Address| {
            let function = inventory.get(*address);
            let driver = function.and_then(|function| function.driver.as_deref());
            driver.is_some_and(is_vfio_driver)
        };
        let nodes = &mut self.nodes;
        let kept = |address: &Address| plan.nodes.contains_key(address) && on_vfio(address);
        nodes.settled.retain(|address, _| kept(address));
        nodes.stale.retain(kept);
        let mut waits = false;
        for (address, wanted) in plan.nodes.iter().filter(|(address, _)| on_vfio(address)) {
            let address = *address;
            let settled = nodes.are(address, wanted) && !nodes.stale.contains(&address);
            // What is being looked at may turn out to be unbound.
            let known = self.looks.is_seen(address);
            if settled || !self.retries.may_start(address, now) {
                continue;
            }
            let errand = Errand::Own(wanted.clone());
            if known && self.flights.admits(address, &errand) {
                nodes.stale.remove(&address);
                self.flights.start(address, errand, now);
                effects.push(Effect::Own(address, wanted.clone()));
            } else {
                waits |= self.flights.stuck(address).is_none();
            }
        }
        waits
    }

    /// A helper is done with a function's nodes.
    pub(super) fn owned(
        &mut self,
        address: Address,
        owned: Owned,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Errand::Own(ownership)) = self.land(address, effects) else {
            return;
        };
        match owned {
            Owned::Set(nodes) => {
                self.retries.forget(address);
                if !nodes.is_empty() {
                    let ownership = ownership.clone();
                    effects.push(Effect::Report(Report::Owned {
                        address,
                        nodes,
                        ownership,
                    }));
                }
                self.nodes.settled.insert(address, ownership);
            }
            Owned::Unbound => {
                self.nodes.forget(address);
                self.observe(address, effects);
            }
            Owned::Failed(text) => {
                self.nodes.settled.remove(&address);
                let why = format!("is bound, and its nodes are not {ownership}: {text}");
                let wait = self.retries.failed(address, now, why, false);
                effects.push(Effect::Report(Report::NotOwned {
                    address,
                    ownership,
                    text,
                    retry_in_secs: wait.as_secs(),
                }));
            }
        }
        self.reconcile_at = Some(now);
    }
}

impl View<'_> {
    /// A function that `mapping` chose, with its settings, with its nodes if that wants
    /// something of them, for who cannot open them has nothing of it, and with what a
    /// VF is set to.
    pub(super) fn chosen(&self, mapping: &Mapping, chosen: &Chosen) -> (FunctionState, String) {
        let address = chosen.address;
        let mut found = self.function(address, chosen.bound);
        if found.0 == FunctionState::Bound
            && let Some(untuned) = self.untuned(mapping, chosen)
        {
            found = untuned;
        }
        let wanted = self.plan.nodes.get(&address);
        let wanted = wanted.filter(|_| !chosen.companion && !mapping.ownership.is_empty());
        match (wanted, self.nodes) {
            (Some(wanted), Some(nodes))
                if found.0 == FunctionState::Bound && !nodes.are(address, wanted) =>
            {
                match self.retries.get(address) {
                    Some(retry) => (FunctionState::Failed, retry.text.clone()),
                    None => {
                        let reason = format!("is bound, and its nodes get {wanted}");
                        (FunctionState::Pending, reason)
                    }
                }
            }
            _ => self.with_settings(address, found),
        }
    }
}
