//! Project: from a plan and what is under way to the snapshot that is published.
//!
//! Pure. Owns what each public state means.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    claims::Claims,
    coldplug::{Coldplug, UDEV_FIRST},
    flight::{Flights, Retries},
    knobs::Tuning,
    nodes::Nodes,
    snapshot::{
        Basis, DaemonState, FunctionState, FunctionView, MappingState, MappingView, PfView,
        Snapshot,
    },
    sriov::Sriovs,
    undo::Undo,
};
use crate::{
    pci::{address::Address, inventory::Inventory},
    policy::{
        drift::Drift,
        model::{Mapping, Policy},
        plan::{Chosen, MappingPlan, Plan, Verdict},
    },
};

/// All that a snapshot is made of.
pub(super) struct View<'a> {
    pub(super) policy: &'a Arc<Policy>,
    pub(super) inventory: &'a Inventory,
    pub(super) plan: &'a Plan,
    pub(super) flights: &'a Flights,
    pub(super) retries: &'a Retries,
    pub(super) undo: &'a Undo,
    /// How far it is with nodes, `None` where nobody sees to them.
    pub(super) nodes: Option<&'a Nodes>,
    /// How far it is with PFs and what their VFs are set to.
    pub(super) sriov: &'a Sriovs,
    /// The same of settings.
    pub(super) tuning: Option<&'a Tuning>,
    pub(super) claims: &'a Claims,
    pub(super) coldplug: Coldplug,
    pub(super) first_pass_over: bool,
    /// What became of functions that mappings had before this boot.
    pub(super) drift: &'a [Drift],
    /// Why the last reload was not taken, empty if it was.
    pub(super) rejected: &'a str,
}

