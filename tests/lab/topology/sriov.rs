//! Hosts with SR-IOV: functions that can have virtual ones, few or many.

use super::{NVME_PF, Port, Release, TWIN_A, Topology};

impl Topology {
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
}
