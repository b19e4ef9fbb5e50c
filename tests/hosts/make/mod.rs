//! Recorded hosts that are made by code; the lab's own was recorded in it.
//!
//! IDs are real (pci.ids); addresses, paths and IOMMU groups are as Linux lays
//! such hosts out. Serial numbers and what the host does are made up.

mod board;
mod facts;
mod gpu_server;
mod host;
mod nic_vfs;

pub(crate) use host::beside;
use vfio_bindd::pci::inventory::Inventory;

/// A host that a file is made of.
pub(crate) struct Made {
    pub(crate) name: &'static str,
    pub(crate) kernel: &'static str,
    pub(crate) inventory: fn() -> Inventory,
}

/// All of them.
pub(crate) const MADE: &[Made] = &[
    Made {
        name: "gpu-server",
        kernel: "6.12.43+deb13-amd64",
        inventory: gpu_server::inventory,
    },
    Made {
        name: "nic-vfs",
        kernel: "6.8.12-13-pve",
        inventory: nic_vfs::inventory,
    },
];
