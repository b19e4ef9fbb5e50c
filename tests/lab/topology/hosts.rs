//! The host that must lose nothing: one device for each way in which a host
//! uses one, and idle twins beside them.
//!
//! The devices sit on the root complex itself, each in an IOMMU group of its
//! own, so that their addresses are known and none of them shields another.

use super::{Release, Topology};

/// The disk with the image's root file system; the display has the slot before.
pub(crate) const ROOT: &str = "0000:00:02.0";
/// The display that the firmware boots with.
pub(crate) const DISPLAY: &str = "0000:00:01.0";
/// A disk for LVM on LUKS.
pub(crate) const VAULT: &str = "0000:00:03.0";
/// Its idle twin.
pub(crate) const VAULT_TWIN: &str = "0000:00:04.0";
/// The two halves of a mirror.
pub(crate) const MIRROR: [&str; 2] = ["0000:00:05.0", "0000:00:06.0"];
/// A disk for a btrfs pool.
pub(crate) const BTRFS: &str = "0000:00:07.0";
/// A disk for a ZFS pool.
pub(crate) const ZFS: &str = "0000:00:08.0";
/// A disk to swap to.
pub(crate) const SWAP: &str = "0000:00:09.0";
/// A disk for a file system that is in fstab only.
pub(crate) const LISTED: &str = "0000:00:0a.0";
/// A disk for an array that is not assembled.
pub(crate) const ARRAY: &str = "0000:00:0b.0";
/// A disk that a program writes to as it is.
pub(crate) const RAW: &str = "0000:00:0c.0";
/// The two controllers of one NVMe subsystem with one namespace.
pub(crate) const SHELF: [&str; 2] = ["0000:00:0d.0", "0000:00:0e.0"];
/// An NVMe controller that can have virtual functions.
pub(crate) const PF: &str = "0000:00:0f.0";
/// Its first two virtual functions.
pub(crate) const VFS: [&str; 2] = ["0000:00:0f.1", "0000:00:0f.2"];
/// The NIC for the default route.
pub(crate) const UPLINK: &str = "0000:00:10.0";
/// The NIC for a bridge.
pub(crate) const BRIDGE_PORT: &str = "0000:00:11.0";
/// The NIC for a bond.
pub(crate) const BOND_SLAVE: &str = "0000:00:12.0";
/// The NIC for a VLAN.
pub(crate) const VLAN_PARENT: &str = "0000:00:13.0";
/// The NIC for another network namespace.
pub(crate) const IN_NETNS: &str = "0000:00:14.0";
/// The NIC that the configuration names.
pub(crate) const CONFIGURED: &str = "0000:00:15.0";
/// An idle NIC.
pub(crate) const IDLE_NIC: &str = "0000:00:1c.0";
/// The sound card that a program has open.
pub(crate) const SOUND: &str = "0000:00:16.0";
/// Its idle twin.
pub(crate) const SOUND_TWIN: &str = "0000:00:17.0";
/// The USB controller with a keyboard and a stick.
pub(crate) const USB: &str = "0000:00:18.0";
/// Its idle twin.
pub(crate) const USB_TWIN: &str = "0000:00:19.0";
/// The bridge to the conventional bus.
pub(crate) const OLD_BRIDGE: &str = "0000:00:1a.0";
/// A root port with an idle NIC behind it.
pub(crate) const ROOT_PORT: &str = "0000:00:1b.0";
/// A disk for a container that is in crypttab only.
pub(crate) const CRYPTTAB: &str = "0000:00:1d.0";
/// The chipset: host bridge, ISA bridge, SATA and SMBus.
pub(crate) const CHIPSET: [&str; 4] = [
    "0000:00:00.0",
    "0000:00:1f.0",
    "0000:00:1f.2",
    "0000:00:1f.3",
];

/// Disks by the number of their slot.
const DISKS: &[(u8, &str, u64)] = &[
    // Large enough for a copy of the root file system.
    (0x03, "vault", 2048),
    (0x04, "vault-twin", 2048),
    (0x05, "mirror-a", 64),
    (0x06, "mirror-b", 64),
    // The smallest that btrfs takes is 109 MiB.
    (0x07, "btrfs", 128),
    (0x08, "zfs", 64),
    (0x09, "swap", 64),
    (0x0a, "listed", 64),
    (0x0b, "array", 64),
    (0x0c, "raw", 64),
    (0x1d, "crypttab", 64),
];

impl Topology {
    /// One host with everything that [`crate::scenarios::hosts`] is about.
    pub(crate) fn hosts(release: Release) -> Self {
        let mut board = Self::bare(release, 1536);
        board.flavour = Some("disks");
        board.root_device = "nvme,bus=pcie.0,addr=0x2,serial=LAB-ROOT,drive=root";
        board.root_parameter = "root=LABEL=lab-root";
        board.iommu().arg("-device", "VGA,bus=pcie.0,addr=0x1");
        for (slot, name, size) in DISKS {
            board.disk(name, *size).arg(
                "-device",
                &format!("nvme,bus=pcie.0,addr={slot:#x},serial=LAB-{name},drive={name}"),
            );
        }
        board
            .arg("-device", "nvme-subsys,id=shelf")
            .arg(
                "-device",
                "nvme,bus=pcie.0,addr=0xd,serial=LAB-SHELF,subsys=shelf",
            )
            .arg(
                "-device",
                "nvme,id=path-b,bus=pcie.0,addr=0xe,serial=LAB-SHELF,subsys=shelf",
            )
            .disk("shared", 64)
            .arg(
                "-device",
                "nvme-ns,drive=shared,bus=path-b,nsid=1,shared=on",
            )
            .arg("-device", "nvme-subsys,id=vf-shelf")
            .arg(
                "-device",
                "nvme,bus=pcie.0,addr=0xf,serial=LAB-PF,subsys=vf-shelf,sriov_max_vfs=4,\
                 sriov_vq_flexible=8,sriov_vi_flexible=4,max_ioqpairs=10,msix_qsize=10",
            );
        for slot in [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x1c] {
            board.arg(
                "-device",
                &format!("e1000e,bus=pcie.0,addr={slot:#x},mac=52:54:00:00:00:{slot:02x}"),
            );
        }
        board.arg("-audiodev", "none,id=silence");
        for slot in [0x16, 0x17] {
            board
                .arg(
                    "-device",
                    &format!("ich9-intel-hda,id=sound-{slot},bus=pcie.0,addr={slot:#x}"),
                )
                .arg(
                    "-device",
                    &format!("hda-duplex,bus=sound-{slot}.0,audiodev=silence"),
                );
        }
        board
            .arg("-device", "qemu-xhci,id=usb,bus=pcie.0,addr=0x18")
            .arg("-device", "usb-kbd,bus=usb.0")
            .disk("stick", 64)
            .arg("-device", "usb-storage,bus=usb.0,drive=stick")
            .arg("-device", "qemu-xhci,bus=pcie.0,addr=0x19")
            .arg("-device", "pcie-pci-bridge,id=old,bus=pcie.0,addr=0x1a")
            .arg("-device", "e1000,bus=old,addr=0x1,mac=52:54:00:00:01:01")
            .arg("-device", "e1000,bus=old,addr=0x2,mac=52:54:00:00:01:02")
            .arg(
                "-device",
                "pcie-root-port,id=behind,bus=pcie.0,addr=0x1b,chassis=1,slot=27",
            )
            .arg(
                "-device",
                "e1000e,bus=behind,addr=0x0,mac=52:54:00:00:00:1b",
            );
        board
    }
}
