//! The lab's emulated host (tests/lab/topology.rs, the full one), as it is
//! before anything was bound.

use vfio_bindd::pci::{function::Function, inventory::Inventory};

use super::board::{
    BUSY, Board, Bus, ETHERNET, HOST_BRIDGE, ISA_BRIDGE, NVME, SATA, SMBUS, Told as _,
};

/// `QEMU PCIe Root port`.
const ROOT_PORT: &str = "1b36:000c";
const QEMU: &str = "1af4:1100";

pub(crate) fn inventory() -> Inventory {
    let mut board = Board::default();
    let main = Bus::root(0x00, None);
    let part = |hop, id, class| main.endpoint(hop, id, class).subsystem(QEMU);
    board.group([part("00.0", "8086:29c0", HOST_BRIDGE)]);
    // The root disk and the shared folder.
    board.group([main
        .endpoint("01.0", "1af4:1001", 0x01_0000)
        .subsystem("1af4:0002")
        .held_by("virtio-pci")
        .used("storage", &format!("vda {BUSY}"))]);
    board.group([main
        .endpoint("02.0", "1af4:1009", 0x00_0200)
        .subsystem("1af4:0009")
        .held_for_unknown_use("virtio-pci")]);
    board.group([part("08.0", "1b36:000b", HOST_BRIDGE)]);

    for (device, number) in [("10", 1), ("11", 2), ("12", 3)] {
        let bus = slot(&mut board, &main, device, number);
        let nic = |function| nic(&bus, 0, device, function).in_slot(slot_name(device));
        if device == "12" {
            board.group([nic(0), nic(1)]);
        } else {
            board.group([nic(0)]);
        }
    }
    let bus = slot(&mut board, &main, "13", 4);
    board.group([disk(&bus).in_slot(slot_name("13")).can_have_vfs(4)]);
    let bus = slot(&mut board, &main, "14", 5);
    board.group([disk(&bus).in_slot(slot_name("14"))]);
    slot(&mut board, &main, "18", 6);
    slot(&mut board, &main, "19", 7);

    board.group([
        part("1f.0", "8086:2918", ISA_BRIDGE)
            .revision(0x02)
            .held_for_unknown_use("lpc_ich"),
        part("1f.2", "8086:2922", SATA)
            .revision(0x02)
            .held_by("ahci"),
        part("1f.3", "8086:2930", SMBUS)
            .revision(0x02)
            .held_for_unknown_use("i801_smbus"),
    ]);

    let node1 = Bus::root(0x40, Some(1));
    let bus = slot(&mut board, &node1, "00", 0x41);
    board.group([nic(&bus, 1, "00", 0)]);
    slot(&mut board, &node1, "01", 0x42);
    board.inventory()
}

fn slot_name(device: &str) -> String {
    let number = u8::from_str_radix(device, 16).unwrap();
    number.to_string()
}

/// A root port and the bus behind it.
fn slot(board: &mut Board, root: &Bus, device: &str, number: u8) -> Bus {
    let hop = format!("{device}.0");
    board.group([root.bridge(&hop, ROOT_PORT).subsystem("1b36:0000")]);
    root.behind(&hop, number)
}

/// An e1000e. Its serial number is made of its MAC.
fn nic(bus: &Bus, root: u8, device: &str, function: u8) -> Function {
    let hop = format!("00.{function}");
    let many = if device == "12" {
        format!("f{function}")
    } else {
        String::new()
    };
    bus.endpoint(&hop, "8086:10d3", ETHERNET)
        .subsystem("8086:0000")
        .netdev(&format!("enp{}s0{many}", bus.at(&hop).bus()))
        .held_by("e1000e")
        .resets("bus")
        .serial(format!("52-54-00-ff-ff-{root:02x}-{device}-{function:02x}"))
}

fn disk(bus: &Bus) -> Function {
    bus.endpoint("00.0", "1b36:0010", NVME)
        .subsystem(QEMU)
        .revision(0x02)
        .resets("flr bus")
        .held_by("nvme")
}
