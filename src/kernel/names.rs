//! What vendors and products are called, by the system's own database.
//!
//! Reads pci.ids, or the text that systemd's hwdb is made from, once and only
//! for the IDs that are asked for. A host without either has no names.
//! Source: pci.ids(5); hwdb(7).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::pci::id::PciId;

const PCI_IDS: &[&str] = &["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];
const HWDB: &[&str] = &[
    "/usr/lib/udev/hwdb.d/20-pci-vendor-model.hwdb",
    "/etc/udev/hwdb.d/20-pci-vendor-model.hwdb",
];

/// Names by ID: vendor and product.
pub type Names = BTreeMap<PciId, String>;

/// The names of `ids`, as far as this system knows them.
#[must_use]
pub fn lookup(ids: &BTreeSet<PciId>) -> Names {
    let first = |paths: &[&str]| paths.iter().find_map(|path| fs::read(path).ok());
    if let Some(bytes) = first(PCI_IDS) {
        return pci_ids(&String::from_utf8_lossy(&bytes), ids);
    }
    first(HWDB).map_or_else(Names::new, |bytes| {
        hwdb(&String::from_utf8_lossy(&bytes), ids)
    })
}

fn hex(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 16).ok()
}

/// `vvvv  Vendor`, below it `\tdddd  Product`; classes follow after the last
/// vendor and begin with `C `.
fn pci_ids(text: &str, ids: &BTreeSet<PciId>) -> Names {
    let vendors: BTreeSet<u16> = ids.iter().map(|id| id.vendor).collect();
    let mut names = Names::new();
    let mut vendor: Option<(u16, &str)> = None;
    for line in text.lines() {
        if line.starts_with("C ") {
            break;
        }
        if line.starts_with('#') || line.starts_with("\t\t") {
            continue;
        }
        let (number, name) = line.trim().split_once("  ").unwrap_or_default();
        let Some(number) = hex(number) else {
            continue;
        };
        if !line.starts_with('\t') {
            vendor = vendors.contains(&number).then_some((number, name));
        } else if let Some((vendor, vendor_name)) = vendor {
            let id = PciId {
                vendor,
                device: number,
            };
            if ids.contains(&id) {
                names.insert(id, format!("{vendor_name} {name}"));
            }
        }
    }
    names
}

/// `pci:v00008086d000010D3*`, below it ` ID_MODEL_FROM_DATABASE=Product`.
fn hwdb(text: &str, ids: &BTreeSet<PciId>) -> Names {
    let mut vendors: BTreeMap<u16, &str> = BTreeMap::new();
    let mut names = Names::new();
    let mut now: Option<(u16, Option<u16>)> = None;
    for line in text.lines() {
        if let Some(pattern) = line.strip_prefix("pci:v0000") {
            let vendor = pattern.get(..4).and_then(hex);
            let device = match pattern.get(4..) {
                Some("*") => Some(None),
                Some(rest) if rest.len() == 10 && rest.ends_with('*') => rest
                    .strip_prefix("d0000")
                    .and_then(|rest| rest.get(..4))
                    .and_then(hex)
                    .map(Some),
                _ => None,
            };
            now = vendor.zip(device);
        } else if let (Some((vendor, None)), Some(name)) =
            (now, line.strip_prefix(" ID_VENDOR_FROM_DATABASE="))
        {
            vendors.insert(vendor, name);
        } else if let (Some((vendor, Some(device))), Some(name)) =
            (now, line.strip_prefix(" ID_MODEL_FROM_DATABASE="))
        {
            let id = PciId { vendor, device };
            if ids.contains(&id) {
                let vendor = vendors.get(&vendor).copied().unwrap_or_default();
                names.insert(id, format!("{vendor} {name}").trim().to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_give_the_same_names() {
        let ids = BTreeSet::from(["8086:10d3".parse().unwrap(), "8086:ffff".parse().unwrap()]);
        let text = "# no\n1af4  Red Hat\n\t10d3  Wrong\n8086  Intel Corporation\n\t10d3  82574L\n\t\t8086 0001  Sub\nC 02  Network\n\t00  Ethernet\n";
        let wanted = Names::from([(
            "8086:10d3".parse().unwrap(),
            "Intel Corporation 82574L".to_owned(),
        )]);
        assert_eq!(pci_ids(text, &ids), wanted);
        let text = "pci:v00001AF4*\n ID_VENDOR_FROM_DATABASE=Red Hat\n\npci:v00008086*\n ID_VENDOR_FROM_DATABASE=Intel Corporation\n\npci:v00008086d000010D3*\n ID_MODEL_FROM_DATABASE=82574L\n\npci:v00008086d000010D3sv00008086sd00000001*\n ID_MODEL_FROM_DATABASE=Sub\n";
        assert_eq!(hwdb(text, &ids), wanted);
    }
}
