//! Board: buses with functions on them, from which addresses, topological
//! paths, NUMA nodes and IOMMU groups follow.

use vfio_bindd::pci::{
    address::Address,
    function::{Function, Header, Inspection, Role},
    id::ClassCode,
    inventory::Inventory,
    usage::Fact,
};

pub(crate) const HOST_BRIDGE: u32 = 0x06_0000;
pub(crate) const ISA_BRIDGE: u32 = 0x06_0100;
pub(crate) const PCI_BRIDGE: u32 = 0x06_0400;
pub(crate) const IOMMU: u32 = 0x08_0600;
pub(crate) const SYSTEM: u32 = 0x08_8000;
pub(crate) const SMBUS: u32 = 0x0c_0500;
pub(crate) const XHCI: u32 = 0x0c_0330;
pub(crate) const SATA: u32 = 0x01_0601;
pub(crate) const RAID: u32 = 0x01_0400;
pub(crate) const NVME: u32 = 0x01_0802;
pub(crate) const ETHERNET: u32 = 0x02_0000;
pub(crate) const VGA: u32 = 0x03_0000;
pub(crate) const GPU_3D: u32 = 0x03_0200;
pub(crate) const AUDIO: u32 = 0x04_0300;

/// A bus, and what follows from its place for the functions on it.
#[derive(Clone)]
pub(crate) struct Bus {
    domain: u32,
    number: u8,
    node: Option<u32>,
    /// The path of what the bus is behind, empty for a root bus of the board.
    path: String,
    /// Whether a path spells addresses on it out.
    root: bool,
}

impl Bus {
    /// A root bus of domain 0.
    pub(crate) fn root(number: u8, node: Option<u32>) -> Self {
        Self {
            domain: 0,
            number,
            node,
            path: String::new(),
            root: true,
        }
    }

    /// The root bus of a domain of its own behind `controller` (Intel VMD).
    pub(crate) fn domain_behind(controller: &Function, domain: u32) -> Self {
        Self {
            domain,
            path: controller.path.clone(),
            ..Self::root(0, controller.numa_node)
        }
    }

    /// The address of device.function `hop` on this bus.
    pub(crate) fn at(&self, hop: &str) -> Address {
        let bus = self.number;
        format!("{:04x}:{bus:02x}:{hop}", self.domain)
            .parse()
            .unwrap()
    }

    /// A type 0 function that no driver holds and that was inspected.
    pub(crate) fn endpoint(&self, hop: &str, id: &str, class: u32) -> Function {
        let address = self.at(hop);
        let hop = if self.root {
            address.to_string()
        } else {
            hop.to_owned()
        };
        let between = if self.path.is_empty() { "" } else { "/" };
        Function {
            address,
            id: id.parse().unwrap(),
            subsystem: None,
            class: ClassCode::new(class),
            revision: 0,
            header: Header::Endpoint,
            numa_node: self.node,
            iommu_group: None,
            driver: None,
            role: Role::Plain,
            boot_vga: false,
            path: format!("{}{between}{hop}", self.path),
            slot_name: None,
            slot_label: None,
            netdevs: Vec::new(),
            reset_methods: Vec::new(),
            modalias: String::new(),
            inspection: Some(Inspection::default()),
        }
    }

    /// A PCI bridge. No helper was asked about it: it is never taken.
    pub(crate) fn bridge(&self, hop: &str, id: &str) -> Function {
        Function {
            header: Header::Bridge,
            driver: Some("pcieport".to_owned()),
            inspection: None,
            ..self.endpoint(hop, id, PCI_BRIDGE)
        }
    }

    /// The bus `number` behind the bridge at `hop`.
    pub(crate) fn behind(&self, hop: &str, number: u8) -> Self {
        Self {
            number,
            path: self.endpoint(hop, "ffff:ffff", PCI_BRIDGE).path,
            root: false,
            ..self.clone()
        }
    }

    /// The bus that the kernel adds for VFs whose numbers run past the end of
    /// this one: it has no bridge, so its functions hang where these do
    /// (Linux drivers/pci/iov.c, `virtfn_add_bus` and `pci_iov_add_virtfn`).
    pub(crate) fn next(&self) -> Self {
        Self {
            number: self.number + 1,
            ..self.clone()
        }
    }
}

