//! Proxmox VE: what a guest passes through, and the cluster's resource mappings.
//!
//! A value that qemu-server refuses is refused here, and what it would pass
//! through is what comes out. Never reads a file and never asks a host.
//! Source: qemu-server 9.2, pve-common 9.2, pve-guest-common 6.0; PVE's own
//! code judges the same values in `tests/proxmox_oracle.rs`.

pub mod check;
pub mod filter;
pub mod guest;
pub mod hostpci;
pub mod mapping;
pub mod plan;
pub mod property;
pub mod sections;
pub mod verdict;

use std::collections::BTreeMap;

use crate::pci::{
    address::Address,
    function::{Function, Role},
    id::PciId,
};

/// Functions of a host, by address.
pub type Devices = BTreeMap<Address, Device>;

/// What PVE compares of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub address: Address,
    /// Vendor and device ID.
    pub id: PciId,
    /// Subsystem IDs, `None` where sysfs has no such files.
    pub subsystem: Option<PciId>,
    /// IOMMU group, `None` without an IOMMU.
    pub iommu_group: Option<u32>,
    /// Whether it is an SR-IOV virtual function.
    pub is_vf: bool,
}

impl From<&Function> for Device {
    /// Without subsystem IDs they are 0000:0000: the kernel shows the two files
    /// of every function, and PVE wants in the mapping what they say
    /// (drivers/pci/pci-sysfs.c, `pci_dev_attrs`, v6.12).
    fn from(function: &Function) -> Self {
        let none = PciId {
            vendor: 0,
            device: 0,
        };
        Self {
            address: function.address,
            id: function.id,
            subsystem: Some(function.subsystem.unwrap_or(none)),
            iommu_group: function.iommu_group,
            is_vf: matches!(function.role, Role::Vf { .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_without_subsystem_ids_has_zeroes() {
        let read = |more: &str| {
            let text = format!(
                r#"{{"address":"0000:07:10.0","id":"8086:1520","class":"020000","path":"x"{more}}}"#
            );
            Device::from(&serde_json::from_str::<Function>(&text).unwrap())
        };
        let plain = read(r#","subsystem":"1043:88dc","iommu_group":7"#);
        assert_eq!(plain.subsystem, "1043:88dc".parse().ok());
        assert_eq!((plain.iommu_group, plain.is_vf), (Some(7), false));
        let vf = read(r#","role":{"vf":{"pf":"0000:07:00.0","index":0}}"#);
        assert_eq!(vf.subsystem, "0000:0000".parse().ok());
        assert_eq!((vf.iommu_group, vf.is_vf), (None, true));
    }
}
