//! Scan: from sysfs to functions.
//!
//! Reads only attributes that take no device lock, so that it comes back even
//! when a driver's remove is stuck: never `uevent`, `driver_override`, `config`
//! or `sriov_numvfs` (Linux 6.1 drivers/pci/pci-sysfs.c, drivers/pci/iov.c;
//! reading `driver_override` behind a stuck unbind was seen to hang on 6.1).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::sysfs::{Sysfs, function_dir, link_name, target, text};
use crate::pci::{
    address::Address,
    function::{Function, Header, Role},
    id::{ClassCode, PciId},
    inventory::Inventory,
};

/// All functions of the host. One that goes meanwhile is left out.
///
/// # Errors
/// If the list of functions itself cannot be read.
pub fn scan_all(sysfs: &(impl Sysfs + ?Sized)) -> io::Result<Inventory> {
    let slots = slots(sysfs);
    let mut inventory: Inventory = sysfs
        .list("bus/pci/devices")?
        .iter()
        .filter_map(|name| function(sysfs, name.parse().ok()?, &slots))
        .collect();
    // A PF lists its VFs in order; asking each VF would read them all for each.
    let mut indices = BTreeMap::new();
    for function in inventory.iter() {
        if matches!(function.role, Role::Pf { .. }) {
            let all = vfs_by_index(sysfs, &function_dir(function.address));
            indices.extend(all.into_iter().map(|(index, vf)| (vf, index)));
        }
    }
    for (address, place) in indices {
        if let Some(Role::Vf { index, .. }) = inventory.get_mut(address).map(|one| &mut one.role) {
            *index = Some(place);
        }
    }
    Ok(inventory)
}

/// Those functions of the host that are `wanted`, and what shares an IOMMU group with
/// one of them: a fraction of the reads of [`scan_all`], for whoever is waited for.
/// Names of slots, and which of a PF's VFs it is, are left out.
///
/// # Errors
/// If functions cannot be listed, all of them or those of a group.
pub fn scan_some(
    sysfs: &(impl Sysfs + ?Sized),
    wanted: impl Fn(Address) -> bool,
) -> io::Result<Inventory> {
    let slots = BTreeMap::new();
    let mut inventory = Inventory::default();
    let mut groups = BTreeSet::new();
    for name in sysfs.list("bus/pci/devices")? {
        let address = name.parse().ok().filter(|address| wanted(*address));
        let found = address.and_then(|address| function(sysfs, address, &slots));
        let Some(found) = found else {
            continue;
        };
        let (dir, group) = (function_dir(found.address), found.iommu_group);
        inventory.insert(found);
        if group.is_some_and(|group| groups.insert(group)) {
            for name in sysfs.list(&format!("{dir}/iommu_group/devices"))? {
                let member = name.parse().ok();
                let member = member.and_then(|member| function(sysfs, member, &slots));
                if let Some(member) = member {
                    inventory.insert(member);
                }
            }
        }
    }
    Ok(inventory)
}

/// The function at `address`, `None` if it is not there. The name of its slot, where
/// it is known, is that of the place: to find it takes a look at all slots.
#[must_use]
pub fn scan_function(
    sysfs: &(impl Sysfs + ?Sized),
    address: Address,
    slot_name: Option<String>,
) -> Option<Function> {
    let slots = slot_name.map_or_else(
        || slots(sysfs),
        |name| BTreeMap::from([(address.slot().to_string(), name)]),
    );
    let mut found = function(sysfs, address, &slots)?;
    if let Role::Vf { pf, index } = &mut found.role {
        let siblings = vfs_by_index(sysfs, &function_dir(*pf)).into_iter();
        let mut own = siblings.filter(|(_, vf)| *vf == address);
        *index = own.next().map(|(index, _)| index);
    }
    Some(found)
}

/// Hotplug slot names by the domain:bus:device that each serves.
fn slots(sysfs: &(impl Sysfs + ?Sized)) -> BTreeMap<String, String> {
    let names = sysfs.list("bus/pci/slots").unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| Some((text(sysfs, &format!("bus/pci/slots/{name}/address"))?, name)))
        .collect()
}

