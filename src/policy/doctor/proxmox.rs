//! Proxmox VE: whether its resource mappings still say what is there, as
//! qemu-server checks it at each start of a guest.

use std::collections::BTreeSet;

use super::{
    Case, Finding,
    facts::{HostFacts, MapEntry, Proxmox, RawDevice},
    is_on_vfio, seen,
};
use crate::{
    pci::{address::Address, function::Function, inventory::Inventory},
    policy::model::VFIO_PCI,
};

const NAME: &str = "proxmox";

pub(super) fn all(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    seen(NAME, &facts.proxmox, |proxmox| {
        let Some(proxmox) = proxmox else {
            return Vec::new();
        };
        let mut findings = drifted(case.inventory, proxmox);
        let mapped = case.mapped();
        let raw = proxmox.raw.iter();
        findings.extend(raw.filter_map(|raw| by_address(case.inventory, &mapped, raw)));
        findings.extend(kept(case, proxmox));
        findings
    })
}

fn drifted(inventory: &Inventory, proxmox: &Proxmox) -> Vec<Finding> {
    let findings: Vec<_> = proxmox
        .entries
        .iter()
        .filter_map(|entry| {
            let wrong = drift(inventory, entry)?;
            Some(Finding::fail(
                NAME,
                format!(
                    "{}: mapping {} is out of date, and no guest with it starts: {wrong}",
                    entry.place, entry.mapping
                ),
                format!(
                    "correct it in Datacenter > Resource Mappings, or with pvesh set \
                     /cluster/mapping/pci/{}",
                    entry.mapping
                ),
            ))
        })
        .collect();
    if !findings.is_empty() {
        return findings;
    }
    let text = match proxmox.entries.len() {
        0 => "no resource mapping of PCI devices for this node".to_owned(),
        1 => "the device of the resource mappings is what they say".to_owned(),
        count => format!("all {count} devices of resource mappings are what they say"),
    };
    vec![Finding::ok(NAME, text)]
}

/// The functions that one part of a path names: all of a slot, or one.
fn functions<'a>(inventory: &'a Inventory, part: &str) -> Vec<&'a Function> {
    if let Ok(address) = part.parse::<Address>() {
        return inventory.get(address).into_iter().collect();
    }
    match format!("{part}.0").parse::<Address>() {
        Ok(first) => inventory.slot(first.slot()).collect(),
        Err(_) => Vec::new(),
    }
}

/// What no longer holds of `entry`. Of a slot only the first function counts,
/// and of several parts only the first one's IOMMU group; texts are compared to
/// the letter (pve-guest-common, `PVE::Mapping::PCI::assert_valid`).
fn drift(inventory: &Inventory, entry: &MapEntry) -> Option<String> {
    for (index, part) in entry.path.split(';').enumerate() {
        let found = functions(inventory, part);
        let Some(function) = found.first() else {
            return Some(format!("there is nothing at {part}"));
        };
        let id = function.id.to_string();
        if id != entry.id {
            return Some(format!("{part} is {id}, not {}", entry.id));
        }
        let subsystem = function.subsystem.map(|id| id.to_string());
        // All zeroes are no IDs here, and are IDs there.
        let then = entry.subsystem.as_deref().filter(|id| *id != "0000:0000");
        if let Some(text) = differs("subsystem-id", subsystem, then) {
            return Some(format!("{part} {text}"));
        }
        let group = function.iommu_group.map(|group| group.to_string());
        if index == 0
            && let Some(text) = differs("iommugroup", group, entry.group.as_deref())
        {
            return Some(format!("{part} {text}"));
        }
    }
    None
}

fn differs(key: &str, now: Option<String>, then: Option<&str>) -> Option<String> {
    match (now, then) {
        (Some(now), Some(then)) if now != then => Some(format!("has {key} {now}, not {then}")),
        (Some(now), None) => Some(format!("has {key} {now}, which the mapping lacks")),
        (None, Some(then)) => Some(format!("has no {key}, and the mapping says {then}")),
        _ => None,
    }
}

/// Functions with a variant driver, which qemu-server takes from it at each start
/// of a guest (pve-common `SysFSTools.pm`, `pci_dev_bind_to_vfio`): its bind to
/// vfio-pci fails then, since the override names the variant driver.
fn kept(case: &Case<'_>, proxmox: &Proxmox) -> Vec<Finding> {
    let mapped = case.mapped_functions().into_iter();
    let on_variant =
        mapped.filter(|one| is_on_vfio(one) && one.driver.as_deref() != Some(VFIO_PCI));
    let mut findings = Vec::new();
    for function in on_variant {
        let address = function.address;
        let driver = function.driver.as_deref().unwrap_or_default();
        let has = |path: &str| {
            let mut named = path
                .split(';')
                .flat_map(|part| functions(case.inventory, part));
            named.any(|one| one.address == address)
        };
        let entries = |name: &str| {
            let mut entries = proxmox.entries.iter();
            entries.any(|entry| entry.mapping == name && has(&entry.path))
        };
        let rebound = proxmox.rebound.iter();
        let wrong = rebound.filter(|one| has(&one.path) || entries(&one.path));
        let lines: Vec<_> = wrong.map(|one| one.place.as_str()).collect();
        findings.push(if lines.is_empty() {
            let text = format!(
                "{address} is on {driver}: a guest's hostpci line for it needs driver=keep"
            );
            Finding::ok(NAME, text)
        } else {
            Finding::fail(
                NAME,
                format!(
                    "{} would take {address} from {driver} and not start",
                    lines.join(", ")
                ),
                "add driver=keep to that hostpci line (qemu-server 9.0.25 or later), or set driver \
                 = \"vfio-pci\" for its mapping here",
            )
        });
    }
    findings
}

/// A guest that names a mapped function by its address.
fn by_address(
    inventory: &Inventory,
    mapped: &BTreeSet<Address>,
    raw: &RawDevice,
) -> Option<Finding> {
    let named = raw
        .path
        .split(';')
        .flat_map(|part| functions(inventory, part));
    let ours = named
        .map(|one| one.address)
        .find(|one| mapped.contains(one))?;
    Some(Finding::warn(
        NAME,
        format!(
            "{} names {ours} by its address, which can be another device's after the next boot",
            raw.place
        ),
        "use a resource mapping there (mapping=NAME), which is checked at each start",
    ))
}
