//! What is said of recorded hosts: word for word for some targets, and what
//! holds of anything that is said.

use std::collections::BTreeSet;

use vfio_bindd::{
    cli::show_explain::plain,
    pci::address::Address,
    policy::{
        explain::{Explanation, Outcome, Relation, Standing, Target, explain},
        plan::{Plan, plan},
        resolve::Held,
    },
};

use crate::{Case, cases, check, folder};

/// Targets that are said word for word, as text and as JSON.
const GOLDEN: &[(&str, &[&str])] = &[
    (
        "gpu-server/desktop",
        &["first", "pair", "slot6", "0000:43:00.0", "0000:c2:00.1"],
    ),
    ("gpu-server/desktop-lifted", &["0000:c2:00.0"]),
    ("gpu-server/counts", &["nine", "no-node", "many", "gone"]),
    ("gpu-server/protect", &["gpu-pool", "0000:24:00.0"]),
    ("gpu-server/overlap", &["0000:64:00.0"]),
    (
        "gpu-server/serials",
        &["gpus", "0000:a3:00.0", "0000:20:01.1"],
    ),
    ("lab/twins", &["node1", "pair", "0000:01:00.0"]),
    ("nic-vfs/refused", &["all-of-port", "0000:17:00.0"]),
    ("nic-vfs/pools", &["edge"]),
];

fn planned(case: &Case) -> Plan {
    plan(&case.host, &case.policy, &Held::new())
}

fn told(case: &Case, plan: &Plan, target: &Target) -> Explanation {
    explain(&case.host, &case.policy, plan, target).unwrap()
}

#[test]
fn explanations_are_golden() {
    let cases = cases();
    for (name, targets) in GOLDEN {
        let case = cases.iter().find(|case| case.name == *name).unwrap();
        let plan = planned(case);
        for target in *targets {
            let told = told(case, &plan, &target.parse().unwrap());
            let file = format!("{name}-{target}").replace(['/', ':', '.'], "-");
            let file = folder().join("explain").join(file);
            check(&file.with_extension("txt"), &plain(&told));
            let json = serde_json::to_string_pretty(&told).unwrap() + "\n";
            check(&file.with_extension("json"), &json);
        }
    }
}

#[test]
fn every_golden_file_is_of_some_target() {
    let count: usize = GOLDEN.iter().map(|(_, targets)| targets.len()).sum();
    let files = std::fs::read_dir(folder().join("explain")).unwrap();
    assert_eq!(files.count(), 2 * count);
}

#[test]
fn an_explanation_reads_back_and_says_what_the_plan_says() {
    for case in cases() {
        let plan = planned(&case);
        for function in case.host.iter() {
            let target = Target::Function(function.address);
            let told = told(&case, &plan, &target);
            assert!(reads_back(&told), "{}: {target}", case.name);
            let Explanation::Function(told) = told else {
                panic!("{target} is a function");
            };
            for (name, seen) in &told.mappings {
                let planned = plan.mappings.get(name).unwrap();
                let at = |one: &Address| *one == function.address;
                let chosen = planned
                    .functions
                    .iter()
                    .map(|one| one.address)
                    .any(|one| at(&one));
                let what = format!("{}: {target} in {name}", case.name);
                let stands = seen.standing == Some(Standing::Chosen);
                assert_eq!(stands, chosen, "{what}");
                let refused = planned.refusals.iter().any(|one| at(&one.address));
                let stands = matches!(
                    seen.standing,
                    Some(Standing::Refused | Standing::PassedOver)
                );
                assert_eq!(stands, refused && !chosen, "{what}");
                let holds = seen.matches.iter().any(|one| one.outcome == Outcome::Holds);
                let wanted = holds && seen.excluded_by.is_empty();
                assert_eq!(seen.relation == Relation::Matched, wanted, "{what}");
            }
            let deed = told.action.map(|deed| deed.driver);
            let mut actions = plan.actions.iter();
            let action = actions.find(|one| one.address == function.address);
            assert_eq!(deed.as_deref(), action.map(|one| one.driver.as_str()));
        }
        for (name, planned) in &plan.mappings {
            let target = Target::Mapping(name.clone());
            let told = told(&case, &plan, &target);
            assert!(reads_back(&told), "{}: {target}", case.name);
            let Explanation::Mapping(told) = told else {
                panic!("{target} is a mapping");
            };
            let what = format!("{}: {name}", case.name);
            let with = |standing| -> BTreeSet<_> {
                let candidates = told.candidates.iter();
                let these = candidates.filter(|one| one.standing == standing);
                these.map(|one| one.function.address).collect()
            };
            let functions: BTreeSet<_> = planned.functions.iter().map(|one| one.address).collect();
            assert_eq!(with(Standing::Chosen), functions, "{what}");
            let near: BTreeSet<_> = told.near.iter().map(|one| one.function.address).collect();
            let all = told.candidates.iter().map(|one| one.function.address);
            assert!(near.is_disjoint(&all.collect()), "{what}");
            let counted_wrong = planned.reason.contains("expected");
            assert_eq!(
                told.count.fits, !counted_wrong,
                "{what}: {}",
                planned.reason
            );
        }
    }
}

fn reads_back(told: &Explanation) -> bool {
    let json = serde_json::to_string(told).unwrap();
    serde_json::from_str::<Explanation>(&json).unwrap() == *told
}
