//! The made-up hosts, function by function.
//!
//! IDs, classes and shapes are those of real machines; serial numbers are not
//! anybody's.

use vfio_bindd::pci::{
    address::Address,
    function::{Evidence, Function, Header, Inspection, Role, Usage},
    id::ClassCode,
    inventory::Inventory,
};

/// A host in the making. Each function gets an IOMMU group of its own unless
/// it is put in that of another one.
#[derive(Default)]
struct Host {
    functions: Vec<Function>,
    next_group: u32,
    numa_node: Option<u32>,
}

impl Host {
    /// A driverless endpoint at `address`; `above` is the path of the bridge
    /// that it is below, empty at a root bus.
    fn add(&mut self, above: &str, address: &str, id: &str, class: u32) -> &mut Function {
        let address: Address = address.parse().unwrap();
        let hop = format!("{:02x}.{:x}", address.device(), address.function());
        let path = if above.is_empty() {
            address.to_string()
        } else {
            format!("{above}/{hop}")
        };
        let id: vfio_bindd::pci::id::PciId = id.parse().unwrap();
        let (base, sub) = (class >> 16, (class >> 8) & 0xff);
        self.functions.push(Function {
            address,
            id,
            subsystem: Some(id),
            class: ClassCode::new(class),
            revision: 1,
            header: Header::Endpoint,
            numa_node: self.numa_node,
            iommu_group: Some(self.next_group),
            driver: None,
            role: Role::Plain,
            boot_vga: false,
            path,
            slot_name: None,
            slot_label: None,
            netdevs: Vec::new(),
            reset_methods: vec!["flr".to_owned(), "bus".to_owned()],
            modalias: format!(
                "pci:v0000{:04X}d0000{:04X}bc{base:02X}sc{sub:02X}",
                id.vendor, id.device
            ),
            inspection: Some(Inspection::default()),
        });
        self.next_group += 1;
        self.functions.last_mut().unwrap()
    }

    /// A PCIe port or bridge; returns its path.
    fn bridge(&mut self, above: &str, address: &str, id: &str) -> String {
        let bridge = self.add(above, address, id, 0x06_0400);
        bridge.header = Header::Bridge;
        bridge.subsystem = None;
        bridge.reset_methods.clear();
        bridge.driver = Some("pcieport".to_owned());
        bridge.path.clone()
    }

    fn inventory(self) -> Inventory {
        let count = self.functions.len();
        let inventory: Inventory = self.functions.into_iter().collect();
        assert_eq!(inventory.len(), count, "two functions at one address");
        inventory
    }
}

trait Facts {
    fn held_by(&mut self, driver: &str) -> &mut Self;
    fn used(&mut self, guard: &str, text: &str) -> &mut Self;
    fn serial(&mut self, serial: String) -> &mut Self;
    fn net(&mut self, name: &str) -> &mut Self;
    fn in_group(&mut self, group: u32) -> &mut Self;
}

impl Facts for Function {
    fn held_by(&mut self, driver: &str) -> &mut Self {
        self.driver = Some(driver.to_owned());
        self
    }

    fn used(&mut self, guard: &str, text: &str) -> &mut Self {
        let evidence = Evidence {
            guard: guard.to_owned(),
            text: text.to_owned(),
        };
        self.inspection.get_or_insert_default().usage = Usage::InUse(vec![evidence]);
        self
    }

    fn serial(&mut self, serial: String) -> &mut Self {
        self.inspection.get_or_insert_default().serial = Some(serial);
        self
    }

    fn net(&mut self, name: &str) -> &mut Self {
        self.netdevs = vec![name.to_owned()];
        self
    }

    fn in_group(&mut self, group: u32) -> &mut Self {
        self.iommu_group = Some(group);
        self
    }
}

const H100: &str = "10de:2330";
const CONNECTX_7: &str = "15b3:1021";
const PM9A3: &str = "144d:a80a";

