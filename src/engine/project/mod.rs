//! Project: from a plan and what is under way to the snapshot that is published.
//!
//! Pure. Owns what each public state means; `function` has those of functions.

mod function;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::function::lesser;
use super::{
    claims::Claims,
    coldplug::{Coldplug, UDEV_FIRST},
    flight::Flights,
    knobs::Tuning,
    nodes::Nodes,
    retries::Retries,
    snapshot::{Basis, DaemonState, FunctionState, MappingState, MappingView, PfView, Snapshot},
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
pub(in crate::engine) struct View<'a> {
    pub(in crate::engine) policy: &'a Arc<Policy>,
    pub(in crate::engine) inventory: &'a Inventory,
    pub(in crate::engine) plan: &'a Plan,
    pub(in crate::engine) flights: &'a Flights,
    pub(in crate::engine) retries: &'a Retries,
    pub(in crate::engine) undo: &'a Undo,
    /// How far it is with nodes, `None` where nobody sees to them.
    pub(in crate::engine) nodes: Option<&'a Nodes>,
    /// How far it is with PFs and what their VFs are set to.
    pub(in crate::engine) sriov: &'a Sriovs,
    /// The same of settings.
    pub(in crate::engine) tuning: Option<&'a Tuning>,
    pub(in crate::engine) claims: &'a Claims,
    pub(in crate::engine) coldplug: Coldplug,
    pub(in crate::engine) first_pass_over: bool,
    /// What became of functions that mappings had before this boot.
    pub(in crate::engine) drift: &'a [Drift],
    /// Why the last reload was not taken, empty if it was.
    pub(in crate::engine) rejected: &'a str,
}

impl View<'_> {
    pub(in crate::engine) fn snapshot(&self) -> Snapshot {
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
        let out = self.sitting_out(mapping, plan);
        let (state, reason) = match plan.verdict {
            Verdict::Absent => (MappingState::Absent, plan.reason.clone()),
            Verdict::Refused => (MappingState::Refused, plan.reason.clone()),
            Verdict::Pending | Verdict::Ready => self.progress(mapping, plan, &out),
            Verdict::Released => self.way_back(plan),
        };
        MappingView {
            description: mapping.description.clone(),
            state,
            reason,
            addresses: plan.addresses().filter(|one| !out.contains(one)).collect(),
            beside: beside(plan).union(&out).copied().collect(),
            claims: plan.addresses().filter_map(owner).collect(),
            proxmox: mapping.proxmox.clone(),
        }
    }

    /// The worst of what a mapping's functions are at, and the first such one.
    fn progress(
        &self,
        mapping: &Mapping,
        plan: &MappingPlan,
        out: &BTreeSet<Address>,
    ) -> (MappingState, String) {
        let mut unbound = 0_usize;
        let mut worst = (FunctionState::Bound, String::new());
        let wanted = plan.functions.iter();
        for chosen in wanted.filter(|chosen| !out.contains(&chosen.address)) {
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
                if let Some(first) = out.first() {
                    let why = self.inventory.get(*first);
                    let why = why.and_then(|vf| self.sriov.held_back(&self.plan.sriov, vf));
                    reasons.push(format!(
                        "{} left out: {first} {}",
                        out.len(),
                        why.unwrap_or_default()
                    ));
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
}

/// What a mapping has to do with beside its functions.
fn beside(plan: &MappingPlan) -> BTreeSet<Address> {
    let companions = plan.functions.iter().filter(|chosen| chosen.companion);
    let companions = companions.map(|chosen| chosen.address);
    let refused = plan.refusals.iter().map(|refusal| refusal.address);
    companions.chain(refused).collect()
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
