//! A two-socket Xeon with two E810 cards that have 512 VFs in all.
//!
//! The numbers of each card's VFs run on to the next bus. The disks sit behind
//! VMD controllers, in PCI domains of their own.

use vfio_bindd::pci::{
    function::{Function, Role},
    inventory::Inventory,
};

use super::{
    board::{
        Board, Bus, ETHERNET, ISA_BRIDGE, NVME, RAID, SATA, SMBUS, SYSTEM, Told as _, VGA, XHCI,
    },
    facts,
};

/// `Ice Lake` root port.
const ROOT_PORT: &str = "8086:347a";
const BOARD: &str = "8086:7270";
/// How many VFs each PF of an E810 has.
const VFS: u16 = 128;

pub(crate) fn inventory() -> Inventory {
    let mut board = Board::default();
    for number in [0x00, 0x16, 0x30, 0x4a, 0x64, 0x80, 0x97, 0xb0, 0xc9, 0xe2] {
        let root = Bus::root(number, Some(u32::from(number >= 0x80)));
        for (hop, id) in [
            ("00.0", "8086:09a2"),
            ("00.1", "8086:09a4"),
            ("00.2", "8086:09a3"),
            ("00.4", "8086:0998"),
        ] {
            board.group([root.endpoint(hop, id, SYSTEM)]);
        }
        match number {
            0x00 => chipset(&mut board, &root),
            0x16 => e810(&mut board, &root, 0x17, "ens1", 1),
            0xc9 => e810(&mut board, &root, 0xca, "ens2", 2),
            0x30 => host_nics(&mut board, &root),
            0x64 => vmd(&mut board, &root, 0x10000, false),
            0xe2 => vmd(&mut board, &root, 0x10001, true),
            _ => {}
        }
    }
    board.inventory()
}

fn chipset(board: &mut Board, root: &Bus) {
    let part = |hop, id, class| root.endpoint(hop, id, class).subsystem(BOARD);
    board.group([part("11.5", "8086:a1d2", SATA).held_by("ahci")]);
    board.group([
        part("14.0", "8086:a1af", XHCI)
            .used(facts::keyboard("1-3"))
            .held_by("xhci_hcd"),
        part("14.2", "8086:a1b1", 0x11_8000),
    ]);
    board.group([part("16.0", "8086:a1ba", 0x07_8000).held_for_unknown_use("mei_me")]);
    board.group([part("17.0", "8086:a182", SATA).held_by("ahci")]);
    board.group([
        part("1f.0", "8086:a1c2", ISA_BRIDGE),
        part("1f.4", "8086:a1a3", SMBUS).held_for_unknown_use("i801_smbus"),
        part("1f.5", "8086:a1a4", 0x0c_8000).held_for_unknown_use("intel-spi"),
    ]);
    let bmc = board.port(root, "1c.5", "8086:a195", 0x02);
    let display = bmc
        .behind("00.0", 0x03)
        .endpoint("00.0", "1a03:2000", VGA)
        .subsystem(BOARD)
        .label("Onboard Video")
        .used(facts::open("drm", "card0"))
        .held_by("ast");
    let display = Function {
        boot_vga: true,
        ..display
    };
    board.group([
        bmc.bridge("00.0", "1a03:1150")
            .told(|one| one.driver = None),
        display,
    ]);
}

