//! The emulated hosts: which devices there are and where they sit.
//!
//! Every device under test is behind a root port with a fixed place, so that a
//! scenario finds it by its port ([`Port::bridge`]) and never by a bus number,
//! which the firmware gives out anew when a card is added.

pub(crate) mod hosts;
pub(crate) mod node;
pub(crate) mod sriov;
pub(crate) mod storm;
pub(crate) mod twins;

/// A PCIe root port: a place that one card can sit in.
#[derive(Clone, Copy)]
pub(crate) struct Port {
    /// QEMU's name for the bus behind the port.
    pub(crate) id: &'static str,
    root: Root,
    device: u8,
}

/// The two root complexes of the emulated board.
#[derive(Clone, Copy, PartialEq)]
enum Root {
    /// The chipset's own: no NUMA node.
    Main,
    /// The expander bridge on node 1.
    Node1,
}

impl Port {
    const fn main(id: &'static str, device: u8) -> Self {
        Self {
            id,
            root: Root::Main,
            device,
        }
    }

    const fn node1(id: &'static str, device: u8) -> Self {
        Self {
            id,
            root: Root::Node1,
            device,
        }
    }

    /// The address of the port itself, which never changes.
    pub(crate) fn bridge(self) -> String {
        let bus = match self.root {
            Root::Main => 0x00,
            Root::Node1 => NODE1_BUS,
        };
        format!("0000:{bus:02x}:{:02x}.0", self.device)
    }
}

/// The bus number of the expander bridge; far above those of the main root.
const NODE1_BUS: u8 = 0x40;

/// The first of three identical NICs, on no NUMA node.
pub(crate) const TWIN_A: Port = Port::main("twin-a", 0x10);
/// The second of three identical NICs, on no NUMA node.
pub(crate) const TWIN_B: Port = Port::main("twin-b", 0x11);
/// A card with two NIC functions in one IOMMU group.
pub(crate) const PAIR: Port = Port::main("pair", 0x12);
/// An NVMe controller that can have four virtual functions.
pub(crate) const NVME_PF: Port = Port::main("nvme-pf", 0x13);
/// An NVMe disk of the ordinary kind.
pub(crate) const NVME_DISK: Port = Port::main("nvme-disk", 0x14);
/// The third of the three identical NICs, on NUMA node 1.
pub(crate) const TWIN_NODE1: Port = Port::node1("twin-node1", 0x00);
/// An empty slot on no NUMA node, for hotplug. QEMU has the firmware (ACPI) do
/// hotplug on this root, so that a card goes at once.
pub(crate) const SPARE: Port = Port::main("spare", 0x18);
/// A second empty slot on no NUMA node.
pub(crate) const SPARE_B: Port = Port::main("spare-b", 0x19);
/// An empty slot on NUMA node 1, where hotplug is PCIe's own: a card goes
/// some five seconds after its attention button was pressed.
pub(crate) const SPARE_NODE1: Port = Port::node1("spare-node1", 0x01);
/// A sound card, on the root complex itself.
pub(crate) const SOUND: &str = "0000:00:1b.0";
/// The four slots with eight NIC functions each.
pub(crate) const CROWD: [Port; 4] = [
    Port::main("crowd-0", 0x10),
    Port::main("crowd-1", 0x11),
    Port::main("crowd-2", 0x12),
    Port::main("crowd-3", 0x13),
];

/// The release of Debian that runs in it.
#[derive(Clone, Copy)]
pub(crate) enum Release {
    /// Debian 13: Linux 6.12 and systemd 257.
    Trixie,
    /// Debian 12: Linux 6.1 and systemd 252.
    Bookworm,
}

impl Release {
    /// Its name, as Debian and `image.sh` have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
        }
    }
}

/// Which QEMU a host is emulated by.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Qemu {
    /// The one that is installed on this machine.
    Installed,
    /// One that has the NIC `igb`, which came with QEMU 8: the installed one, or else
    /// the one in the image of Debian 13.
    WithIgb,
}

