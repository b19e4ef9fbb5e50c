//! Explains a function: what each mapping makes of it, what guards it, who
//! shares its IOMMU group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Against, Brief, Deed, InSriov, Live, Outcome, Standing, Trial, against, picked, placed, sriov,
    standing,
};
use crate::{
    pci::{address::Address, function::Function, inventory::Inventory},
    policy::{
        guard::{is_bridge, static_objections, usage_objections},
        judge::keeps_group,
        knobs::{self, Knobs},
        model::{Extent, Mapping, Policy},
        placement::Placed,
        plan::{MappingPlan, Plan, Verdict},
        resolve::wanted,
        selector::{Candidate, Selector},
        variant::Pick,
    },
};

/// All that can be said of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfFunction {
    /// Its facts, as a recorded host has them; without an inspection nobody
    /// has looked at its override, its serial number and its use.
    pub function: Function,
    /// The selectors of `[protect]` that match it, or may.
    pub protected: Vec<Trial>,
    /// What each mapping makes of it.
    pub mappings: BTreeMap<String, InMapping>,
    /// The guards that it raises, whatever wants it.
    pub guards: Vec<GuardSeen>,
    /// What `[sriov]` makes of it, `None` if that says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sriov: Option<InSriov>,
    /// Its IOMMU group.
    pub group: Option<Group>,
    /// What would be done to it.
    pub action: Option<Deed>,
    /// Whether it is still bound and no mapping wants it any more.
    pub left_over: bool,
    /// What a running daemon adds.
    pub live: Option<Live>,
}

/// What a mapping makes of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InMapping {
    /// How its selectors see the function.
    pub relation: Relation,
    /// Each selector of `match`, term by term.
    pub matches: Vec<Trial>,
    /// The selectors of `exclude` that match it, or may.
    pub excluded_by: Vec<Trial>,
    /// What became of it, `None` if the mapping does not match it.
    pub standing: Option<Standing>,
    /// Why, empty if what is against it says so.
    pub why: String,
    /// What speaks against it here.
    pub against: Vec<Against>,
    /// Which driver it gets here, where the mapping leaves that open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picked: Option<Pick>,
    /// Why it was preferred, where the mapping takes a part of what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
    /// What it wants of its settings.
    #[serde(default, skip_serializing_if = "Knobs::is_empty")]
    pub wants: Knobs,
    /// What becomes of the mapping as a whole.
    pub verdict: Verdict,
    /// One clause why.
    pub reason: String,
}

/// How a mapping's selectors see a function, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// One of them matches.
    Matched,
    /// One of them matches another function of its slot, and the mapping takes
    /// whole slots.
    SameSlot,
    /// One of them matches another function of its IOMMU group, and the mapping
    /// takes companions.
    SameGroup,
    /// One of them matches, and one of `exclude` too.
    Excluded,
    /// It depends on a serial number that was not read.
    Unknown,
    /// One of them nearly matches.
    Near,
    /// None does.
    Far,
}

/// A guard that a function raises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardSeen {
    /// Its name, `None` if nothing lifts it.
    pub guard: Option<String>,
    /// The evidence, as a clause that follows the address.
    pub reason: String,
    /// The mappings that want the function and lift the guard.
    pub lifted_by: Vec<String>,
}

/// An IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// Its other members.
    pub members: Vec<Member>,
}

/// Another member of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The function.
    #[serde(flatten)]
    pub function: Brief,
    /// Whether it is a bridge, which vfio does not mind.
    pub bridge: bool,
    /// Whether its driver keeps the group from virtual machines.
    pub keeps_group: bool,
    /// The mappings that choose it.
    pub mappings: Vec<String>,
}

pub(super) fn explain(
    inventory: &Inventory,
    policy: &Policy,
    plan: &Plan,
    function: &Function,
) -> OfFunction {
    let candidate = Candidate::new(function, inventory);
    let mappings: BTreeMap<_, _> = policy
        .mappings
        .iter()
        .filter_map(|(name, mapping)| {
            let planned = plan.mappings.get(name)?;
            let told = in_mapping(inventory, mapping, planned, &candidate);
            Some((name.clone(), told))
        })
        .collect();
    OfFunction {
        function: function.clone(),
        protected: holding(&policy.protect, &candidate),
        guards: guards(policy, &mappings, function),
        mappings,
        sriov: sriov::explain(plan, function),
        group: function.iommu_group.map(|number| Group {
            number,
            members: members(inventory, plan, number, function.address),
        }),
        action: Deed::on(plan, function.address),
        left_over: plan.left_over.contains(&function.address),
        live: None,
    }
}

