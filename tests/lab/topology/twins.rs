//! The host of the traps: its root is on one of two identical NVMe disks, and
//! beside them are two identical NICs. All drivers are in its initrd, which is
//! the one that it makes itself once it has handed one out.

use super::{Port, Release, Topology};

/// The slot of one of the identical disks.
pub(crate) const LEFT: Port = Port::main("left", 0x10);
/// The slot of the other one.
pub(crate) const RIGHT: Port = Port::main("right", 0x11);
/// The NIC that mappings name by its path.
pub(crate) const NIC: Port = Port::main("nic", 0x12);
/// Its twin, which nothing names.
pub(crate) const NIC_TWIN: Port = Port::main("nic-twin", 0x13);

/// The disk with the root file system.
const ROOT_IN_LEFT: &str = "nvme,bus=left,addr=0,serial=LAB-ROOT,drive=root";
const ROOT_IN_RIGHT: &str = "nvme,bus=right,addr=0,serial=LAB-ROOT,drive=root";

/// The kernel's parameter for it: the name of the device hangs on the order in
/// which the two are found.
pub(crate) const ROOT_PARAMETER: &str = "root=LABEL=lab-root";

/// Which slot the root's disk is in; its twin is in the other one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Root {
    /// In [`LEFT`].
    Left,
    /// In [`RIGHT`].
    Right,
}

impl Root {
    /// The slot of the root's disk, then that of its twin.
    pub(crate) fn slots(self) -> [Port; 2] {
        match self {
            Self::Left => [LEFT, RIGHT],
            Self::Right => [RIGHT, LEFT],
        }
    }
}

impl Topology {
    /// The host of the traps, as it comes up first.
    pub(crate) fn twins(release: Release) -> Self {
        Self::twins_with(release, Root::Left)
    }

    /// The same host with the root's disk in this slot.
    pub(crate) fn twins_with(release: Release, root: Root) -> Self {
        let mut board = Self::bare(release, 1024);
        board.iommu();
        for port in [LEFT, RIGHT] {
            board.port(port);
        }
        for port in [NIC, NIC_TWIN] {
            board.port(port).nics(port, 1);
        }
        let [_, twin] = root.slots();
        board.disk("twin", 64).arg(
            "-device",
            &format!("nvme,bus={},addr=0,serial=LAB-TWIN,drive=twin", twin.id),
        );
        board.root_device = match root {
            Root::Left => ROOT_IN_LEFT,
            Root::Right => ROOT_IN_RIGHT,
        };
        board.root_parameter = ROOT_PARAMETER;
        board.keeps_root = true;
        board
    }
}
