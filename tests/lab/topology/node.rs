//! The node of a cluster: two NICs for guests, room for a card before them, and a
//! pool of ten.

use super::{Port, Release, TWIN_A, TWIN_B, Topology};

/// The slot of the card that comes later; the firmware numbers its bus before
/// those of the NICs.
const BEFORE: Port = Port::main("before", 0x0f);

/// How many NICs are in a pool.
const TEN: u8 = 10;

impl Topology {
    /// The node as it was set up.
    pub(crate) fn node(release: Release) -> Self {
        let mut board = Self::bare(release, 1024);
        board.iommu();
        for port in [TWIN_A, TWIN_B] {
            board.port(port).nics(port, 1);
        }
        // On the root complex itself each has an IOMMU group of its own.
        for device in 0x01..=TEN {
            board.arg(
                "-device",
                &format!("e1000e,bus=pcie.0,addr={device:#x},mac=52:54:00:00:01:{device:02x}"),
            );
        }
        board.keeps_root = true;
        board
    }

    /// The same with a card more, so that all buses after it have other numbers.
    pub(crate) fn node_with_a_card_more(release: Release) -> Self {
        let mut board = Self::node(release);
        board.port(BEFORE).nics(BEFORE, 1);
        board
    }
}
