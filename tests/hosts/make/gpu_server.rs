//! A two-socket EPYC server for GPUs.
//!
//! Each socket has four root complexes. Behind two of them sits a PCIe switch
//! with two A100s, a `ConnectX-6 Dx` port and an NVMe disk. The host boots from
//! a mirror of two disks of the same model and talks through a card with two of
//! the same ports. Of two desktop GPUs one is bound to vfio-pci already, and
//! the host's own drivers hold its twin. No GPU driver knows the A100s, and the
//! RDMA modules are not loaded.

use vfio_bindd::pci::{function::Function, inventory::Inventory};

use super::{
    board::{
        AUDIO, Board, Bus, ETHERNET, GPU_3D, HOST_BRIDGE, IOMMU, ISA_BRIDGE, NVME, SATA, SMBUS,
        Told as _, VGA, XHCI,
    },
    facts,
};

/// The board's subsystem.
const BOARD: &str = "15d9:1b6b";
/// `Starship/Matisse GPP Bridge`, the root port.
const ROOT_PORT: &str = "1022:1483";
/// `PEX880xx PCIe Gen 4 Switch`.
const SWITCH: &str = "1000:c010";

pub(crate) fn inventory() -> Inventory {
    let mut board = Board::default();
    let board = &mut board;
    chipset(board);
    let mut switches = 0;
    for number in [0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0] {
        let root = root_complex(board, number);
        match number {
            0x40 => root_disks(board, &root),
            0x80 => cheap_switch(board, &root),
            0xc0 => host_nics(board, &root),
            _ => {
                gpu_switch(board, &root, number, switches);
                switches += 1;
            }
        }
    }
    std::mem::take(board).inventory()
}

/// What every root complex has: a host bridge, an IOMMU, a dummy host bridge.
fn root_complex(board: &mut Board, number: u8) -> Bus {
    let root = Bus::root(number, Some(u32::from(number >= 0x80)));
    let part = |hop, id, class| root.endpoint(hop, id, class).subsystem(BOARD);
    board.group([part("00.0", "1022:1480", HOST_BRIDGE)]);
    board.ungrouped(part("00.2", "1022:1481", IOMMU));
    board.group([root.endpoint("01.0", "1022:1482", HOST_BRIDGE)]);
    root
}

/// The first root complex: the BMC's display, USB, SATA, LPC and SMBus.
fn chipset(board: &mut Board) {
    let root = root_complex(board, 0x00);

    // The BMC's display sits behind a bridge that cannot keep functions apart.
    let bmc = board.port(&root, "03.1", ROOT_PORT, 0x01);
    let bridge = bmc.bridge("00.0", "1a03:1150");
    let display = bmc
        .behind("00.0", 0x02)
        .endpoint("00.0", "1a03:2000", VGA)
        .subsystem(BOARD)
        .revision(0x41)
        .label("Onboard Video")
        .used(facts::open("drm", "card0"))
        .used(facts::framebuffer("fb0"))
        .held_by("ast");
    let display = Function {
        boot_vga: true,
        ..display
    };
    // The bridge is PCI-X below: no portdrv for it.
    board.group([bridge.told(|one| one.driver = None), display]);

    let inner = board.port(&root, "08.1", "1022:1484", 0x03);
    board.group([inner.endpoint("00.0", "1022:148a", 0x13_0000)]);
    board.group([inner
        .endpoint("00.3", "1022:148c", XHCI)
        .subsystem(BOARD)
        .used(facts::keyboard("1-3"))
        .held_by("xhci_hcd")]);
    let inner = board.port(&root, "08.2", "1022:1484", 0x04);
    board.group([inner
        .endpoint("00.0", "1022:7901", SATA)
        .subsystem(BOARD)
        .revision(0x51)
        .resets("pm")
        .held_by("ahci")]);

    board.group([
        root.endpoint("14.0", "1022:790b", SMBUS)
            .subsystem(BOARD)
            .held_for_unknown_use("piix4_smbus"),
        root.endpoint("14.3", "1022:790e", ISA_BRIDGE)
            .subsystem(BOARD),
    ]);
    // The data fabric of either socket.
    for device in ["18", "19"] {
        let fabric = |function: u16| {
            let id = format!("1022:{:04x}", 0x1490 + function);
            root.endpoint(&format!("{device}.{function}"), &id, HOST_BRIDGE)
        };
        board.group([0, 1, 2, 3, 4, 5, 6, 7].map(fabric));
    }
}

/// Two GPUs, a NIC and a disk behind a switch that keeps them apart.
fn gpu_switch(board: &mut Board, root: &Bus, number: u8, index: u8) {
    let up = board.port(root, "01.1", ROOT_PORT, number + 1);
    let down = board.port(&up, "00.0", SWITCH, number + 2);
    for (hop, behind) in [("00.0", 3), ("04.0", 4)] {
        let bus = board.port(&down, hop, SWITCH, number + behind);
        let gpu = index * 2 + behind - 3;
        board.group([bus
            .endpoint("00.0", "10de:20b5", GPU_3D)
            .subsystem("10de:1533")
            .revision(0xa1)
            .can_have_vfs(20)
            .in_slot(format!("{}", 21 + gpu))
            .resets("flr bus")
            .serial(format!("48-b0-2d-ff-ff-a1-00-{gpu:02x}"))]);
    }
    let bus = board.port(&down, "08.0", SWITCH, number + 5);
    board.group([port("00.0", &bus)
        .netdev(&format!("enp{}s0np0", number + 5))
        .in_slot(format!("{}", 31 + index))
        .serial(format!("b8-ce-f6-03-00-20-00-{index:02x}"))]);
    let bus = board.port(&down, "0c.0", SWITCH, number + 6);
    board.group([disk(&bus, 4 + index).in_slot(format!("{}", 101 + index))]);
}