/// Two EPYC sockets, eight H100 behind four PCIe switches, each of which also
/// has a ConnectX-7 and a PM9A3; two RTX 2080 Ti with their four functions; the
/// host's own disks, network and display.
pub(crate) fn gpu_server() -> Inventory {
    let mut host = Host {
        numa_node: Some(0),
        ..Host::default()
    };
    host.add("", "0000:00:00.0", "1022:14a4", 0x06_0000);
    host.add("", "0000:00:00.2", "1022:149e", 0x08_0600);
    let smbus = host.add("", "0000:00:14.0", "1022:790b", 0x0c_0500);
    let group = smbus.held_by("piix4_smbus").iommu_group.unwrap();
    let isa = host.add("", "0000:00:14.3", "1022:790e", 0x06_0100);
    isa.in_group(group);

    let port = host.bridge("", "0000:00:01.1", "1022:14ab");
    let aspeed = host.bridge(&port, "0000:01:00.0", "1a03:1150");
    let vga = host.add(&aspeed, "0000:02:00.0", "1a03:2000", 0x03_0000);
    vga.held_by("ast")
        .used("display", "card0 is a display driver's node of it");
    vga.boot_vga = true;

    let port = host.bridge("", "0000:00:03.1", "1022:14ab");
    let up = host.add(&port, "0000:03:00.0", "8086:1563", 0x02_0000);
    up.held_by("ixgbe")
        .net("eno1")
        .used("network", "eno1 is up");
    let down = host.add(&port, "0000:03:00.1", "8086:1563", 0x02_0000);
    down.held_by("ixgbe").net("eno2");
    for (bus, slot, text) in [
        (
            4_u8,
            2_u8,
            "nvme0n1 cannot be opened exclusively: device or resource busy",
        ),
        (
            5,
            3,
            "nvme1n1 cannot be opened exclusively: device or resource busy",
        ),
    ] {
        let port = host.bridge("", &format!("0000:00:03.{slot}"), "1022:14ab");
        let disk = host.add(&port, &format!("0000:{bus:02x}:00.0"), PM9A3, 0x01_0802);
        disk.held_by("nvme")
            .used("storage", text)
            .serial(format!("00-25-38-b7-31-00-00-{bus:02x}"));
        disk.slot_label = Some(format!("M.2 {}", bus - 3));
    }

    for (index, bus) in [0x20_u8, 0x40, 0xa0, 0xc0].into_iter().enumerate() {
        switch(&mut host, u8::try_from(index).unwrap(), bus);
    }

    host.numa_node = Some(1);
    for (index, bus) in [0xe1_u8, 0xe2].into_iter().enumerate() {
        graphics(&mut host, index, bus);
    }
    // One root port without ACS: what is behind it shares a group.
    let port = host.bridge("", "0000:e0:08.1", "1022:14a7");
    let sata = host.add(&port, "0000:e3:00.0", "1022:7901", 0x01_0601);
    sata.held_by("ahci");
    let group = sata
        .used(
            "storage",
            "sda cannot be opened exclusively: device or resource busy",
        )
        .iommu_group
        .unwrap();
    let usb = host.add(&port, "0000:e3:00.4", "1022:148c", 0x0c_0330);
    usb.in_group(group);
    host.inventory()
}

/// A switch with two GPUs, a NIC and a disk behind a root port of its own.
fn switch(host: &mut Host, index: u8, bus: u8) {
    host.numa_node = Some(u32::from(index / 2));
    host.add("", &format!("0000:{bus:02x}:00.0"), "1022:14a4", 0x06_0000);
    let root = host.bridge("", &format!("0000:{bus:02x}:01.1"), "1022:14ab");
    let upstream = host.bridge(&root, &format!("0000:{:02x}:00.0", bus + 1), "1000:c030");
    let behind = |host: &mut Host, place: u8, id: &str, class: u32| -> usize {
        let port = format!("0000:{:02x}:{place:02x}.0", bus + 2);
        let port = host.bridge(&upstream, &port, "1000:c030");
        host.add(
            &port,
            &format!("0000:{:02x}:00.0", bus + 3 + place),
            id,
            class,
        );
        host.functions.len() - 1
    };
    for place in [0, 1] {
        let gpu = behind(host, place, H100, 0x03_0200);
        host.functions[gpu].serial(format!("48-b0-2d-00-00-00-{index:02x}-{place:02x}"));
        host.functions[gpu].slot_label = Some(format!("SXM{}", index * 2 + place + 1));
    }
    let nic = behind(host, 2, CONNECTX_7, 0x02_0700);
    let name = format!("ibs{index}");
    host.functions[nic].held_by("mlx5_core").net(&name);
    if index < 2 {
        host.functions[nic].used("network", &format!("{name} is up"));
    } else {
        host.functions[nic].used(
            "network",
            &format!("mlx5_{index} is an InfiniBand device of it"),
        );
    }
    let disk = behind(host, 3, PM9A3, 0x01_0802);
    host.functions[disk]
        .held_by("nvme")
        .serial(format!("00-25-38-b7-31-00-01-{index:02x}"));
    host.functions[disk].slot_name = Some((index + 10).to_string());
}

