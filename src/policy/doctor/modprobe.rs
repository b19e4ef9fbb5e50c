//! Settings of modules that take functions by their IDs, or keep drivers from
//! loading: they know nothing of mappings.

use std::collections::BTreeSet;

use super::{
    Case, Finding,
    advice::{remove_parameter, renew_initramfs},
    facts::{Directive, HostFacts, Order},
    list,
    modules::are_loaded,
    seen,
};
use crate::pci::{address::Address, function::Function};

const STATIC: &str = "static-ids";
const NAME: &str = "modprobe";

pub(super) fn all(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    seen(NAME, &facts.directives, |directives| {
        let mut findings: Vec<_> = directives
            .iter()
            .filter_map(|directive| judge(case, facts, directive))
            .collect();
        for (name, text) in [
            (
                STATIC,
                "no setting gives functions to vfio-pci by their IDs",
            ),
            (
                NAME,
                "no setting keeps vfio or a mapped function's driver from loading",
            ),
        ] {
            if !findings.iter().any(|finding| finding.name == name) {
                findings.push(Finding::ok(name, text));
            }
        }
        findings
    })
}

fn judge(case: &Case<'_>, facts: &HostFacts, directive: &Directive) -> Option<Finding> {
    match &directive.order {
        Order::Ids(ids) => Some(static_ids(case, facts, directive, ids)),
        _ if is_vfio(&directive.module) => of_vfio(facts, directive),
        _ => of_driver(case, facts, directive),
    }
}

/// What to do to be rid of a directive.
fn undo(facts: &HostFacts, directive: &Directive) -> String {
    if directive.parameter {
        remove_parameter(facts, &directive.place)
    } else {
        format!(
            "remove it from {}, {}",
            directive.place,
            renew_initramfs(facts)
        )
    }
}

/// IDs are a driver's before any mapping is asked, for every function that has
/// them, now and at each hotplug (drivers/pci/pci-driver.c, `pci_match_device`).
fn static_ids(case: &Case<'_>, facts: &HostFacts, directive: &Directive, ids: &str) -> Finding {
    let mapped = case.mapped();
    let taken: Vec<_> = case
        .inventory
        .iter()
        .filter(|function| ids.split(',').any(|id| has_id(function, id)))
        .map(|function| function.address)
        .collect();
    let twins: Vec<Address> = taken
        .iter()
        .copied()
        .filter(|address| !mapped.contains(address))
        .collect();
    let effect = if taken.is_empty() {
        "which no function here has".to_owned()
    } else if twins.is_empty() {
        format!("and with them {} before any guard is asked", list(taken))
    } else {
        format!("and with them {}, which no mapping wants", list(twins))
    };
    let driver = directive.module.replace('_', "-");
    let text = format!("{} gives {driver} the IDs {ids}, {effect}", directive.place);
    let advice = format!(
        "{}; a mapping needs no IDs of a driver",
        undo(facts, directive)
    );
    Finding::warn(STATIC, text, advice)
}

/// Whether `id`, as `vendor:device[:subvendor[:subdevice[:class[:mask]]]]` in
/// hex, is the function's (drivers/vfio/pci/vfio_pci.c, `vfio_pci_fill_ids`,
/// and drivers/pci/pci-stub.c, v6.12); what is not given is any.
fn has_id(function: &Function, id: &str) -> bool {
    const ANY: u32 = u32::MAX;
    let mut parts = id.split(':').map(|part| {
        let digits = part.trim().trim_start_matches("0x");
        u32::from_str_radix(digits, 16).ok()
    });
    let (Some(Some(vendor)), Some(Some(device))) = (parts.next(), parts.next()) else {
        return false;
    };
    let mut rest = |missing| parts.next().map_or(Some(missing), |part| part);
    let (Some(sub_vendor), Some(sub_device)) = (rest(ANY), rest(ANY)) else {
        return false;
    };
    let (Some(class), Some(mask)) = (rest(0), rest(0)) else {
        return false;
    };
    let (own_vendor, own_device) = function
        .subsystem
        .map_or((0, 0), |id| (id.vendor, id.device));
    let is = |wanted: u32, own: u16| wanted == ANY || wanted == u32::from(own);
    is(vendor, function.id.vendor)
        && is(device, function.id.device)
        && is(sub_vendor, own_vendor)
        && is(sub_device, own_device)
        && (class ^ function.class.value()) & mask == 0
}

fn is_vfio(module: &str) -> bool {
    matches!(
        module,
        "vfio" | "vfio_pci" | "vfio_pci_core" | "vfio_iommu_type1"
    )
}

fn of_vfio(facts: &HostFacts, directive: &Directive) -> Option<Finding> {
    let Directive { place, module, .. } = directive;
    let text = match &directive.order {
        Order::Blacklist | Order::Forbid => format!("{place} keeps {module} from loading"),
        Order::Install(command) => format!("{place} runs '{command}' instead of loading {module}"),
        Order::After(first) => {
            let text = format!(
                "{place} loads {} before {module}: then they have their functions first",
                first.join(", ")
            );
            return Some(Finding::warn(NAME, text, undo(facts, directive)));
        }
        Order::Ids(_) => return None,
    };
    let advice = undo(facts, directive);
    Some(if are_loaded(facts) {
        Finding::warn(NAME, text + ", and something else loaded it", advice)
    } else {
        Finding::fail(NAME, text, advice)
    })
}

/// What keeps a native driver from a mapped function keeps it from all others.
fn of_driver(case: &Case<'_>, facts: &HostFacts, directive: &Directive) -> Option<Finding> {
    let Directive { place, module, .. } = directive;
    let what = match &directive.order {
        Order::Blacklist | Order::Forbid => format!("{place} keeps {module} from loading"),
        Order::Install(command) => format!("{place} runs '{command}' instead of loading {module}"),
        Order::After(_) | Order::Ids(_) => return None,
    };
    let mapped = case.mapped();
    let (wanted, others): (BTreeSet<Address>, BTreeSet<Address>) = directive
        .serves
        .iter()
        .copied()
        .partition(|address| mapped.contains(address));
    if wanted.is_empty() {
        return None;
    }
    let text = if others.is_empty() {
        format!("{what}; {} does not need that to be bound", list(wanted))
    } else {
        format!("{what}, also for {}, which no mapping wants", list(others))
    };
    let advice = format!(
        "{}, unless the host must never have that driver",
        undo(facts, directive)
    );
    Some(Finding::warn(NAME, text, advice))
}