/// A kind of emulated host.
pub(crate) struct Topology {
    /// What emulates it.
    pub(crate) qemu: Qemu,
    /// What runs in it.
    pub(crate) release: Release,
    /// Which kind of image that is, where it is not the ordinary one.
    pub(crate) flavour: Option<&'static str>,
    /// The device that the image's disk (`drive=root`) is on.
    pub(crate) root_device: &'static str,
    /// The kernel's parameter that names the root file system.
    pub(crate) root_parameter: &'static str,
    /// Whether the image's disk keeps its writes when QEMU is started again.
    pub(crate) keeps_root: bool,
    /// Whether it boots with the initrd that the guest handed out.
    pub(crate) own_initrd: bool,
    /// Empty disks, by the name of their files without `.img`, and their sizes in MiB.
    pub(crate) disks: Vec<(&'static str, u64)>,
    args: Vec<String>,
    ports: usize,
}

impl Topology {
    /// The host of most scenarios: two nodes, twins, a two-function card, NVMe
    /// with and without virtual functions, and empty slots.
    pub(crate) fn full(release: Release) -> Self {
        let mut board = Self::board(release, 2048);
        board.port(TWIN_A).nics(TWIN_A, 1);
        board.port(TWIN_B).nics(TWIN_B, 1);
        board.port(PAIR).nics(PAIR, 2);
        board.port(TWIN_NODE1).nics(TWIN_NODE1, 1);
        board.port(NVME_PF).virtual_disks(NVME_PF, 4);
        board.port(NVME_DISK).disk("plain", 64).arg(
            "-device",
            "nvme,id=nvme-disk0,bus=nvme-disk,addr=0,serial=LAB-DISK,drive=plain",
        );
        board.port(SPARE).port(SPARE_B).port(SPARE_NODE1);
        board
    }

    /// The host of the measurements: 32 NIC functions in four slots.
    pub(crate) fn crowd(release: Release) -> Self {
        let mut board = Self::board(release, 2048);
        for port in CROWD {
            board.port(port).nics(port, 8);
        }
        board
    }

    /// A host with a sound card, whose driver waits for ever for whoever has it
    /// open, and a NIC.
    pub(crate) fn sound(release: Release) -> Self {
        let mut board = Self::board(release, 1024);
        board.port(TWIN_A).nics(TWIN_A, 1);
        board
            .arg("-audiodev", "none,id=silence")
            .arg("-device", "ich9-intel-hda,id=sound,bus=pcie.0,addr=0x1b")
            .arg("-device", "hda-duplex,bus=sound.0,audiodev=silence");
        board
    }

    /// A small host: a pair of twins and empty slots.
    pub(crate) fn small(release: Release) -> Self {
        let mut board = Self::board(release, 1024);
        board.port(TWIN_A).nics(TWIN_A, 1);
        board.port(TWIN_NODE1).nics(TWIN_NODE1, 1);
        board.port(SPARE).port(SPARE_B);
        board
    }

    /// Twins whose driver the initrd leaves to the real root: `blacklist=` is a
    /// parameter of initramfs-tools, which nobody heeds later.
    pub(crate) fn early(release: Release) -> Self {
        let mut board = Self::board(release, 1024);
        board.port(TWIN_A).nics(TWIN_A, 1);
        board.port(TWIN_NODE1).nics(TWIN_NODE1, 1);
        board.root_parameter = "root=/dev/vda blacklist=e1000e";
        board
    }

    /// A host without an IOMMU, and a NIC.
    pub(crate) fn no_iommu(release: Release) -> Self {
        let mut board = Self::bare(release, 1024);
        board.port(TWIN_A).nics(TWIN_A, 1);
        board
    }

