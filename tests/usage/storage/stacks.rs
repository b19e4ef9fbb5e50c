//! What is made of a disk: LVM, LUKS, arrays.

use super::{DISK, Host, TWIN};

#[test]
fn lvm_on_luks_on_a_partition() {
    let host = Host::new();
    host.mapped(
        "dm-0",
        "254:0",
        "cryptroot",
        "CRYPT-LUKS2-x",
        &["nvme0n1p2"],
    );
    host.mapped("dm-1", "254:1", "my--vg-root", "LVM-x", &["dm-0"]);
    host.mapped("dm-2", "254:2", "my--vg-swap", "LVM-y", &["dm-0"]);
    host.file(
        "/proc/1/mountinfo",
        "30 1 254:1 / / rw - ext4 /dev/mapper/my--vg-root rw\n",
    );
    host.file("/proc/swaps", "Filename Type\n/dev/dm-2 partition 1 0 -2\n");
    host.file(
        "/proc/cmdline",
        "root=/dev/my-vg/root resume=/dev/mapper/my--vg-swap\n",
    );
    host.file("/etc/crypttab", "cryptroot UUID=C-1 none luks\n");
    host.file("/etc/fstab", "UUID=F-1 / ext4 defaults 0 1\n");
    host.udev("259:2", "E:ID_FS_TYPE=crypto_LUKS\nE:ID_FS_UUID=c-1\n");
    host.udev("254:1", "E:ID_FS_TYPE=ext4\nE:ID_FS_UUID=f-1\n");
    host.says(&[
        "storage: dm-1 (my--vg-root) on nvme0n1p2 is mounted on /",
        "storage: dm-2 (my--vg-swap) on nvme0n1p2 is swapped to",
        "storage: dm-1 (my--vg-root) on nvme0n1p2 is what root=/dev/my-vg/root names",
        "storage: dm-2 (my--vg-swap) on nvme0n1p2 is what resume=/dev/mapper/my--vg-swap names",
        "storage: dm-1 (my--vg-root) on nvme0n1p2 is in /etc/fstab for /",
        "storage: nvme0n1p2 is in /etc/crypttab for cryptroot",
        "storage: dm-1 (my--vg-root) is made of dm-0 (cryptroot) on nvme0n1p2",
        "storage: dm-2 (my--vg-swap) is made of dm-0 (cryptroot) on nvme0n1p2",
        "storage: dm-0 (cryptroot) is made of nvme0n1p2",
    ]);
}

#[test]
fn a_physical_volume_goes_with_its_group_before_the_group_is_active() {
    const ID: &str = "AbCd-1";
    let with = |path: &str, text: &str| {
        let host = Host::new();
        host.udev("259:1", "E:ID_FS_TYPE=LVM2_member\nE:ID_FS_UUID=AbCd-1\n");
        host.file(
            "/etc/fstab",
            "/dev/mapper/data--vg-a /srv xfs defaults 0 0\n",
        );
        host.file(path, text);
        host
    };
    let listed = ["storage: nvme0n1p1 (volume group data-vg) is in /etc/fstab for /srv"];
    with("/run/lvm/pvs_online/AbCd1", "259:1\nvg:data-vg\n").says(&listed);
    let backup = format!("pv0 {{\n id = \"{ID}\"\n}}\n");
    with("/etc/lvm/backup/data-vg", &backup).says(&listed);
    let record = "E:ID_FS_TYPE=LVM2_member\nE:LVM_VG_NAME_COMPLETE=data-vg\n";
    with("/run/udev/data/b259:1", record).says(&listed);
    // Of no group that anybody knows of: soft evidence.
    with("/etc/lvm/backup/data-vg", "id = \"other\"")
        .says(&["signature: nvme0n1p1 carries LVM2_member, though no use of it is seen"]);
    let unread = with("/etc/lvm/backup/data-vg", "");
    unread.0.with(|kernel| {
        kernel
            .unreadable
            .insert("/etc/lvm/backup/data-vg".to_owned())
    });
    assert_eq!(
        unread.evidence(DISK)[1],
        "unchecked: /etc/lvm/backup/data-vg cannot be read: input/output error"
    );
}

#[test]
fn the_second_disk_of_a_group_goes_with_the_first() {
    let host = Host::new();
    host.mapped("dm-0", "254:0", "vg-a", "LVM-x", &["nvme0n1"]);
    host.file(
        "/proc/1/mountinfo",
        "1 1 254:0 / /a rw - ext4 /dev/mapper/vg-a rw\n",
    );
    host.udev(
        "259:8",
        "E:ID_FS_TYPE=LVM2_member\nE:LVM_VG_NAME_COMPLETE=vg\n",
    );
    assert_eq!(
        host.evidence(DISK)[0],
        "storage: dm-0 (vg-a) on nvme0n1 is mounted on /a"
    );
    assert_eq!(
        host.evidence(TWIN),
        ["storage: nvme1n1 (volume group vg) is mounted on /a"]
    );
}

#[test]
fn an_md_mirror_is_a_use_of_both_disks() {
    let host = Host::new();
    host.made_of("md127", "9:127", &["nvme0n1p1", "nvme1n1p1"]);
    host.0.block("virtual/block/md127", "md127p1", "259:20");
    host.file(
        "/proc/1/mountinfo",
        "1 1 259:20 / /srv rw - ext4 /dev/md127p1 rw\n",
    );
    let record = "E:ID_FS_TYPE=linux_raid_member\nE:ID_FS_UUID=3aaa0122-29827cfa\n";
    host.udev("259:1", record);
    host.udev("259:9", record);
    host.file(
        "/etc/mdadm/mdadm.conf",
        "ARRAY /dev/md/srv UUID=3AAA0122:29827CFA\n",
    );
    for (address, part) in [(DISK, "nvme0n1p1"), (TWIN, "nvme1n1p1")] {
        assert_eq!(
            host.evidence(address),
            [
                format!("storage: md127p1 on {part} is mounted on /srv"),
                format!("storage: {part} is in /etc/mdadm/mdadm.conf for /dev/md/srv"),
                format!("storage: md127 is made of {part}"),
            ]
        );
    }
}

#[test]
fn an_array_that_is_not_assembled_is_listed() {
    let host = Host::new();
    host.udev(
        "259:1",
        "E:ID_FS_TYPE=linux_raid_member\nE:ID_FS_LABEL=here:0\n",
    );
    host.file("/etc/mdadm.conf", "ARRAY name=here:0\n");
    host.says(&["storage: nvme0n1p1 is in /etc/mdadm.conf for name=here:0"]);
    let by_path = Host::new();
    by_path.file("/etc/mdadm.conf", "ARRAY md0\n  devices=/dev/nvme0n1p*\n");
    by_path.says(&[
        "storage: nvme0n1p1 is in /etc/mdadm.conf for md0",
        "storage: nvme0n1p2 is in /etc/mdadm.conf for md0",
    ]);
}

#[test]
fn a_loop_of_holders_ends() {
    let host = Host::new();
    host.mapped("dm-0", "254:0", "a", "", &["nvme0n1p1", "dm-1"]);
    host.mapped("dm-1", "254:1", "b", "", &["dm-0"]);
    host.says(&[
        "storage: dm-1 (b) is made of dm-0 (a) on nvme0n1p1",
        "storage: dm-0 (a) is made of dm-1 (b) on nvme0n1p1",
        "storage: dm-0 (a) is made of nvme0n1p1",
    ]);
}
