//! Plan: what is to be done to a host, and what is refused and why.
//!
//! The one function that boot, hotplug, dry run, `plan` and the tests all use;
//! `parts` has what it answers with. Pure: never does anything, never asks the
//! host.

mod parts;

use std::collections::{BTreeMap, BTreeSet};

pub use self::parts::{Action, Chosen, MappingPlan, Plan, Verdict};
use super::{
    judge::{Judge, Spared},
    knobs::{Knobs, knobs},
    model::{DriverChoice, Mapping, Policy},
    ownership::nodes,
    resolve::{Held, Resolution, addresses, resolve},
    sriov,
    variant::{Pick, is_content, pick},
};
use crate::pci::{address::Address, function::Function, inventory::Inventory};

/// Plans for `inventory` under `policy`; `held` is what mappings hold already.
#[must_use]
pub fn plan(inventory: &Inventory, policy: &Policy, held: &Held) -> Plan {
    plan_around(inventory, policy, held, &BTreeSet::new())
}

/// As [`plan`], for a host that has the functions in `released` back on
/// request: a mapping that has one of them binds none of its own.
#[must_use]
pub fn plan_around(
    inventory: &Inventory,
    policy: &Policy,
    held: &Held,
    released: &BTreeSet<Address>,
) -> Plan {
    let resolutions = resolve(policy, inventory, held);
    let sriov = sriov::plan(inventory, policy);
    let judge = Judge::new(inventory, policy, &resolutions, &sriov);
    let mut spared = Spared::default();
    // A refused function stays with the host, and so may spoil the IOMMU group
    // of another one: judge again until nothing more is refused.
    let mut mappings = loop {
        let mappings: BTreeMap<_, _> = policy
            .mappings
            .iter()
            .filter_map(|(name, mapping)| {
                let resolution = resolutions.get(name)?;
                let plan = given_back(&judge, mapping, resolution, released)
                    .unwrap_or_else(|| one(&judge, name, mapping, resolution, &spared));
                Some((name, plan))
            })
            .collect();
        let before = (spared.fallen.len(), spared.passed_over.len());
        for (name, plan) in &mappings {
            if plan.verdict == Verdict::Ready || plan.verdict == Verdict::Pending {
                let refused = plan.refusals.iter().map(|one| (name.as_str(), one.address));
                spared.passed_over.extend(refused);
            } else {
                spared.fallen.insert(name);
            }
        }
        if before == (spared.fallen.len(), spared.passed_over.len()) {
            break mappings;
        }
    };
    wait_for_companions(&judge, &spared, &mut mappings);
    let knobs = knobs(inventory, policy, &mappings);
    let actions = actions(&judge, policy, &mappings, &knobs);
    let nodes = nodes(inventory, policy, &mappings);
    let inspect = mappings
        .iter()
        .filter(|(_, plan)| plan.verdict == Verdict::Pending)
        .flat_map(|(name, plan)| unread(&judge, plan, resolutions.get(*name)))
        .chain(sriov.unread.iter().copied())
        .collect();
    let chosen: BTreeSet<_> = resolutions.values().flat_map(addresses).collect();
    let left_over: BTreeSet<_> = held
        .values()
        .flatten()
        .copied()
        .filter(|address| !chosen.contains(address) && judge.is_out_of_hands(*address))
        .collect();
    Plan {
        mappings: mappings
            .into_iter()
            .map(|(name, plan)| (name.clone(), plan))
            .collect(),
        actions,
        inspect,
        left_over: left_over.into_iter().collect(),
        nodes,
        sriov,
        knobs,
    }
}

/// The plan for a mapping of which the host has a function back.
fn given_back(
    judge: &Judge<'_>,
    mapping: &Mapping,
    resolution: &Resolution,
    released: &BTreeSet<Address>,
) -> Option<MappingPlan> {
    let Resolution::Chosen(choices) = resolution else {
        return None;
    };
    let mut back = choices.iter().map(|choice| choice.address);
    let first = back.find(|address| released.contains(address))?;
    let functions = choices.iter().map(|choice| {
        let function = judge.inventory().get(choice.address);
        let driver = function.and_then(|function| function.driver.as_deref());
        Chosen {
            address: choice.address,
            why: choice.why.clone(),
            placed: choice.placed.clone(),
            companion: choice.companion,
            bound: is_content(mapping.driver, driver),
            driver: function.and_then(|function| left_open(mapping, function)),
        }
    });
    Some(MappingPlan {
        verdict: Verdict::Released,
        reason: format!("the host has {first} back until a reload, a rescan --take or a reboot"),
        functions: functions.collect(),
        refusals: Vec::new(),
        lifted: Vec::new(),
    })
}

/// The driver for `function`, where `mapping` does not say it.
fn left_open(mapping: &Mapping, function: &Function) -> Option<Pick> {
    (mapping.driver == DriverChoice::Auto).then(|| pick(mapping.driver, function))
}

