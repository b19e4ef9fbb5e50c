//! Hosts with SR-IOV: functions that can have virtual ones, few or many.

use super::{NVME_PF, Port, Qemu, Release, Root, SPARE, TWIN_A, Topology};

/// A NIC that can have seven virtual functions, 8086:10ca.
pub(crate) const IGB: Port = Port::main("igb", 0x14);
/// Another one, on NUMA node 1. A cable joins the two.
pub(crate) const IGB_NODE1: Port = Port::node1("igb-node1", 0x02);

impl Topology {
    /// A host with two NICs and an NVMe controller that can have virtual functions, a
    /// NIC that cannot, and an empty slot.
    pub(crate) fn sriov(release: Release) -> Self {
        let mut board = Self::board(release, 1536);
        board.qemu = Qemu::WithIgb;
        for port in [IGB, IGB_NODE1] {
            board.port(port).wired_nic(port);
        }
        board.port(NVME_PF).virtual_disks(NVME_PF, 4);
        board.port(TWIN_A).nics(TWIN_A, 1).port(SPARE);
        board
    }

    /// A host with an NVMe controller that can have 64 virtual functions.
    pub(crate) fn many_vfs(release: Release) -> Self {
        let mut board = Self::board(release, 1536);
        board.port(NVME_PF).virtual_disks(NVME_PF, 64);
        board.port(TWIN_A).nics(TWIN_A, 1);
        board
    }

    /// An NVMe controller that can have so many virtual functions. Each of them may
    /// have two queues and an interrupt, and so may the controller itself.
    pub(super) fn virtual_disks(&mut self, Port { id, .. }: Port, vfs: u8) -> &mut Self {
        let vfs = u16::from(vfs);
        let (queues, interrupts) = (2 * vfs, vfs);
        let (all_queues, all_interrupts) = (queues + 2, 2 * vfs + 2);
        self.arg("-device", "nvme-subsys,id=shelf").arg(
            "-device",
            &format!(
                "nvme,id={id}0,bus={id},addr=0,serial=LAB-PF,subsys=shelf,sriov_max_vfs={vfs},\
                 sriov_vq_flexible={queues},sriov_vi_flexible={interrupts},\
                 max_ioqpairs={all_queues},msix_qsize={all_interrupts}"
            ),
        )
    }

    /// A NIC of the kind `igb`, on the board's one cable. A NIC without a cable
    /// would have no carrier; this one needs nothing from the machine it runs on.
    fn wired_nic(&mut self, port: Port) -> &mut Self {
        let Port { id, device, .. } = port;
        let root = u8::from(port.root == Root::Node1);
        self.arg("-netdev", &format!("hubport,id={id}-cable,hubid=0"))
            .arg(
                "-device",
                &format!(
                    "igb,id={id}-0,bus={id},addr=0,netdev={id}-cable,\
                     mac=52:54:00:{root:02x}:{device:02x}:00"
                ),
            )
    }
}