/// The functions of a host as it is put together.
#[derive(Default)]
pub(crate) struct Board {
    functions: Vec<Function>,
    groups: u32,
}

impl Board {
    /// Adds functions that the IOMMU cannot tell apart: one group, its number.
    pub(crate) fn group<const N: usize>(&mut self, functions: [Function; N]) -> u32 {
        let group = self.groups;
        self.groups += 1;
        for function in functions {
            self.join(group, function);
        }
        group
    }

    /// Adds a function to a group that is there.
    pub(crate) fn join(&mut self, group: u32, function: Function) {
        self.functions.push(Function {
            iommu_group: Some(group),
            ..function
        });
    }

    /// Adds a function that is in no group.
    pub(crate) fn ungrouped(&mut self, function: Function) {
        self.functions.push(function);
    }

    /// Adds a bridge in a group of its own and gives the bus behind it.
    pub(crate) fn port(&mut self, bus: &Bus, hop: &str, id: &str, number: u8) -> Bus {
        self.group([bus.bridge(hop, id)]);
        bus.behind(hop, number)
    }

    pub(crate) fn inventory(self) -> Inventory {
        let named = |function| Function {
            modalias: modalias(&function),
            ..function
        };
        self.functions.into_iter().map(named).collect()
    }
}

/// As drivers/pci/pci-sysfs.c (`modalias_show`) writes it.
fn modalias(function: &Function) -> String {
    let [_, base, sub, interface] = function.class.value().to_be_bytes();
    let (sub_vendor, sub_device) = function
        .subsystem
        .map_or((0, 0), |id| (id.vendor, id.device));
    format!(
        "pci:v{:08X}d{:08X}sv{sub_vendor:08X}sd{sub_device:08X}bc{base:02X}sc{sub:02X}i{interface:02X}",
        function.id.vendor, function.id.device
    )
}

/// What is said of a function beside its place.
pub(crate) trait Told: Sized {
    fn told(self, change: impl FnOnce(&mut Function)) -> Self;

    fn subsystem(self, id: &str) -> Self {
        self.told(|one| one.subsystem = Some(id.parse().unwrap()))
    }

    fn revision(self, revision: u8) -> Self {
        self.told(|one| one.revision = revision)
    }

    fn held_by(self, driver: &str) -> Self {
        self.told(|one| one.driver = Some(driver.to_owned()))
    }

    fn netdev(self, name: &str) -> Self {
        self.told(|one| one.netdevs.push(name.to_owned()))
    }

    fn serial(self, serial: impl Into<String>) -> Self {
        self.told(|one| one.inspection.get_or_insert_default().serial = Some(serial.into()))
    }

    fn resets(self, methods: &str) -> Self {
        self.told(|one| {
            one.reset_methods = methods.split_whitespace().map(str::to_owned).collect();
        })
    }

    /// In the hotplug slot with this name.
    fn in_slot(self, name: impl Into<String>) -> Self {
        self.told(|one| one.slot_name = Some(name.into()))
    }

    fn label(self, label: &str) -> Self {
        self.told(|one| one.slot_label = Some(label.to_owned()))
    }

    fn can_have_vfs(self, total_vfs: u16) -> Self {
        self.told(|one| {
            one.role = Role::Pf {
                total_vfs,
                vfs: Vec::new(),
            };
        })
    }

    /// The helper found the host using it.
    fn used(self, fact: Fact) -> Self {
        self.told(|one| one.inspection.get_or_insert_default().usage.push(fact))
    }

    /// Held by a driver of a kind that cannot be checked.
    fn held_for_unknown_use(self, driver: &str) -> Self {
        let text = format!("{driver} holds it, and nobody can tell whether the host needs it");
        self.held_by(driver).used(Fact::Unchecked { text })
    }

    /// Bound to vfio-pci by an earlier run.
    fn bound(self) -> Self {
        self.held_by("vfio-pci").told(|one| {
            one.inspection.get_or_insert_default().driver_override = Some("vfio-pci".to_owned());
        })
    }
}

impl Told for Function {
    fn told(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