/// The trials of those of `selectors` that match, or may.
fn holding(selectors: &[Selector], candidate: &Candidate<'_>) -> Vec<Trial> {
    let trials = selectors.iter().map(|one| Trial::of(one, candidate));
    trials
        .filter(|trial| matches!(trial.outcome, Outcome::Holds | Outcome::Unknown))
        .collect()
}

fn in_mapping(
    inventory: &Inventory,
    mapping: &Mapping,
    planned: &MappingPlan,
    candidate: &Candidate<'_>,
) -> InMapping {
    let trials = mapping.matches.iter().map(|one| Trial::of(one, candidate));
    let matches: Vec<_> = trials.collect();
    let excluded_by = holding(&mapping.exclude, candidate);
    let address = candidate.function().address;
    let relation = match relation(inventory, mapping, candidate, &matches, &excluded_by) {
        Relation::Near | Relation::Far if planned.chooses(address) => Relation::SameGroup,
        relation => relation,
    };
    let (standing, why) = match relation {
        Relation::Matched | Relation::SameSlot | Relation::SameGroup => {
            let (standing, why) = standing(planned, address);
            (Some(standing), why)
        }
        _ => (None, String::new()),
    };
    InMapping {
        relation,
        matches,
        excluded_by,
        standing,
        why,
        against: against(planned, address),
        picked: picked(planned, address),
        placed: placed(planned, address),
        wants: knobs::of(mapping, inventory, address)
            .cloned()
            .unwrap_or_default(),
        verdict: planned.verdict,
        reason: planned.reason.clone(),
    }
}

fn relation(
    inventory: &Inventory,
    mapping: &Mapping,
    candidate: &Candidate<'_>,
    matches: &[Trial],
    excluded_by: &[Trial],
) -> Relation {
    let any = |trials: &[Trial], outcome| trials.iter().any(|trial| trial.outcome == outcome);
    let excluded = any(excluded_by, Outcome::Holds);
    match wanted(mapping, candidate) {
        Ok(Some(_)) => return Relation::Matched,
        Err(_) => return Relation::Unknown,
        Ok(None) => {}
    }
    // What is out by `exclude` needs no serial number to be read.
    let matched = any(matches, Outcome::Holds) || any(matches, Outcome::Unknown);
    let slot = candidate.function().address.slot();
    let with_slot = mapping.extent == Extent::Slot
        && inventory.slot(slot).any(|other| {
            let other = Candidate::new(other, inventory);
            matches!(wanted(mapping, &other), Ok(Some(_)))
        });
    if (matched || with_slot) && excluded {
        Relation::Excluded
    } else if with_slot && !excluded_by.is_empty() {
        Relation::Unknown
    } else if with_slot {
        Relation::SameSlot
    } else if any(matches, Outcome::Near) {
        Relation::Near
    } else {
        Relation::Far
    }
}

fn guards(
    policy: &Policy,
    mappings: &BTreeMap<String, InMapping>,
    function: &Function,
) -> Vec<GuardSeen> {
    let mut objections = static_objections(function);
    if let Some(inspection) = &function.inspection {
        objections.extend(usage_objections(&inspection.usage));
    }
    let wants = |name: &String| {
        mappings
            .get(name)
            .is_some_and(|one| one.standing.is_some_and(|one| one != Standing::NotChosen))
    };
    objections
        .into_iter()
        .map(|objection| {
            let lifts = |mapping: &Mapping| {
                let guard = objection.guard;
                guard.is_some_and(|guard| mapping.allow.contains(&guard))
            };
            let names = policy.mappings.iter();
            GuardSeen {
                guard: objection.guard.map(|guard| guard.name().to_owned()),
                lifted_by: names
                    .filter(|(name, mapping)| wants(name) && lifts(mapping))
                    .map(|(name, _)| name.clone())
                    .collect(),
                reason: objection.text,
            }
        })
        .collect()
}

fn members(inventory: &Inventory, plan: &Plan, group: u32, own: Address) -> Vec<Member> {
    inventory
        .iter()
        .filter(|one| one.iommu_group == Some(group) && one.address != own)
        .map(|one| Member {
            function: Brief::of(one),
            bridge: is_bridge(one),
            keeps_group: keeps_group(one).is_some(),
            mappings: chosen_by(plan, one.address),
        })
        .collect()
}

/// The mappings that choose the function at `address`, refused or not.
fn chosen_by(plan: &Plan, address: Address) -> Vec<String> {
    let mappings = plan.mappings.iter();
    mappings
        .filter(|(_, mapping)| mapping.chooses(address))
        .map(|(name, _)| name.clone())
        .collect()
}
