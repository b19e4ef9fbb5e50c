//! Pins of recorded hosts: whatever a mapping chooses, the terms that are
//! proposed for it choose the same and nothing else.

use std::collections::BTreeSet;

use vfio_bindd::{
    cli::show_explain::plain_pins,
    pci::address::Address,
    policy::{
        config::{Source, parse},
        model::{Mapping, Policy},
        pin::{By, Pins, pin},
        plan::{Plan, plan},
        resolve::{Held, Resolution, resolve},
    },
};

use crate::{Case, cases};

/// The policy of a config that has what `pins` prints.
fn pasted(pins: &Pins) -> Policy {
    let source = Source {
        name: "pins".to_owned(),
        text: format!("[mapping.pinned]\n{}", plain_pins(pins)),
    };
    let config = parse(&[source]).unwrap_or_else(|errors| panic!("{errors}"));
    config.policy
}

/// What `policy` chooses of the case's host, exclusions and counts aside.
fn chosen(case: &Case, policy: &Policy) -> BTreeSet<Address> {
    let resolved = resolve(policy, &case.host, &Held::new());
    match resolved.get("pinned").unwrap() {
        Resolution::Chosen(choices) => choices.iter().map(|one| one.address).collect(),
        other => panic!("{}: {other:?}", case.name),
    }
}

fn wants(plan: &Plan, name: &str) -> BTreeSet<Address> {
    let planned = plan.mappings.get(name).unwrap();
    let functions = planned.functions.iter().map(|one| one.address);
    let refusals = planned.refusals.iter().map(|one| one.address);
    functions.chain(refusals).collect()
}

#[test]
fn what_is_printed_chooses_the_same_functions_and_no_others() {
    let mut kinds = BTreeSet::new();
    for case in cases() {
        let plan = plan(&case.host, &case.policy, &Held::new());
        for name in case.policy.mappings.keys() {
            let wanted = wants(&plan, name);
            let pins = match pin(&case.host, &case.policy, &plan, name) {
                Ok(pins) => pins,
                Err(error) => {
                    assert!(wanted.is_empty(), "{}: {error}", case.name);
                    continue;
                }
            };
            let what = format!("{}: {name}", case.name);
            assert!(pins.pins.iter().all(|one| one.also.is_empty()), "{what}");
            let policy = pasted(&pins);
            assert_eq!(chosen(&case, &policy), wanted, "{what}");
            // And in the mapping itself, with all its other settings.
            let settings = case.policy.mappings.get(name).unwrap();
            let matches = policy.mappings.get("pinned").unwrap().matches.clone();
            let mapping = Mapping {
                matches,
                ..settings.clone()
            };
            let own = Policy {
                mappings: [("pinned".to_owned(), mapping)].into(),
                ..Policy::default()
            };
            if pins.note.is_none() {
                assert_eq!(chosen(&case, &own), wanted, "{what}");
            }
            kinds.extend(pins.pins.iter().map(|one| one.by));
        }
    }
    assert_eq!(kinds, BTreeSet::from([By::Serial, By::Slot, By::Path]));
}

/// All bus numbers grow by one, as when a card was added in front.
fn renumbered(case: &Case) -> Case {
    let up = |address: Address| {
        Address::new(
            address.domain(),
            address.bus().wrapping_add(1),
            address.device(),
            address.function(),
        )
        .unwrap()
    };
    let functions = case.host.iter().map(|one| {
        let mut one = one.clone();
        one.address = up(one.address);
        if let vfio_bindd::pci::function::Role::Vf { pf, .. } = &mut one.role {
            *pf = up(*pf);
        }
        one
    });
    Case {
        name: case.name.clone(),
        host: functions.collect(),
        policy: case.policy.clone(),
        golden: case.golden.clone(),
    }
}

#[test]
fn what_is_printed_outlives_new_bus_numbers() {
    for case in cases() {
        let plan = plan(&case.host, &case.policy, &Held::new());
        let moved = renumbered(&case);
        for name in case.policy.mappings.keys() {
            let Ok(pins) = pin(&case.host, &case.policy, &plan, name) else {
                continue;
            };
            let before = wants(&plan, name);
            let after = chosen(&moved, &pasted(&pins));
            let buses = |all: &BTreeSet<Address>, up: u8| -> Vec<_> {
                all.iter()
                    .map(|one| (one.bus().wrapping_add(up), one.device(), one.function()))
                    .collect()
            };
            let (mut was, mut is) = (buses(&before, 1), buses(&after, 0));
            was.sort_unstable();
            is.sort_unstable();
            assert_eq!(is, was, "{}: {name}", case.name);
        }
    }
}