    /// The same host with an IOMMU whose interrupt remapping is turned off.
    pub(crate) fn without_remapping(release: Release) -> Self {
        let mut board = Self::bare(release, 1024);
        board.iommu();
        board.port(TWIN_A).nics(TWIN_A, 1);
        board.root_parameter = "root=/dev/vda intremap=off";
        board
    }

    /// QEMU's arguments for the board and its devices.
    pub(crate) fn args(&self) -> &[String] {
        &self.args
    }

    /// A board without anything on it.
    fn bare(release: Release, memory: u32) -> Self {
        let mut board = Self {
            qemu: Qemu::Installed,
            release,
            flavour: None,
            // The bus is named, since QEMU's default is whatever bus came last.
            root_device: "virtio-blk-pci,drive=root,bus=pcie.0",
            root_parameter: "root=/dev/vda",
            keeps_root: false,
            own_initrd: false,
            disks: Vec::new(),
            args: Vec::new(),
            ports: 0,
        };
        board
            .arg("-machine", "q35,kernel-irqchip=split")
            .arg("-accel", "tcg,thread=multi")
            .arg("-cpu", "max")
            .arg("-smp", "2")
            .arg("-m", &memory.to_string());
        board
    }

    /// The IOMMU. It comes first: devices made before it would bypass it.
    fn iommu(&mut self) -> &mut Self {
        self.arg("-device", "intel-iommu,intremap=on,caching-mode=on")
    }

    /// Two NUMA nodes, an IOMMU and an expander bridge on node 1.
    fn board(release: Release, memory: u32) -> Self {
        let half = memory / 2;
        let mut board = Self::bare(release, memory);
        board
            .arg(
                "-object",
                &format!("memory-backend-ram,id=mem0,size={half}M"),
            )
            .arg(
                "-object",
                &format!("memory-backend-ram,id=mem1,size={half}M"),
            )
            .arg("-numa", "node,nodeid=0,cpus=0,memdev=mem0")
            .arg("-numa", "node,nodeid=1,cpus=1,memdev=mem1")
            .iommu()
            .arg(
                "-device",
                &format!("pxb-pcie,id=node1,bus_nr={NODE1_BUS},bus=pcie.0,addr=0x8,numa_node=1"),
            );
        board
    }

    fn arg(&mut self, flag: &str, value: &str) -> &mut Self {
        self.args.push(flag.to_owned());
        self.args.push(value.to_owned());
        self
    }

    /// An empty disk of so many MiB, as the drive of this name.
    fn disk(&mut self, name: &'static str, size: u64) -> &mut Self {
        self.disks.push((name, size));
        self.arg(
            "-drive",
            &format!("file={name}.img,if=none,id={name},format=raw"),
        )
    }

    fn port(&mut self, port: Port) -> &mut Self {
        self.port_with(port, "")
    }

    /// A port with more of QEMU's properties.
    fn port_with(&mut self, port: Port, properties: &str) -> &mut Self {
        // A chassis number has to be unique on the board.
        self.ports += 1;
        let bus = match port.root {
            Root::Main => "pcie.0",
            Root::Node1 => "node1",
        };
        let Port { id, device, .. } = port;
        let chassis = self.ports;
        self.arg(
            "-device",
            &format!(
                "pcie-root-port,id={id},bus={bus},addr={device:#x},chassis={chassis},\
                 slot={device}{properties}"
            ),
        )
    }

    /// A card with `functions` NIC functions. The last byte of the MAC, and so
    /// of the PCIe serial number, tells the functions apart.
    fn nics(&mut self, port: Port, functions: u8) -> &mut Self {
        let Port { id, device, .. } = port;
        let root = u8::from(port.root == Root::Node1);
        let multi = if functions > 1 { "on" } else { "off" };
        for function in 0..functions {
            self.arg(
                "-device",
                &format!(
                    "e1000e,id={id}-{function},bus={id},addr=0.{function},multifunction={multi},\
                     mac=52:54:00:{root:02x}:{device:02x}:{function:02x}"
                ),
            );
        }
        self
    }
}
