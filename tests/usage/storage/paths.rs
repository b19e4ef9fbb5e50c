//! Disks that more than one controller leads to.

use vfio_bindd::kernel::host::OpenNode;

use super::{DISK, Host, TWIN};
use crate::fake_kernel::Fake;

/// Two controllers of one NVMe subsystem, with one disk that both lead to.
fn shared() -> Fake {
    let host = Host(Fake::new(&["nvme"]));
    for (address, path) in [(DISK, "nvme0c0n1"), (TWIN, "nvme0c1n1")] {
        let place = host.controller(address);
        let link = format!("class/block/{path}");
        host.0.link(&link, &format!("../../devices/{place}/{path}"));
        host.0.file(&format!("{link}/hidden"), "1\n");
    }
    host.0
}

#[test]
fn a_multipath_disk_is_looked_at_through_each_of_its_paths() {
    let host = Host(shared());
    let unseen = "unchecked: nvme0c0n1 is a path of the multipath disk nvme0n1, which is not seen";
    assert_eq!(host.evidence(DISK), [unseen]);
    let place = "virtual/nvme-subsystem/nvme-subsys0";
    host.0.block(place, "nvme0n1", "259:1");
    host.0
        .block(&format!("{place}/nvme0n1"), "nvme0n1p1", "259:2");
    for address in [DISK, TWIN] {
        assert_eq!(host.evidence(address), Vec::<String>::new(), "idle");
    }
    host.0.mount("nvme0n1");
    let held = "storage: nvme0n1 cannot be opened exclusively: device or resource busy";
    for address in [DISK, TWIN] {
        assert_eq!(host.evidence(address), [held]);
    }
    host.file(
        "/proc/1/mountinfo",
        "1 1 259:2 / /srv rw - ext4 /dev/nvme0n1p1 rw\n",
    );
    host.mapped("dm-0", "254:0", "x", "", &["nvme0n1"]);
    let node = OpenNode {
        block: true,
        device: (259, 1),
        writing: true,
        process: "dd (pid 9)".to_owned(),
    };
    host.0.with(|kernel| kernel.open_nodes = Some(vec![node]));
    for address in [DISK, TWIN] {
        assert_eq!(
            host.evidence(address),
            [
                "storage: nvme0n1p1 is mounted on /srv",
                "storage: dd (pid 9) has nvme0n1 open for writing",
                "storage: dm-0 (x) is made of nvme0n1",
            ]
        );
    }
}

#[test]
fn other_hidden_disks_are_in_use() {
    let host = Host::new();
    let place = host.controller(DISK);
    host.0
        .link("class/block/odd0", &format!("../../devices/{place}/odd0"));
    host.0.file("class/block/odd0/hidden", "1\n");
    host.says(&["unchecked: odd0 is a hidden disk, and what is made of it is not known"]);
}