impl View<'_> {
    pub(super) fn snapshot(&self) -> Snapshot {
        let owners = self.claims.owners();
        let mappings: BTreeMap<_, _> = self
            .policy
            .mappings
            .iter()
            .filter_map(|(name, mapping)| {
                let plan = self.plan.mappings.get(name)?;
                Some((name.clone(), self.mapping(mapping, plan, &owners)))
            })
            .collect();
        let pfs = self.pfs();
        let (state, reason) = self.daemon(&mappings, &pfs);
        Snapshot {
            generation: 0,
            state,
            reason,
            iommu: self.inventory.has_iommu(),
            functions: self.functions(&mappings),
            mappings,
            pfs,
            left_over: self.plan.left_over.clone(),
            drift: self
                .drift
                .iter()
                .filter(|drift| self.policy.mappings.contains_key(&drift.mapping))
                .cloned()
                .collect(),
            claims: self.claims.all().to_vec(),
            plan: self.plan.clone(),
            basis: Some(Basis {
                inventory: self.inventory.clone(),
                policy: Arc::clone(self.policy),
            }),
        }
    }

    fn daemon(
        &self,
        mappings: &BTreeMap<String, MappingView>,
        pfs: &BTreeMap<Address, PfView>,
    ) -> (DaemonState, String) {
        let unbound: Vec<_> = mappings
            .iter()
            .filter(|(_, mapping)| mapping.state != MappingState::Bound)
            .map(|(name, mapping)| format!("{name} is {}", mapping.state))
            .chain(self.unready(pfs))
            .collect();
        let mut reason = self.rejected.to_owned();
        if !unbound.is_empty() {
            if !reason.is_empty() {
                reason.push('\n');
            }
            reason += &unbound.join(", ");
        }
        let state = match (self.first_pass_over, unbound.is_empty()) {
            (false, _) => DaemonState::Starting,
            (true, true) => DaemonState::Ready,
            (true, false) => DaemonState::Degraded,
        };
        (state, reason)
    }

    fn mapping(
        &self,
        mapping: &Mapping,
        plan: &MappingPlan,
        owners: &BTreeMap<Address, String>,
    ) -> MappingView {
        let owner = |address| Some((address, owners.get(&address)?.clone()));
        let (state, reason) = match plan.verdict {
            Verdict::Absent => (MappingState::Absent, plan.reason.clone()),
            Verdict::Refused => (MappingState::Refused, plan.reason.clone()),
            Verdict::Pending | Verdict::Ready => self.progress(mapping, plan),
            Verdict::Released => self.way_back(plan),
        };
        MappingView {
            description: mapping.description.clone(),
            state,
            reason,
            addresses: plan.addresses().collect(),
            beside: beside(plan),
            claims: plan.addresses().filter_map(owner).collect(),
            proxmox: mapping.proxmox.clone(),
        }
    }

    /// The worst of what a mapping's functions are at, and the first such one.
    fn progress(&self, mapping: &Mapping, plan: &MappingPlan) -> (MappingState, String) {
        let mut unbound = 0_usize;
        let mut worst = (FunctionState::Bound, String::new());
        for chosen in &plan.functions {
            let (state, reason) = self.chosen(mapping, chosen);
            if !chosen.bound {
                unbound += 1;
            }
            if rank(state) > rank(worst.0) {
                worst = (state, format!("{} {reason}", chosen.address));
            }
        }
        match worst {
            (FunctionState::Bound, _) if plan.verdict == Verdict::Ready => {
                let mut reasons = Vec::new();
                match plan.passed_over() {
                    0 => {}
                    count => reasons.push(format!("{count} passed over")),
                }
                let fell_back = plan.functions.iter().filter(|one| !lesser(one).is_empty());
                match fell_back.count() {
                    0 => {}
                    count => reasons.push(format!("{count} without a variant driver")),
                }
                let far = |one: &&Chosen| one.placed.as_ref().is_some_and(|placed| placed.far);
                match (
                    plan.functions.iter().filter(far).count(),
                    mapping.preference.numa,
                ) {
                    (0, _) | (_, None) => {}
                    (count, Some(node)) => reasons.push(format!("{count} not on node {node}")),
                }
                (MappingState::Bound, reasons.join(", "))
            }
            (FunctionState::Stuck, reason) => (MappingState::Stuck, reason),
            (FunctionState::Refused, reason) => (MappingState::Refused, reason),
            (FunctionState::Failed, reason) => (MappingState::Failed, reason),
            (_, reason) if reason.ends_with(UDEV_FIRST) => (MappingState::Pending, reason),
            (_, reason) if unbound == 0 && plan.verdict == Verdict::Ready => {
                (MappingState::Pending, reason)
            }
            _ if plan.verdict == Verdict::Pending => (MappingState::Pending, plan.reason.clone()),
            _ => (
                MappingState::Pending,
                format!(
                    "{unbound} of {} functions are not bound yet",
                    plan.functions.len()
                ),
            ),
        }
    }

    /// How far a mapping is on its way back to the host.
    fn way_back(&self, plan: &MappingPlan) -> (MappingState, String) {
        let functions = plan.functions.iter();
        let of = |wanted: FunctionState| {
            let mut all = functions
                .clone()
                .map(|chosen| (chosen.address, self.leaving(chosen.address, chosen.bound)));
            let (address, (_, reason)) = all.find(|(_, (state, _))| *state == wanted)?;
            Some(format!("{address} {reason}"))
        };
        if let Some(reason) = of(FunctionState::Stuck) {
            return (MappingState::Stuck, reason);
        }
        if let Some(reason) = of(FunctionState::Pending) {
            return (MappingState::Pending, reason);
        }
        let reason = of(FunctionState::Failed);
        let reason = reason.unwrap_or_else(|| plan.reason.clone());
        (MappingState::Released, reason)
    }

    /// A function of a mapping that is released.
    fn leaving(&self, address: Address, bound: bool) -> (FunctionState, String) {
        let own = self.undo.is_returning(address) || self.undo.trouble(address).is_some();
        match self.function(address, bound) {
            (state, reason)
                if own || matches!(state, FunctionState::Bound | FunctionState::Stuck) =>
            {
                (state, reason)
            }
            _ => {
                let reason = "is left to the host with the rest of its mapping";
                (FunctionState::Released, reason.to_owned())
            }
        }
    }

    pub(super) fn function(&self, address: Address, bound: bool) -> (FunctionState, String) {
        if let Some(flight) = self.flights.get(address).filter(|flight| flight.stuck) {
            let mut reason = format!("does not come back from {}", flight.errand.doing());
            if let Some(first) = flight.holders.first() {
                reason += &format!(": {first}");
            }
            if flight.holders.len() > 1 {
                reason += &format!(" (and {} more)", flight.holders.len() - 1);
            }
            return (FunctionState::Stuck, reason);
        }
        if self.undo.is_returning(address) {
            let reason = "is being given back".to_owned();
            return (FunctionState::Pending, reason);
        }
        match self.undo.trouble(address) {
            Some("") => return (FunctionState::Released, "was given back".to_owned()),
            Some(text) => {
                let reason = format!("was not given back: {text}");
                return (FunctionState::Failed, reason);
            }
            None => {}
        }
        if bound {
            return (FunctionState::Bound, String::new());
        }
        match self.retries.get(address) {
            Some(retry) if retry.refused => (FunctionState::Refused, retry.text.clone()),
            Some(retry) => (FunctionState::Failed, retry.text.clone()),
            None if self.waits_for_udev(address) => (FunctionState::Pending, UDEV_FIRST.to_owned()),
            None => (FunctionState::Pending, "is not bound yet".to_owned()),
        }
    }

    fn functions(
        &self,
        mappings: &BTreeMap<String, MappingView>,
    ) -> BTreeMap<Address, FunctionView> {
        let mut views: BTreeMap<Address, FunctionView> = BTreeMap::new();
        let mut add = |address: Address, name: Option<&String>, state, reason: String| {
            let Some(function) = self.inventory.get(address) else {
                return;
            };
            let view = views.entry(address).or_insert_with(|| FunctionView {
                function: function.clone(),
                mappings: Vec::new(),
                state,
                reason,
            });
            view.mappings.extend(name.cloned());
        };
        for name in mappings.keys() {
            let (Some(plan), Some(mapping)) =
                (self.plan.mappings.get(name), self.policy.mappings.get(name))
            else {
                continue;
            };
            for chosen in &plan.functions {
                let (state, reason) = match plan.verdict {
                    Verdict::Released => self.leaving(chosen.address, chosen.bound),
                    _ => match self.chosen(mapping, chosen) {
                        (FunctionState::Bound, _) => (FunctionState::Bound, lesser(chosen)),
                        other => other,
                    },
                };
                add(chosen.address, Some(name), state, reason);
            }
            for refusal in &plan.refusals {
                let state = FunctionState::Refused;
                add(refusal.address, Some(name), state, refusal.reason.clone());
            }
        }
        for address in &self.plan.left_over {
            let (state, reason) = match self.function(*address, true) {
                (FunctionState::Bound, _) => {
                    let reason = "is left over: no mapping wants it any more".to_owned();
                    (FunctionState::Bound, reason)
                }
                other => other,
            };
            add(*address, None, state, reason);
        }
        views
    }
}

/// What is said of a bound function that has vfio-pci although there may be a
/// better driver; empty of the others.
fn lesser(chosen: &Chosen) -> String {
    let pick = chosen.driver.as_ref().filter(|pick| pick.fell_back);
    pick.map_or_else(String::new, |pick| {
        format!("has {}: {}", pick.driver, pick.why)
    })
}

/// What a mapping has to do with beside its functions.
fn beside(plan: &MappingPlan) -> Vec<Address> {
    let companions = plan.functions.iter().filter(|chosen| chosen.companion);
    let companions = companions.map(|chosen| chosen.address);
    let refused = plan.refusals.iter().map(|refusal| refusal.address);
    let all: BTreeSet<_> = companions.chain(refused).collect();
    all.into_iter().collect()
}

fn rank(state: FunctionState) -> u8 {
    match state {
        FunctionState::Bound => 0,
        FunctionState::Released => 1,
        FunctionState::Pending => 2,
        FunctionState::Failed => 3,
        FunctionState::Refused => 4,
        FunctionState::Stuck => 5,
    }
}