fn one(
    judge: &Judge<'_>,
    name: &str,
    mapping: &Mapping,
    resolution: &Resolution,
    spared: &Spared<'_>,
) -> MappingPlan {
    let end = |verdict, reason: &str| MappingPlan {
        verdict,
        reason: reason.to_owned(),
        functions: Vec::new(),
        refusals: Vec::new(),
        lifted: Vec::new(),
    };
    let choices = match resolution {
        Resolution::TooFew(reason) => return end(Verdict::Absent, reason),
        Resolution::TooMany(reason) => return end(Verdict::Refused, reason),
        Resolution::Unknown(_) => return end(Verdict::Pending, "serial numbers are being read"),
        Resolution::Chosen(choices) => choices,
    };
    let mut plan = end(Verdict::Ready, "");
    let mut unread = false;
    for choice in choices {
        let verdict = judge.function(name, mapping, choice.address, spared);
        plan.lifted.extend(verdict.lifted);
        unread |= verdict.unread;
        if verdict.refusals.is_empty() {
            plan.functions.push(Chosen {
                address: choice.address,
                why: choice.why.clone(),
                placed: choice.placed.clone(),
                bound: verdict.bound,
                companion: choice.companion,
                driver: judge
                    .inventory()
                    .get(choice.address)
                    .and_then(|function| left_open(mapping, function)),
            });
        }
        plan.refusals
            .extend(verdict.refusals.into_iter().map(|mut refusal| {
                if choice.companion {
                    refusal.reason += &format!(" ({})", choice.why);
                }
                refusal
            }));
    }
    judge.dismiss_companions(&mut plan);
    let nothing_left = plan.functions.is_empty();
    if let Some(first) = plan.refusals.first()
        && (!mapping.partial || nothing_left)
    {
        plan.verdict = Verdict::Refused;
        plan.reason = format!("{} {}", first.address, first.reason);
        if plan.refusals.len() > 1 {
            plan.reason += &format!(" (and {} more)", plan.refusals.len() - 1);
        }
        // Said only where it would be enough.
        let guards = plan.refusals.iter().map(|refusal| refusal.guard);
        if let Some(guards) = guards.collect::<Option<BTreeSet<_>>>() {
            let guards: Vec<_> = guards.iter().map(|guard| format!("\"{guard}\"")).collect();
            let (guards, what) = (guards.join(", "), plan.refusals.len());
            let what = if what == 1 { "this" } else { "these" };
            plan.reason += &format!("; allow = [{guards}] would lift {what}");
        }
    } else if unread {
        plan.verdict = Verdict::Pending;
        plan.reason = "its functions are being inspected".to_owned();
    }
    plan
}

/// Makes mappings pending that need the IOMMU groups of pending ones: should
/// those be refused, theirs would have been taken from the host for nothing.
fn wait_for_companions(
    judge: &Judge<'_>,
    spared: &Spared<'_>,
    mappings: &mut BTreeMap<&String, MappingPlan>,
) {
    loop {
        let pending: BTreeSet<&str> = mappings
            .iter()
            .filter(|(_, plan)| plan.verdict == Verdict::Pending)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut changed = false;
        for (name, plan) in mappings.iter_mut() {
            if plan.verdict != Verdict::Ready {
                continue;
            }
            let waiting = plan.functions.iter().find(|one| {
                !one.bound && judge.awaits_companions(name, one.address, spared, &pending)
            });
            if let Some(Chosen { address, .. }) = waiting {
                plan.reason = format!("{address} waits for the others of its IOMMU group");
                plan.verdict = Verdict::Pending;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
}

/// Functions of a pending mapping that a helper has not inspected and has to.
fn unread(
    judge: &Judge<'_>,
    plan: &MappingPlan,
    resolution: Option<&Resolution>,
) -> BTreeSet<Address> {
    if let Some(Resolution::Unknown(addresses)) = resolution {
        return addresses.clone();
    }
    plan.functions
        .iter()
        .map(|chosen| chosen.address)
        .filter(|address| judge.needs_inspection(*address))
        .collect()
}

fn actions(
    judge: &Judge<'_>,
    policy: &Policy,
    mappings: &BTreeMap<&String, MappingPlan>,
    knobs: &BTreeMap<Address, Knobs>,
) -> Vec<Action> {
    let mut actions: BTreeMap<Address, Action> = BTreeMap::new();
    for (name, plan) in mappings {
        let Some(mapping) = policy.mappings.get(*name) else {
            continue;
        };
        if plan.verdict != Verdict::Ready {
            continue;
        }
        for chosen in plan.functions.iter().filter(|chosen| !chosen.bound) {
            let Some(function) = judge.inventory().get(chosen.address) else {
                continue;
            };
            actions
                .entry(chosen.address)
                .or_insert_with(|| {
                    let pick = pick(mapping.driver, function);
                    Action {
                        address: chosen.address,
                        id: function.id,
                        driver: pick.driver,
                        module: pick.module,
                        fallback: pick.fell_back.then_some(pick.why),
                        detach: function.native_driver().map(str::to_owned),
                        allow: mapping.allow.iter().map(|guard| guard.name()).collect(),
                        group: function.iommu_group.unwrap_or_default(),
                        knobs: knobs.get(&chosen.address).cloned().unwrap_or_default(),
                        mappings: Vec::new(),
                        why: chosen.why.clone(),
                    }
                })
                .mappings
                .push((*name).clone());
        }
    }
    actions.into_values().collect()
}
