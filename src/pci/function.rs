//! One PCI function as it was observed.
//!
//! Owns the facts and their names; serialised, they are a line of a recorded
//! host. Never reads them itself and never judges them.
//! Source of the attributes: Documentation/ABI/testing/sysfs-bus-pci (v6.12).

use serde::{Deserialize, Serialize};

use super::{
    address::Address,
    id::{ClassCode, PciId},
    settings::Settings,
    usage::Fact,
};

/// All that was observed of one function without taking its device lock, plus
/// what a helper found out where it was asked to ([`Inspection`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// Vendor and device ID, as the kernel cached them at enumeration.
    pub id: PciId,
    /// Subsystem IDs, `None` where the kernel shows none (bridges).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<PciId>,
    /// Class code.
    pub class: ClassCode,
    /// Revision ID.
    #[serde(default)]
    pub revision: u8,
    /// Header type.
    #[serde(default)]
    pub header: Header,
    /// NUMA node, `None` where sysfs says -1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// IOMMU group, `None` without an IOMMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<u32>,
    /// The driver that the `driver` link names. `None` does not prove that the
    /// function is free: the link goes before an unbind has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// SR-IOV role.
    #[serde(default)]
    pub role: Role,
    /// Whether it is the VGA device that the firmware booted with.
    #[serde(default, skip_serializing_if = "is_false")]
    pub boot_vga: bool,
    /// Device.function hops from the root complex, `0000:00:01.1/00.0`.
    pub path: String,
    /// Name of the hotplug slot that it sits in (`/sys/bus/pci/slots`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_name: Option<String>,
    /// The firmware's label of it (sysfs `label`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_label: Option<String>,
    /// Names of its network interfaces in the daemon's network namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub netdevs: Vec<String>,
    /// Reset methods that the kernel would try, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reset_methods: Vec<String>,
    /// The kernel's `modalias`, which variant drivers are chosen by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modalias: String,
    /// What a helper found out, `None` until one was asked and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// PCI header type, bits 0 to 6 of config space byte 0x0e.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Header {
    /// Type 0, the only one that vfio-pci takes.
    #[default]
    Endpoint,
    /// Type 1 (PCI bridge) or 2 (CardBus bridge): a bus lies behind it.
    Bridge,
}

/// What a function is in SR-IOV.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Role {
    /// No SR-IOV.
    #[default]
    Plain,
    /// A physical function that can have VFs.
    Pf {
        /// The most VFs that it can have.
        total_vfs: u16,
        /// Its VFs now, in the order of their index.
        vfs: Vec<Address>,
    },
    /// A virtual function.
    Vf {
        /// Its physical function.
        pf: Address,
        /// Its index below the PF, from 0. `None` while the kernel has not
        /// linked it yet (the VF's `add` comes before its `virtfn` link).
        index: Option<u16>,
    },
}

/// Facts whose reading can block behind a stuck driver: only a helper asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// The driver override, `None` where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_override: Option<String>,
    /// The PCIe Device Serial Number as `aa-bb-cc-dd-ee-ff-00-11`, `None` where
    /// the function has none or it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What the host does with it through its native driver. Empty means idle,
    /// and that everything could be checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<Fact>,
    /// Memory of the host that the firmware wants it to reach at all times,
    /// which keeps its IOMMU group from userspace: the regions of type `direct`
    /// in the group's `reserved_regions`
    /// (Documentation/ABI/testing/sysfs-kernel-iommu_groups, v6.12).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct_regions: Vec<String>,
    /// Whether its IOMMU group is one that vfio made up, without an IOMMU
    /// behind it (drivers/vfio/group.c, `vfio_noiommu_group_alloc`, v6.12).
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_iommu: bool,
    /// The variant driver that the kernel's modules have for it, `None` if they
    /// have vfio-pci only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// What its settings are, where somebody asked for them: the size of a BAR is
    /// read of the device.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

/// The vfio driver beside vfio-pci that is made for a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// It is in this module.
    Module {
        /// The module's name, as the kernel has it: `mlx5_vfio_pci`.
        module: String,
        /// The alias that names it, `vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*`.
        alias: String,
    },
    /// Nobody can tell whether there is one, for this reason: a clause.
    Unknown(String),
}

/// Drivers that hand a function to userspace through vfio: bound to one of
/// these, a function is out of the host's hands already.
#[must_use]
pub fn is_vfio_driver(driver: &str) -> bool {
    driver == "vfio-pci" || driver.ends_with("_vfio_pci") || driver.ends_with("-vfio-pci")
}

impl Function {
    /// The driver, if it is one of the host's own and not a vfio driver.
    #[must_use]
    pub fn native_driver(&self) -> Option<&str> {
        self.driver
            .as_deref()
            .filter(|driver| !is_vfio_driver(driver))
    }

    /// Whether `other` is the same piece of hardware by all that cannot change
    /// while a function is there; an address alone is not identity.
    #[must_use]
    pub fn same_device(&self, other: &Self) -> bool {
        self.address == other.address
            && self.id == other.id
            && self.subsystem == other.subsystem
            && self.class == other.class
            && self.revision == other.revision
            && self.path == other.path
    }
}
