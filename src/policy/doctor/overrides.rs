//! Who else puts functions on vfio drivers, or keeps them off: IDs that a driver
//! was given, overrides that somebody else set.

use super::{Case, Finding, facts::HostFacts, is_on_vfio, list, seen};
use crate::{
    pci::{address::Address, function::Function},
    policy::model::VFIO_PCI,
};

/// What can be said without a look at the rest of the host.
pub(super) fn all(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = unmapped(case);
    findings.extend(overrides(case));
    findings
}

fn addresses<'a>(functions: impl IntoIterator<Item = &'a Function>) -> Vec<Address> {
    functions.into_iter().map(|one| one.address).collect()
}

/// Functions that a vfio driver has and that no mapping wants. Without an
/// override it was their IDs that brought them there (`new_id`, `ids=`).
fn unmapped(case: &Case<'_>) -> Vec<Finding> {
    const NAME: &str = "unmapped";
    let mapped = case.mapped();
    let there: Vec<_> = case
        .inventory
        .iter()
        .filter(|function| is_on_vfio(function) && !mapped.contains(&function.address))
        .collect();
    let by_id = there.iter().copied().filter(|function| {
        let inspection = function.inspection.as_ref();
        inspection.is_some_and(|inspection| inspection.driver_override.is_none())
    });
    let by_id: Vec<_> = by_id.collect();
    if let Some(first) = by_id.first() {
        let id = first.id.to_string().replace(':', " ");
        let driver = first.driver.as_deref().unwrap_or_default();
        return vec![Finding::warn(
            NAME,
            format!(
                "a vfio driver has {}, no mapping wants that and no override says so: their IDs \
                 were given to the driver, which takes every twin too",
                list(addresses(by_id.iter().copied()))
            ),
            format!(
                "remove ids= where it is set; echo {id} > /sys/bus/pci/drivers/{driver}/remove_id \
                 ends what was written to new_id, as a reboot does"
            ),
        )];
    }
    let unread: Vec<_> = there
        .iter()
        .copied()
        .filter(|function| function.inspection.is_none())
        .collect();
    if !unread.is_empty() {
        let text = format!(
            "why a vfio driver has {} cannot be read",
            list(addresses(unread))
        );
        return vec![Finding::unseen(NAME, &text)];
    }
    let text = match there.len() {
        0 => "no vfio driver has a function that no mapping wants".to_owned(),
        _ => format!(
            "by overrides a vfio driver has {}, which no mapping wants",
            list(addresses(there))
        ),
    };
    vec![Finding::ok(NAME, text)]
}

/// Mapped functions that are bound and whose override does not say so.
fn overrides(case: &Case<'_>) -> Vec<Finding> {
    const NAME: &str = "overrides";
    let mut without = Vec::new();
    let mut foreign = Vec::new();
    let bound = case.mapped_functions().into_iter();
    for function in bound.filter(|function| is_on_vfio(function)) {
        let inspection = function.inspection.as_ref();
        match inspection.map(|inspection| inspection.driver_override.as_deref()) {
            Some(None) => without.push(function.address),
            Some(set) if set != function.driver.as_deref() => foreign.push(function.address),
            _ => {}
        }
    }
    let mut findings = Vec::new();
    if !without.is_empty() {
        let text = format!(
            "{} is bound without an override: a twin or a native driver may be next",
            list(without)
        );
        let advice = "remove ids= and whatever writes new_id, then reboot: the mapping sets it";
        findings.push(Finding::warn(NAME, text, advice));
    }
    if !foreign.is_empty() {
        let text = format!(
            "{} is bound and has an override for another driver, which somebody else set",
            list(foreign)
        );
        let advice = "find out who (driverctl, libvirt, a script) and have them leave it alone";
        findings.push(Finding::warn(NAME, text, advice));
    }
    findings
}

/// What driverctl sets at each boot.
pub(super) fn driverctl(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "driverctl";
    let mapped = case.mapped();
    seen(NAME, &facts.driverctl, |all| {
        all.iter()
            .filter(|kept| mapped.contains(&kept.address))
            .map(|kept| {
                let text = format!("{} sets the override of {}", kept.file, kept.address);
                let advice = format!("driverctl unset-override {}", kept.address);
                if kept.driver == VFIO_PCI {
                    let text = text + ", whatever sits there after a boot";
                    return Finding::warn(NAME, text, advice);
                }
                let text = format!("{text} to {} at each boot, so it is refused", kept.driver);
                Finding::fail(NAME, text, advice)
            })
            .collect()
    })
}