/// A card with two ports. Each has 128 VFs; they are numbered on from the
/// second port, one routing ID after the other, past the end of the bus.
fn e810(board: &mut Board, root: &Bus, number: u8, name: &str, card: u8) {
    let bus = board.port(root, "02.0", ROOT_PORT, number);
    for port in 0..2_u16 {
        let netdev = format!("{name}f{port}");
        let hop = format!("00.{port}");
        let pf = bus.at(&hop);
        // "VF offset: 8" and "VF offset: 135" in lspci.
        let first = if port == 0 { 8 } else { 136 };
        let vfs: Vec<_> = (0..VFS)
            .map(|index| vf(&bus, first + index, pf, index))
            .collect();
        let addresses = vfs.iter().map(|vf| vf.address).collect();
        board.group([bus
            .endpoint(&hop, "8086:1592", ETHERNET)
            .subsystem("8086:0002")
            .revision(0x02)
            .in_slot(format!("{card}"))
            .netdev(&netdev)
            .serial(format!("b4-96-91-ff-ff-e8-10-{card:02x}"))
            .resets("flr bus")
            .held_by("ice")
            .used(facts::up(&netdev))
            .told(|one| {
                one.role = Role::Pf {
                    total_vfs: VFS,
                    vfs: addresses,
                };
            })]);
        for (index, vf) in (0_u16..).zip(vfs) {
            board.group([match (card, port, index) {
                // The host's own: the first is up, the others were made with
                // it and are not used.
                (1, 0, 0..4) => {
                    let name = format!("{netdev}v{index}");
                    let vf = vf.held_by("iavf").netdev(&name);
                    if index == 0 {
                        vf.used(facts::up(&name))
                    } else {
                        vf
                    }
                }
                (2, 1, 0..8) => vf.bound(),
                _ => vf,
            }]);
        }
    }
}

/// The VF with this routing ID counted from the start of `bus`.
fn vf(bus: &Bus, routing: u16, pf: vfio_bindd::pci::address::Address, index: u16) -> Function {
    let hop = format!("{:02x}.{:x}", routing >> 3 & 0x1f, routing & 7);
    let bus = if routing > 0xff {
        bus.next()
    } else {
        bus.clone()
    };
    bus.endpoint(&hop, "8086:1889", ETHERNET)
        .subsystem("8086:0000")
        .revision(0x02)
        .resets("flr")
        .told(|one| {
            one.role = Role::Vf {
                pf,
                index: Some(index),
            };
        })
}

/// The card that the host talks through, with one port unused.
fn host_nics(board: &mut Board, root: &Bus) {
    let bus = board.port(root, "02.0", ROOT_PORT, 0x31);
    for port in 0..2 {
        let name = format!("ens3f{port}np{port}");
        let nic = bus
            .endpoint(&format!("00.{port}"), "15b3:101d", ETHERNET)
            .subsystem("15b3:0016")
            .can_have_vfs(16)
            .in_slot("3")
            .netdev(&name)
            .serial("b8-ce-f6-03-00-31-00-00")
            .resets("flr bus")
            .held_by("mlx5_core");
        board.group([if port == 0 {
            nic.used(facts::up(&name)).used(facts::port(&name, "vmbr0"))
        } else {
            nic
        }]);
    }
}

/// A VMD controller with two disks in a domain of its own. They do DMA in the
/// controller's name, and so are in its IOMMU group (`pci_real_dma_dev`).
fn vmd(board: &mut Board, root: &Bus, domain: u32, boot: bool) {
    let controller = root
        .endpoint("00.5", "8086:28c0", RAID)
        .subsystem("8086:0000")
        .revision(0x04)
        .held_by("vmd");
    let inner = Bus::domain_behind(&controller, domain);
    let disks = [("02.0", 0x01, 0), ("04.0", 0x02, 1)].map(|(hop, bus, index)| {
        let disk = inner
            .behind(hop, bus)
            .endpoint("00.0", "8086:0b60", NVME)
            .subsystem("8086:8008")
            .in_slot(format!("{}", if boot { 210 + index } else { 200 + index }))
            .resets("flr bus")
            .held_by("nvme");
        if boot {
            disk.used(facts::busy(&format!("nvme{index}n1")))
        } else {
            disk
        }
    });
    let controller = if boot {
        controller
            .used(facts::busy("nvme0n1"))
            .used(facts::busy("nvme1n1"))
    } else {
        controller
    };
    let group = board.group([
        controller,
        inner.bridge("02.0", ROOT_PORT),
        inner.bridge("04.0", ROOT_PORT),
    ]);
    for disk in disks {
        board.join(group, disk);
    }
    // What is left of the root ports that VMD took over.
    for hop in ["02.0", "04.0"] {
        board.group([root.endpoint(hop, "8086:09ab", SYSTEM)]);
    }
}
