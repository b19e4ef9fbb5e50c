//! What is known of a host beside its functions, for the doctor.
//!
//! Owns the facts and their names; serialised, they are a line of a recorded
//! host. Never reads them itself and never judges them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::image::Carried;
use crate::pci::address::Address;

/// What a look gave, or why it gave nothing. What is simply not there is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen<T> {
    /// It was seen.
    Known(T),
    /// It was not, as a clause: `/proc/iomem: permission denied`.
    Unseen(String),
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self::Unseen("the record does not say".to_owned())
    }
}

impl<T> From<Result<T, String>> for Seen<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(why) => Self::Unseen(why),
        }
    }
}

/// A host beside its functions. The default is one that nobody looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostFacts {
    /// The kernel's release.
    pub kernel: String,
    /// Who made the processor.
    pub cpu: Cpu,
    /// What starts the kernel.
    pub loader: Loader,
    /// The kernel's parameters that matter to device assignment.
    pub parameters: Seen<Vec<String>>,
    /// The IOMMUs that the kernel drives, `dmar0` (`/sys/class/iommu`).
    pub iommus: Seen<Vec<String>>,
    /// The firmware's tables that describe IOMMUs, `DMAR` or `IVRS`.
    pub tables: Seen<Vec<String>>,
    /// Whether interrupts are remapped: chips in `/proc/interrupts` have `IR-`
    /// before their names then (`drivers/iommu/intel/irq_remapping.c`,
    /// `drivers/iommu/amd/iommu.c`, v6.12).
    pub remapping: Seen<bool>,
    /// Whether `vfio_iommu_type1` does without interrupt remapping.
    pub unsafe_interrupts: bool,
    /// Whether vfio makes up IOMMU groups where there is no IOMMU.
    pub no_iommu_mode: bool,
    /// The modules of vfio by name, with `_`.
    pub modules: BTreeMap<String, Module>,
    /// Modules of vfio that files ask to load.
    pub listed: Seen<Vec<Listed>>,
    /// What modprobe.d and the command line say of vfio and of the drivers of
    /// this host's functions.
    pub directives: Seen<Vec<Directive>>,
    /// What driverctl keeps in `/etc/driverctl.d`.
    pub driverctl: Seen<Vec<Kept>>,
    /// Framebuffers that the firmware set up (`/proc/iomem`).
    pub framebuffers: Seen<Vec<Framebuffer>>,
    /// Functions in D3cold.
    pub asleep: Vec<Asleep>,
    /// What is in `/dev/vfio`.
    pub nodes: Seen<Vec<Node>>,
    /// Proxmox VE, `None` where it is not installed.
    pub proxmox: Seen<Option<Proxmox>>,
    /// The initramfs of the running kernel, `None` where none was found.
    pub initramfs: Seen<Option<Image>>,
    /// Whether the kernel panics when a task hangs (`kernel.hung_task_panic`).
    pub hung_task_panic: Seen<bool>,
    /// Settings of how much memory may be locked.
    pub memory_locks: Seen<Vec<MemoryLock>>,
    /// The kernel's lockdown, `None` where it has none.
    pub lockdown: Seen<Option<String>>,
    /// The daemon's unit.
    pub unit: Seen<Unit>,
}

/// Who made the processor, as far as IOMMUs differ by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cpu {
    /// Intel: VT-d.
    Intel,
    /// AMD, or Hygon, which is made after it: AMD-Vi.
    Amd,
    /// Another, or not known.
    #[default]
    Other,
}

/// What starts the kernel, and so where its command line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// GRUB with Debian's `/etc/default/grub`.
    Grub,
    /// systemd-boot, filled by proxmox-boot-tool.
    ProxmoxBoot,
    /// systemd-boot.
    SystemdBoot,
    /// Whatever NixOS was told to use.
    Nixos,
    /// Another, or not known.
    #[default]
    Other,
}

/// How a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Module {
    /// It is a part of the kernel.
    BuiltIn,
    /// It is loaded.
    Loaded,
    /// It can be loaded.
    Available,
    /// This kernel has none.
    Missing,
    /// It is not loaded, and the lists of modules cannot be read.
    Unknown,
}

/// A line that asks to load a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The file and the line, `/etc/modules:7`.
    pub place: String,
    /// The module, with `_`.
    pub module: String,
}

/// One thing that modprobe.d or the command line says of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directive {
    /// The file and the line, `/etc/modprobe.d/vfio.conf:3`, or the kernel
    /// parameter as it is written there.
    pub place: String,
    /// Whether it is on the kernel command line and not in a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parameter: bool,
    /// The module, with `_`.
    pub module: String,
    /// What is said of it.
    pub order: Order,
    /// The functions of this host that the module has a driver for
    /// (modules.alias).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<Address>,
}

/// What is said of a module (modprobe.d(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// It is not loaded for a device's sake.
    Blacklist,
    /// It is not loaded at all (`module_blacklist=`).
    Forbid,
    /// This command is run instead of loading it.
    Install(String),
    /// These modules are loaded before it.
    After(Vec<String>),
    /// Functions with these IDs are its own, wherever they are.
    Ids(String),
}

/// An override that driverctl sets at each boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The file.
    pub file: String,
    /// The function.
    pub address: Address,
    /// The driver.
    pub driver: String,
}

/// A framebuffer that the firmware set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framebuffer {
    /// The kernel's name for its memory, `BOOTFB`.
    pub name: String,
    /// The function whose memory it is in.
    pub address: Address,
}

/// A function in D3cold: its power is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asleep {
    /// The function.
    pub address: Address,
    /// Whether it may go there by itself (`d3cold_allowed`).
    pub allowed: bool,
}

/// A node in `/dev/vfio`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name: an IOMMU group's number, or `vfio`.
    pub name: String,
    /// Its permission bits.
    pub mode: u32,
}

/// What Proxmox VE has in its config, for this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxmox {
    /// Devices of resource mappings.
    pub entries: Vec<MapEntry>,
    /// Devices that guests name by address.
    pub raw: Vec<RawDevice>,
}

/// A device of a resource mapping (`/etc/pve/mapping/pci.cfg`). Values are as
/// they are written, which is how Proxmox VE compares them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapEntry {
    /// The file and the line.
    pub place: String,
    /// The mapping.
    pub mapping: String,
    /// Addresses, of functions or of slots, separated by semicolons.
    pub path: String,
    /// Vendor and device ID.
    pub id: String,
    /// Subsystem IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<String>,
    /// IOMMU group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A device that a guest names by address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDevice {
    /// The file and the line.
    pub place: String,
    /// Addresses, of functions or of slots, separated by semicolons.
    pub path: String,
}

/// An initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The file.
    pub file: String,
    /// Files that go into it, that name vfio, and that are newer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older_than: Vec<String>,
    /// What it holds of vfio-bindd, `None` where images have no early stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<Carried>,
}

/// A setting of how much memory may be locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryLock {
    /// The file and the line.
    pub place: String,
    /// Whom it is for, in words: `@kvm`, `services`.
    pub whom: String,
    /// The limit as it is written, with its unit, or `unlimited`.
    pub limit: String,
}

/// The daemon's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// It is started at boot.
    Enabled,
    /// It is there and not started at boot.
    Disabled,
    /// It is not there.
    Missing,
}