/// A card of four functions; the host's sound driver has the first one's.
fn graphics(host: &mut Host, index: usize, bus: u8) {
    let port = host.bridge("", &format!("0000:e0:0{}.1", index + 1), "1022:14ab");
    let mut group = None;
    for (function, id, class) in [
        (0, "10de:1e07", 0x03_0000),
        (1, "10de:10f7", 0x04_0300),
        (2, "10de:1ad6", 0x0c_0330),
        (3, "10de:1ad7", 0x0c_8000),
    ] {
        let added = host.add(&port, &format!("0000:{bus:02x}:00.{function}"), id, class);
        let first = *group.get_or_insert(added.iommu_group.unwrap());
        added.in_group(first);
        if index == 0 && function == 1 {
            added
                .held_by("snd_hda_intel")
                .used("sound", "card1 is a sound card of it");
        }
    }
}

/// Two E810 with two ports each and 128 VFs a port: those of the first card
/// have their native driver, those of the second have none. Behind a VMD, in a
/// domain of its own, there is a disk.
pub(crate) fn nic_vfs() -> Inventory {
    let mut host = Host {
        numa_node: Some(0),
        ..Host::default()
    };
    host.add("", "0000:00:00.0", "8086:09a2", 0x08_8000);
    for (card, bus) in [0x3b_u8, 0x5e].into_iter().enumerate() {
        host.numa_node = Some(u32::try_from(card).unwrap());
        let port = host.bridge("", &format!("0000:{:02x}:02.0", bus - 1), "8086:347a");
        for function in 0..2 {
            physical(&mut host, &port, card, bus, function);
        }
    }
    host.numa_node = Some(1);
    let vmd = host.add("", "0000:d7:05.5", "8086:28c0", 0x01_0400);
    let group = vmd.held_by("vmd").iommu_group.unwrap();
    vmd.used(
        "",
        "vmd holds it, and nobody can tell whether the host needs it",
    );
    let port = host.bridge("", "10000:e0:06.0", "8086:347d");
    host.functions.last_mut().unwrap().in_group(group);
    let disk = host.add(&port, "10000:e1:00.0", "8086:0a54", 0x01_0802);
    disk.held_by("nvme").in_group(group);
    host.inventory()
}

/// A port with its 128 VFs, whose routing IDs follow from the PF's by the
/// offset and the stride of its SR-IOV capability: 8 and 1, after those of the
/// port before it. They go over the end of the bus.
fn physical(host: &mut Host, above: &str, card: usize, bus: u8, function: u8) {
    let net = format!("ens{}f{function}", card + 1);
    let address = format!("0000:{bus:02x}:00.{function}");
    let pf: Address = address.parse().unwrap();
    host.add(above, &address, "8086:1592", 0x02_0000)
        .held_by("ice")
        .net(&net)
        .used("network", &format!("{net} is up"));
    let at = host.functions.len() - 1;
    host.functions[at].slot_name = Some((card + 3).to_string());
    let mut vfs = Vec::new();
    for index in 0..128_u16 {
        let routing = u16::from(bus) * 256 + 8 + u16::from(function) * 128 + index;
        let [bus, rest] = routing.to_be_bytes();
        let address = format!("0000:{bus:02x}:{:02x}.{:x}", rest >> 3, rest & 7);
        let vf = host.add(above, &address, "8086:1889", 0x02_0000);
        vf.role = Role::Vf {
            pf,
            index: Some(index),
        };
        if card == 0 {
            vf.held_by("iavf").net(&format!("{net}v{index}"));
            if index == 0 {
                vf.used("network", &format!("{net}v0 is up"));
            }
        }
        vfs.push(vf.address);
    }
    host.functions[at].role = Role::Pf {
        total_vfs: 128,
        vfs,
    };
}