fn function(
    sysfs: &(impl Sysfs + ?Sized),
    address: Address,
    slots: &BTreeMap<String, String>,
) -> Option<Function> {
    let dir = function_dir(address);
    let read = |name: &str| text(sysfs, &format!("{dir}/{name}"));
    let number = |name: &str| hex(&read(name)?);
    let id = PciId {
        vendor: u16::try_from(number("vendor")?).ok()?,
        device: u16::try_from(number("device")?).ok()?,
    };
    let class = ClassCode::new(number("class")?);
    let subsystem = || {
        Some(PciId {
            vendor: u16::try_from(number("subsystem_vendor")?).ok()?,
            device: u16::try_from(number("subsystem_device")?).ok()?,
        })
    };
    let group = link_name(sysfs, &format!("{dir}/iommu_group"));
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
    Some(Function {
        address,
        id,
        subsystem: subsystem().filter(|id| {
            *id != PciId {
                vendor: 0,
                device: 0,
            }
        }),
        class,
        revision: number("revision")
            .and_then(|one| u8::try_from(one).ok())
            .unwrap_or(0),
        header: header(&read, class),
        numa_node: read("numa_node").and_then(|node| node.parse().ok()),
        iommu_group: group.and_then(|group| group.parse().ok()),
        driver: link_name(sysfs, &format!("{dir}/driver")),
        role: role(sysfs, &dir, &read),
        boot_vga: read("boot_vga").as_deref() == Some("1"),
        path: path(&sysfs.read_link(&dir).unwrap_or_default()),
        slot_name: slots.get(&address.slot().to_string()).cloned(),
        slot_label: read("label").filter(|label| !label.is_empty()),
        netdevs: sysfs.list(&format!("{dir}/net")).unwrap_or_default(),
        reset_methods: read("reset_method").map(words).unwrap_or_default(),
        modalias: read("modalias").unwrap_or_default(),
        inspection: None,
    })
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Bridges have `secondary_bus_number` (drivers/pci/pci-sysfs.c,
/// `pci_bridge_attrs_are_visible`, v6.1); classes tell where that is missing.
fn header(read: &impl Fn(&str) -> Option<String>, class: ClassCode) -> Header {
    let by_class = matches!(class.subclass(), 0x0604 | 0x0607);
    if by_class || read("secondary_bus_number").is_some() {
        Header::Bridge
    } else {
        Header::Endpoint
    }
}

fn role(sysfs: &(impl Sysfs + ?Sized), dir: &str, read: &impl Fn(&str) -> Option<String>) -> Role {
    let physfn = link_name(sysfs, &format!("{dir}/physfn"));
    if let Some(pf) = physfn.and_then(|name| name.parse().ok()) {
        return Role::Vf { pf, index: None };
    }
    let total = read("sriov_totalvfs").and_then(|total| total.parse().ok());
    total.map_or(Role::Plain, |total_vfs| Role::Pf {
        total_vfs,
        vfs: vfs(sysfs, dir),
    })
}

/// What the `virtfnN` links name, in the order of N.
pub(super) fn vfs(sysfs: &(impl Sysfs + ?Sized), pf: &str) -> Vec<Address> {
    vfs_by_index(sysfs, pf).into_values().collect()
}

/// What the `virtfnN` links name, by N. While VFs go, the first ones are missing
/// (drivers/pci/iov.c, `sriov_del_vfs`, v6.12).
pub(super) fn vfs_by_index(sysfs: &(impl Sysfs + ?Sized), pf: &str) -> BTreeMap<u16, Address> {
    let names = sysfs.list(pf).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| {
            let index = name.strip_prefix("virtfn")?.parse().ok()?;
            let vf = link_name(sysfs, &format!("{pf}/{name}"))?;
            Some((index, vf.parse().ok()?))
        })
        .collect()
}

/// The topological path out of a link like
/// `../../../devices/pci0000:00/0000:00:01.1/0000:01:00.0`: bus numbers are
/// left out but for a root bus's, which the firmware does not hand out anew.
pub(super) fn path(link: &str) -> String {
    let mut hops: Vec<String> = Vec::new();
    let mut after_root = false;
    for part in target(link).split('/') {
        match part.parse::<Address>() {
            Ok(address) if after_root => {
                hops.push(address.to_string());
                after_root = false;
            }
            Ok(address) => hops.push(format!("{:02x}.{:x}", address.device(), address.function())),
            Err(_) => after_root = part.starts_with("pci"),
        }
    }
    hops.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_leave_bus_numbers_out() {
        for (link, wanted) in [
            ("../../../devices/pci0000:00/0000:00:02.0", "0000:00:02.0"),
            (
                "../../../devices/pci0000:00/0000:00:01.1/0000:3b:00.0/0000:3c:04.0",
                "0000:00:01.1/00.0/04.0",
            ),
            (
                "../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0",
                "0000:00:0e.0/10000:e0:06.0/00.0",
            ),
            ("", ""),
        ] {
            assert_eq!(path(link), wanted);
        }
    }
}
