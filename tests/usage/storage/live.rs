//! What the kernel does with a disk now, and what cannot be seen of that.

use vfio_bindd::kernel::host::OpenNode;

use super::{DISK, Host, TWIN};

#[test]
fn a_bare_disk_is_idle() {
    let host = Host::new();
    host.file(
        "/proc/1/mountinfo",
        "22 27 0:21 / /proc rw - proc proc rw\n",
    );
    host.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    host.file("/proc/cmdline", "root=/dev/nfs ip=dhcp quiet\n");
    host.file("/etc/fstab", "# nothing\nproc /proc proc defaults 0 0\n");
    host.0.file("power/resume", "0:0\n");
    host.udev("259:0", "S:disk/by-id/nvme-A\nE:ID_PART_TABLE_TYPE=gpt\n");
    host.says(&[]);
}

#[test]
fn the_kernel_is_asked_whether_a_disk_is_held() {
    let host = Host::new();
    host.0.mount("nvme0n1");
    let [found] = host.evidence(DISK).try_into().unwrap();
    let says = "storage: nvme0n1 cannot be opened exclusively: device or resource busy";
    assert!(found.starts_with(says), "{found}");
    // It is asked about whole disks.
    host.0.mount("nvme1n1p1");
    assert_eq!(host.evidence(TWIN), Vec::<String>::new());
}

#[test]
fn a_disk_that_something_else_speaks_for_is_not_kept_from_anybody() {
    let host = Host::new();
    host.file("/etc/fstab", "/dev/nvme0n1p2 /srv ext4 defaults 0 2\n");
    host.says(&["storage: nvme0n1p2 is in /etc/fstab for /srv"]);
    // A mount that comes at this moment would be told that the disk is busy.
    assert_eq!(host.0.with(|kernel| kernel.opened.clone()), ["nvme1n1"]);
}

#[test]
fn a_disk_without_a_number_is_in_use() {
    let host = Host::new();
    host.0.link(
        "class/block/nvme0n2",
        &format!("../../devices/{}/nvme0n2", host.controller(DISK)),
    );
    host.says(&["unchecked: nvme0n2 does not say its number"]);
}

#[test]
fn mounts_are_found_by_number_and_decoded() {
    let host = Host::new();
    host.file(
        "/proc/1/mountinfo",
        "30 1 259:2 / /mnt/my\\040disk\\134x rw shared:1 - ext4 /dev/odd rw\n",
    );
    host.says(&["storage: nvme0n1p2 is mounted on /mnt/my disk\\x"]);
}

#[test]
fn a_hundred_mounts_of_one_partition_are_told_by_a_few() {
    let host = Host::new();
    let mount = |at: u32| format!("{at} 1 259:2 /{at} /pods/{at} rw - ext4 /dev/nvme0n1p2 rw\n");
    let mounts: String = (100..200).map(mount).collect();
    host.file("/proc/1/mountinfo", &mounts);
    let found = host.evidence(DISK);
    assert_eq!(found.len(), 8);
    assert_eq!(found[0], "storage: nvme0n1p2 is mounted on /pods/100");
}

#[test]
fn swap_is_a_use() {
    let host = Host::new();
    host.file(
        "/proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2\n/swap.img file 1 0 -3\n",
    );
    host.says(&["storage: nvme0n1p1 is swapped to"]);
}

#[test]
fn a_raw_writer_is_a_use_and_a_reader_is_none() {
    let host = Host::new();
    host.mapped("dm-3", "254:3", "vm", "x", &["nvme0n1p2"]);
    let open = |device, writing| OpenNode {
        block: true,
        device,
        writing,
        process: "qemu (pid 7)".to_owned(),
    };
    let nodes = vec![
        open((259, 1), true),
        open((254, 3), true),
        open((259, 9), false),
    ];
    host.0.with(|kernel| kernel.open_nodes = Some(nodes));
    host.udev("259:1", "E:ID_FS_TYPE=ext4\n");
    host.says(&[
        "storage: qemu (pid 7) has dm-3 (vm) on nvme0n1p2 open for writing",
        "storage: qemu (pid 7) has nvme0n1p1 open for writing",
        "storage: dm-3 (vm) is made of nvme0n1p2",
    ]);
    host.0.with(|kernel| kernel.open_nodes = None);
    assert_eq!(
        host.evidence(TWIN),
        ["unchecked: what processes have open cannot be seen: permission denied"]
    );
}

#[test]
fn what_is_there_and_cannot_be_read_is_in_use() {
    for path in [
        "/proc/1/mountinfo",
        "/proc/swaps",
        "/proc/cmdline",
        "/etc/fstab",
        "/etc/crypttab",
        "/etc/mdadm/mdadm.conf",
        "/etc/mdadm.conf",
        "/etc/zfs/zpool.cache",
        "/etc/initramfs-tools/conf.d/resume",
        "/etc/systemd/system/a.mount",
    ] {
        let host = Host::new();
        host.file(path, "");
        host.says(&[]);
        host.0
            .with(|kernel| kernel.unreadable.insert(path.to_owned()));
        let wanted = [format!(
            "unchecked: {path} cannot be read: input/output error"
        )];
        assert_eq!(host.evidence(DISK), wanted);
        assert_eq!(host.evidence(TWIN), wanted);
    }
    let host = Host::new();
    host.udev("259:1", "");
    let record = "/run/udev/data/b259:1".to_owned();
    host.0.with(|kernel| kernel.unreadable.insert(record));
    host.says(&[
        "unchecked: what udev knows of nvme0n1p1 (/run/udev/data/b259:1) cannot be read: \
         input/output error",
    ]);
    let host = Host::new();
    host.file("/proc/1/mountinfo", "nonsense\n");
    assert_eq!(
        host.evidence(DISK),
        ["unchecked: /proc/1/mountinfo has a line that is no mount: nonsense"]
    );
}

#[test]
fn without_udevs_database_a_disk_is_in_use() {
    let host = Host::new();
    host.0.with(|kernel| kernel.host_files.clear());
    let unknown = "unchecked: what disks carry cannot be told without udev's database \
                   /run/udev/data";
    assert_eq!(host.evidence(DISK), [unknown]);
}
