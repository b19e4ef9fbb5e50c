//! Mappings as the plan has them, and the IOMMU groups of their functions.

use std::collections::BTreeSet;

use super::{Case, Finding, list};
use crate::{
    pci::{address::Address, function::Function},
    policy::{
        judge::keeps_group,
        plan::{MappingPlan, Verdict},
    },
};

/// A line a mapping.
pub(super) fn mappings(case: &Case<'_>) -> Vec<Finding> {
    let mappings = case.plan.mappings.iter();
    mappings.map(|(name, plan)| mapping(name, plan)).collect()
}

fn mapping(name: &str, plan: &MappingPlan) -> Finding {
    const NAME: &str = "mapping";
    let reason = &plan.reason;
    match plan.verdict {
        Verdict::Ready => {
            let passed_over = match plan.passed_over() {
                0 => String::new(),
                count => format!("; {count} passed over (partial)"),
            };
            let addresses = list(plan.functions.iter().map(|one| one.address));
            let bound = plan.functions.iter().all(|one| one.bound);
            let state = if bound { "bound" } else { "can be bound" };
            Finding::ok(NAME, format!("{name}: {state}: {addresses}{passed_over}"))
        }
        Verdict::Pending => Finding::warn(
            NAME,
            format!("{name}: not known: {reason}"),
            "run vfio-bindctl plan as root, which says what does not answer",
        ),
        Verdict::Absent => Finding::warn(
            NAME,
            format!("{name}: {reason}"),
            format!("compare [mapping.{name}] with what vfio-bindctl functions shows"),
        ),
        Verdict::Refused => Finding::fail(
            NAME,
            format!("{name}: refused: {reason}"),
            format!("change [mapping.{name}], or what is said here; see vfio-bindctl plan"),
        ),
        Verdict::Released => Finding::warn(
            NAME,
            format!("{name}: {reason}"),
            "vfio-bindctl rescan --take has the functions be taken again",
        ),
    }
}

/// What keeps vfio from opening a group: a member that a driver of the host has
/// and that no mapping wants. One that is wanted and refused is in its mapping's
/// line.
pub(super) fn groups(case: &Case<'_>) -> Vec<Finding> {
    const NAME: &str = "groups";
    let mapped = case.mapped();
    let taken = taken(case);
    let mut findings = Vec::new();
    let mut whole = 0_usize;
    for (group, members) in &case.inventory.groups() {
        let (ours, others): (Vec<Address>, Vec<Address>) =
            members.iter().partition(|one| mapped.contains(one));
        let others = others.into_iter();
        let holders: Vec<_> = others.filter_map(|one| holder(case, one)).collect();
        if ours.is_empty() || holders.is_empty() {
            whole += usize::from(members.iter().any(|one| taken.contains(one)));
            continue;
        }
        let held: Vec<_> = holders
            .iter()
            .map(|(function, driver)| format!("{} ({driver})", function.address))
            .collect();
        findings.push(Finding::fail(
            NAME,
            format!(
                "the host keeps {} of IOMMU group {group}, so no virtual machine can have {}",
                held.join(", "),
                list(ours)
            ),
            "map all of the group (group = \"take\"), unbind the rest, or move the card to a slot \
             with a group of its own",
        ));
    }
    if findings.is_empty() && whole > 0 {
        let text = match whole {
            1 => "no function stays with the host in the IOMMU group that is taken".to_owned(),
            count => {
                format!("no function stays with the host in the {count} IOMMU groups taken")
            }
        };
        findings.push(Finding::ok(NAME, text));
    }
    findings
}

/// What mappings bind, or have bound.
fn taken(case: &Case<'_>) -> BTreeSet<Address> {
    let mappings = case.plan.mappings.values();
    let bound = mappings.flat_map(|plan| {
        let all = plan.verdict != Verdict::Refused;
        let functions = plan.functions.iter();
        functions.filter(move |one| all || one.bound)
    });
    bound.map(|one| one.address).collect()
}

/// The function at `address` and its driver, if that does DMA for the host.
fn holder<'a>(case: &Case<'a>, address: Address) -> Option<(&'a Function, &'a str)> {
    let function = case.inventory.get(address)?;
    Some((function, keeps_group(function)?))
}
