//! What is planned for recorded hosts: word for word, and what holds of any plan.

use std::collections::{BTreeMap, BTreeSet};

use vfio_bindd::{
    pci::{
        address::Address,
        function::{Function, Inspection},
        inventory::Inventory,
    },
    policy::{
        plan::{Plan, Verdict, plan},
        resolve::Held,
    },
};

use crate::{Case, cases, check, render};

fn planned(case: &Case) -> Plan {
    plan(&case.host, &case.policy, &Held::new())
}

/// What mappings hold once a plan was carried out.
fn held(plan: &Plan) -> Held {
    let ready = plan
        .mappings
        .iter()
        .filter(|(_, mapping)| mapping.verdict == Verdict::Ready);
    ready
        .map(|(name, mapping)| {
            let functions = mapping.functions.iter().map(|one| one.address);
            (name.clone(), functions.collect())
        })
        .collect()
}

#[test]
fn plans_are_golden() {
    for case in cases() {
        check(&case.golden, &render::render(&planned(&case)));
    }
}

#[test]
fn the_configs_use_every_term_and_come_to_every_verdict() {
    let mut terms = BTreeSet::new();
    let mut verdicts = BTreeMap::new();
    for case in cases() {
        for mapping in case.policy.mappings.values() {
            let selectors = mapping.matches.iter().chain(&mapping.exclude);
            terms.extend(selectors.flat_map(|one| one.terms().iter().map(|term| term.name())));
        }
        for mapping in planned(&case).mappings.values() {
            *verdicts
                .entry(format!("{:?}", mapping.verdict))
                .or_insert(0) += 1;
        }
    }
    assert_eq!(terms.len(), 11, "{terms:?}");
    assert_eq!(verdicts.len(), 3, "{verdicts:?}");
}

#[test]
fn the_order_of_insertion_does_not_matter() {
    for case in cases() {
        let expected = planned(&case);
        let turned: Inventory = case.host.iter().rev().cloned().collect();
        assert_eq!(plan(&turned, &case.policy, &Held::new()), expected);
        let half = case.host.len() / 2;
        let shuffled = case
            .host
            .iter()
            .skip(half)
            .chain(case.host.iter().take(half));
        let shuffled: Inventory = shuffled.cloned().collect();
        assert_eq!(plan(&shuffled, &case.policy, &Held::new()), expected);
    }
}

/// At boot nothing was inspected yet. Asking helpers for what a plan wants to
/// know, and no more, has to end at the plan for the host as it was recorded.
/// On the way nothing is bound that is not bound in the end, whoever answers
/// first.
#[test]
fn inspecting_one_by_one_ends_at_the_same_plan_and_binds_nothing_early() {
    let first = |wanted: &BTreeSet<Address>| wanted.first().copied();
    let last = |wanted: &BTreeSet<Address>| wanted.last().copied();
    for case in cases() {
        inspect_one_by_one(&case, first);
        inspect_one_by_one(&case, last);
    }
}

fn inspect_one_by_one(case: &Case, next: impl Fn(&BTreeSet<Address>) -> Option<Address>) {
    let name = &case.name;
    let expected = planned(case);
    let in_the_end = bound(&expected);
    let blank = |function: &Function| Function {
        inspection: None,
        ..function.clone()
    };
    let mut host: Inventory = case.host.iter().map(blank).collect();
    let seen = loop {
        let seen = plan(&host, &case.policy, &Held::new());
        let early: Vec<_> = bound(&seen).difference(&in_the_end).copied().collect();
        assert_eq!(early, [], "{name}: bound too early");
        let Some(address) = next(&seen.inspect) else {
            break seen;
        };
        let function = host.get_mut(address).unwrap();
        assert_eq!(
            function.inspection, None,
            "{name}: {address} is asked twice"
        );
        let found = case.host.get(address).unwrap().inspection.clone();
        function.inspection = Some(found.unwrap_or_default());
    };
    assert_eq!(seen.actions, expected.actions, "{name}");
    // What is refused without a look is not looked at, and so the reasons can
    // be fewer.
    assert_eq!(verdicts(&seen), verdicts(&expected), "{name}");
    assert_eq!(held(&seen), held(&expected), "{name}");
}

fn bound(plan: &Plan) -> BTreeSet<Address> {
    plan.actions.iter().map(|action| action.address).collect()
}

fn verdicts(plan: &Plan) -> BTreeMap<String, Verdict> {
    let mappings = plan.mappings.iter();
    mappings
        .map(|(name, one)| (name.clone(), one.verdict))
        .collect()
}

#[test]
fn a_plan_that_was_carried_out_needs_nothing_more() {
    for case in cases() {
        let first = planned(&case);
        let mut host = case.host.clone();
        for action in &first.actions {
            let function = host.get_mut(action.address).unwrap();
            function.driver = Some(action.driver.to_owned());
            function.netdevs.clear();
            function.inspection = Some(Inspection {
                driver_override: Some(action.driver.to_owned()),
                usage: Vec::new(),
                ..function.inspection.clone().unwrap()
            });
        }
        let second = plan(&host, &case.policy, &held(&first));
        assert_eq!(second.actions, [], "{}", case.name);
        assert_eq!(second.left_over, [], "{}", case.name);
        assert_eq!(held(&second), held(&first), "{}", case.name);
    }
}

/// vfio opens a group only if no member has a driver that does DMA for the
/// host: whatever is to be bound must end up in such a group.
#[test]
fn every_group_that_is_bound_can_be_opened() {
    for case in cases() {
        let plan = planned(&case);
        let bound: BTreeSet<_> = plan.actions.iter().map(|one| one.address).collect();
        for action in &plan.actions {
            for other in case.host.iter() {
                if other.iommu_group != Some(action.group) || bound.contains(&other.address) {
                    continue;
                }
                let spoils = other
                    .native_driver()
                    .filter(|driver| !matches!(*driver, "pcieport" | "pci-stub"));
                assert_eq!(
                    spoils, None,
                    "{}: {} is bound beside {}",
                    case.name, action.address, other.address
                );
            }
        }
    }
}