/// A port of a `ConnectX-6 Dx`.
fn port(hop: &str, bus: &Bus) -> Function {
    bus.endpoint(hop, "15b3:101d", ETHERNET)
        .subsystem("15b3:0016")
        .can_have_vfs(8)
        .resets("flr bus")
        .held_by("mlx5_core")
}

/// A `PM9A3`, of which the host has six.
fn disk(bus: &Bus, index: u8) -> Function {
    bus.endpoint("00.0", "144d:a80a", NVME)
        .subsystem("144d:a813")
        .resets("flr bus")
        .held_by("nvme")
        .serial(format!("00-25-38-b1-21-00-10-{index:02x}"))
}

/// The mirror that holds the root file system, and a desktop GPU whose four
/// functions are bound to vfio-pci.
fn root_disks(board: &mut Board, root: &Bus) {
    for (hop, bus, index) in [("01.1", 0x41, 0), ("01.2", 0x42, 1)] {
        let bus = board.port(root, hop, ROOT_PORT, bus);
        board.group([disk(&bus, index)
            .in_slot(format!("{}", 111 + index))
            .used(facts::busy(&format!("nvme{index}n1")))]);
    }
    let bus = board.port(root, "03.1", ROOT_PORT, 0x43);
    board.group(desktop_gpu(&bus, "5", "48-b0-2d-ff-ff-b0-00-01").map(|part| part.bound()));
}

/// An RTX 2080 Ti: graphics, sound, USB and the USB-C port's controller.
fn desktop_gpu(bus: &Bus, slot: &str, serial: &str) -> [Function; 4] {
    [
        ("00.0", "10de:1e07", VGA),
        ("00.1", "10de:10f7", AUDIO),
        ("00.2", "10de:1ad6", XHCI),
        ("00.3", "10de:1ad7", 0x0c_8000),
    ]
    .map(|(hop, id, class)| {
        let part = bus
            .endpoint(hop, id, class)
            .subsystem("1462:3715")
            .revision(0xa1)
            .in_slot(slot)
            .resets("bus");
        // Only function 0 has the capability.
        if hop == "00.0" {
            part.serial(serial)
        } else {
            part
        }
    })
}

/// A switch without ACS: what is behind it is one IOMMU group. The host keeps
/// its backups on the SATA disk and does nothing with the NVMe disk.
fn cheap_switch(board: &mut Board, root: &Bus) {
    let up = board.port(root, "01.1", ROOT_PORT, 0x81);
    let down = up.behind("00.0", 0x82);
    let disk = down
        .behind("00.0", 0x83)
        .endpoint("00.0", "1c5c:174a", NVME)
        .subsystem("1c5c:174a")
        .resets("flr bus")
        .held_by("nvme");
    let sata = down
        .behind("08.0", 0x84)
        .endpoint("00.0", "1b21:0612", SATA)
        .subsystem("1b21:1060")
        .revision(0x02)
        .resets("bus")
        .held_by("ahci")
        .used(facts::busy("sda"));
    board.group([
        up.bridge("00.0", "1b21:1812"),
        down.bridge("00.0", "1b21:1812"),
        down.bridge("08.0", "1b21:1812"),
        disk,
        sata,
    ]);
}

/// The card with the host's two ports, and the twin of the desktop GPU, which
/// the host's own drivers hold.
fn host_nics(board: &mut Board, root: &Bus) {
    let bus = board.port(root, "01.1", ROOT_PORT, 0xc1);
    for index in 0..2 {
        let name = format!("enp193s0f{index}np{index}");
        board.group([port(&format!("00.{index}"), &bus)
            .netdev(&name)
            .label(&format!("Onboard LAN {}", index + 1))
            .serial("b8-ce-f6-03-00-10-00-00")
            .used(facts::up(&name))
            .used(facts::port(&name, "bond0"))]);
    }
    let bus = board.port(root, "03.1", ROOT_PORT, 0xc2);
    let [graphics, sound, usb, usb_c] = desktop_gpu(&bus, "6", "48-b0-2d-ff-ff-b0-00-02");
    board.group([
        graphics
            .used(facts::open("drm", "card1"))
            .used(facts::open("drm", "renderD128"))
            .held_by("nouveau"),
        sound
            .used(facts::open("sound", "card0"))
            .used(facts::open("sound", "controlC0"))
            .held_by("snd_hda_intel"),
        usb.held_by("xhci_hcd"),
        usb_c.held_for_unknown_use("nvidia-gpu"),
    ]);
}
