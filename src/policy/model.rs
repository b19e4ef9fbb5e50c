//! What a validated config means: mappings and their settings.
//!
//! Owns the types that `config` builds and everything else reads. No text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    guard::Guard, knobs::Knobs, ownership::Ownership, placement::Preference, selector::Selector,
    sriov::Sriov,
};

/// The driver that functions are bound to unless a mapping says otherwise.
pub const VFIO_PCI: &str = "vfio-pci";

/// The drivers that a mapping may name, as they are called in sysfs. Any driver
/// can be forced on any function by its override, and most would ruin it; these
/// are the vfio drivers of Linux 7.3 (drivers/vfio/pci, `struct pci_driver`).
pub const VFIO_DRIVERS: [&str; 9] = [
    VFIO_PCI,
    "mlx5_vfio_pci",
    "nvgrace_gpu_vfio_pci",
    "hisi_acc_vfio_pci",
    "pds_vfio_pci",
    "qat_vfio_pci",
    "virtio_vfio_pci",
    "ism_vfio_pci",
    "xe-vfio-pci",
];

/// A whole validated config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Mappings by name.
    pub mappings: BTreeMap<String, Mapping>,
    /// What is never touched, whatever a mapping says.
    pub protect: Vec<Selector>,
    /// How Proxmox VE's resource mappings are kept in step.
    pub proxmox: Proxmox,
    /// PFs that are to have VFs, by name.
    pub sriov: BTreeMap<String, Sriov>,
}

/// How Proxmox VE's resource mappings are kept in step (`[proxmox]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxmox {
    /// Whether they are.
    pub sync: bool,
    /// Which of this node's entries are replaced.
    pub replace: Replace,
}

/// Which of this node's entries in a resource mapping are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// Those that vfio-bindd wrote.
    #[default]
    Own,
    /// All of them.
    Node,
}

impl Policy {
    /// Whether any mapping leaves the choice of a driver to the kernel's aliases.
    #[must_use]
    pub fn asks_for_variants(&self) -> bool {
        let mut mappings = self.mappings.values();
        mappings.any(|mapping| mapping.driver == DriverChoice::Auto)
    }

    /// Whether any mapping wants settings of its functions to be otherwise.
    #[must_use]
    pub fn asks_for_settings(&self) -> bool {
        let mut mappings = self.mappings.values();
        mappings.any(|mapping| !mapping.knobs.is_empty())
    }
}

/// A named entry of the config that resolves to functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What a person says of it; may be empty.
    pub description: String,
    /// Any of these selectors may match.
    pub matches: Vec<Selector>,
    /// Whatever one of these matches is left out.
    pub exclude: Vec<Selector>,
    /// What is taken of a matched device.
    pub extent: Extent,
    /// How many devices must match.
    pub expect: Expect,
    /// How many of them are taken, those that are preferred first.
    pub take: Option<u32>,
    /// Which ones are preferred, by `take` and by claims that do not say it.
    pub preference: Preference,
    /// The wanted driver.
    pub driver: DriverChoice,
    /// What may happen to a native driver that came first.
    pub detach: Detach,
    /// What happens to companions in the IOMMU group.
    pub group: GroupRule,
    /// Guards that are lifted here and only here.
    pub allow: BTreeSet<Guard>,
    /// Whether refused candidates are passed over instead of refusing all.
    pub partial: bool,
    /// Whose the nodes of its functions are to be.
    pub ownership: Ownership,
    /// What their settings are to be.
    pub knobs: Knobs,
    /// The ID of the resource mapping of Proxmox VE that is kept in step with it.
    pub proxmox: Option<String>,
}

/// What is taken of a matched device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// The matched functions (`functions = "matched"`).
    #[default]
    Matched,
    /// All functions of the slots that they are in (`functions = "slot"`).
    Slot,
}

/// How many devices must match: functions, or slots with [`Extent::Slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The least number.
    pub min: u32,
    /// The greatest number, `None` for no limit.
    pub max: Option<u32>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, None) => write!(f, "at least {min}"),
            (min, Some(max)) if min == max => write!(f, "exactly {min}"),
            (min, Some(max)) => write!(f, "{min} to {max}"),
        }
    }
}

/// The driver that a mapping's functions are bound to. What it comes to for one
/// function is `variant`'s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// `driver = "vfio-pci"`.
    #[default]
    VfioPci,
    /// `driver = "auto"`: the variant driver that is made for the function, or
    /// vfio-pci.
    Auto,
    /// Another one of [`VFIO_DRIVERS`], `driver = "mlx5_vfio_pci"`.
    Variant(&'static str),
}

impl DriverChoice {
    /// The choice of one of [`VFIO_DRIVERS`].
    #[must_use]
    pub fn named(name: &'static str) -> Self {
        if name == VFIO_PCI {
            Self::VfioPci
        } else {
            Self::Variant(name)
        }
    }

    /// The value of `driver` in a config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VfioPci => VFIO_PCI,
            Self::Auto => "auto",
            Self::Variant(name) => name,
        }
    }
}

/// What may happen to a native driver that came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detach {
    /// It is unbound if no guard holds.
    #[default]
    Idle,
    /// It stays: only driverless functions are taken.
    Never,
}

/// What happens to a companion in the IOMMU group that the mapping lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupRule {
    /// It refuses the function, unless it is harmless.
    #[default]
    Refuse,
    /// It is bound too, if no guard holds it.
    Take,
}
