//! The host that much happens on: many empty slots, a NIC that is there from the
//! start, and a disk that can have virtual functions.

use super::{NVME_PF, Port, Release, SPARE, SPARE_B, TWIN_A, Topology};

/// Empty slots for cards with eight functions each.
pub(crate) const SLOTS: [Port; 9] = [
    Port::main("storm-0", 0x1),
    Port::main("storm-1", 0x2),
    Port::main("storm-2", 0x3),
    Port::main("storm-3", 0x4),
    Port::main("storm-4", 0x5),
    Port::main("storm-5", 0x6),
    Port::main("storm-6", 0x7),
    Port::main("storm-7", 0x8),
    Port::main("storm-8", 0x9),
];

impl Topology {
    /// A host for [`crate::scenarios::storm`] and for what is counted and timed.
    pub(crate) fn storm(release: Release) -> Self {
        let mut board = Self::bare(release, 1536);
        board.iommu().port(TWIN_A).nics(TWIN_A, 1);
        board.port(NVME_PF).virtual_disks(NVME_PF, 4);
        board.port(SPARE).port(SPARE_B);
        for slot in SLOTS {
            // Eight NICs need more than the 2 MiB that an empty slot gets.
            board.port_with(slot, ",mem-reserve=4M");
        }
        board
    }
}
