//! File systems of many disks: btrfs and ZFS.

use super::{DISK, Host, TWIN};

#[test]
fn btrfs_has_an_anonymous_number_and_more_than_one_disk() {
    let host = Host::new();
    let mounts = "1 1 0:27 /@ / rw - btrfs /dev/nvme0n1p2 rw\n";
    host.file("/proc/1/mountinfo", mounts);
    host.says(&["storage: nvme0n1p2 is mounted on /"]);
    host.0.link("fs/btrfs/u-1/devices/nvme0n1p2", "x");
    host.0.link("fs/btrfs/u-1/devices/nvme1n1", "x");
    host.0.file("fs/btrfs/features/raid1c34", "0\n");
    assert_eq!(host.evidence(TWIN), ["storage: nvme1n1 is mounted on /"]);
}

#[test]
fn zfs_members_go_with_their_pool() {
    let host = Host::new();
    host.udev(
        "259:1",
        "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\nE:ID_FS_UUID=77\nE:ID_FS_UUID_SUB=78\n",
    );
    // A twin of another pool, and one that only looks alike.
    host.udev("259:9", "E:ID_FS_TYPE=ext4\nE:ID_FS_LABEL=rpool\n");
    let twin = ["signature: nvme1n1p1 carries ext4, though no use of it is seen"];
    let carries = ["signature: nvme0n1p1 carries zfs_member, though no use of it is seen"];
    assert_eq!(host.evidence(DISK), carries);
    for (path, text, wanted) in [
        (
            "/proc/1/mountinfo",
            "1 1 0:27 / / rw - zfs rpool/ROOT/pve-1 rw\n",
            "is mounted on /",
        ),
        (
            "/proc/cmdline",
            "root=ZFS=rpool/ROOT/pve-1",
            "is what root=ZFS=rpool/ROOT/pve-1 names",
        ),
        (
            "/proc/cmdline",
            "root=zfs:AUTO",
            "is what root=zfs:AUTO names",
        ),
        (
            "/etc/fstab",
            "rpool/srv /srv zfs",
            "is in /etc/fstab for /srv",
        ),
        (
            "/etc/fstab",
            "ZFS=rpool/a /a auto",
            "is in /etc/fstab for /a",
        ),
        (
            "/etc/systemd/system/a.mount",
            "[Mount]\nWhat=rpool/a\nType=zfs\n",
            "is in /etc/systemd/system/a.mount for a.mount",
        ),
    ] {
        host.file(path, text);
        assert_eq!(
            host.evidence(DISK),
            [format!("storage: nvme0n1p1 {wanted}")],
            "{text}"
        );
        assert_eq!(host.evidence(TWIN), twin, "{text}");
        host.file(path, "");
    }
}

/// A pair of a name and a value as the cache file has it.
fn pair(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let mut text = word(name.len()).to_vec();
    text.extend(name.bytes());
    text.resize(text.len().next_multiple_of(4), 0);
    let size = 8 + text.len() + 8 + value.len();
    let parts = [
        &word(size),
        &word(size),
        &*text,
        &kind.to_be_bytes(),
        &word(1),
        value,
    ];
    parts.concat()
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn list(pairs: &[Vec<u8>]) -> Vec<u8> {
    let (head, end) = ([0, 0, 0, 0, 0, 0, 0, 1], [0; 8]);
    [&head[..], &pairs.concat(), &end[..]].concat()
}

/// A cache file with the pool `name` on one disk.
fn cache(name: &str, guid: u64, path: &str) -> Vec<u8> {
    let disk = list(&[
        pair("type", 9, &text("disk")),
        pair("guid", 8, &99_u64.to_be_bytes()),
        pair("path", 9, &text(path)),
        pair("whole_disk", 8, &1_u64.to_be_bytes()),
    ]);
    let tree = list(&[pair("type", 9, &text("root")), pair("children", 20, &disk)]);
    let pool = list(&[
        pair("version", 8, &5000_u64.to_be_bytes()),
        pair("name", 9, &text(name)),
        pair("pool_guid", 8, &guid.to_be_bytes()),
        pair("vdev_tree", 19, &tree),
    ]);
    [&[1, 1, 0, 0][..], &list(&[pair(name, 19, &pool)])].concat()
}

#[test]
fn pools_of_the_cache_file_are_listed() {
    let put = |host: &Host, bytes: &[u8]| {
        let path = "/etc/zfs/zpool.cache".to_owned();
        let bytes = bytes.to_vec();
        host.0.with(|kernel| kernel.host_bytes.insert(path, bytes));
    };
    let listed = ["storage: nvme0n1p1 is in /etc/zfs/zpool.cache for the pool tank"];
    let member = |line: &str| format!("E:ID_FS_TYPE=zfs_member\n{line}\n");
    for record in [
        member("E:ID_FS_LABEL=tank"),
        member("E:ID_FS_UUID=77"),
        member("E:ID_FS_UUID_SUB=99"),
        "S:disk/by-id/nvme-A-part1\n".to_owned(),
    ] {
        let host = Host::new();
        put(&host, &cache("tank", 77, "/dev/disk/by-id/nvme-A-part1"));
        host.udev("259:1", &record);
        host.says(&listed);
    }
    let host = Host::new();
    let whole = cache("tank", 77, "/dev/nvme0n1p1");
    for length in 1..whole.len() {
        put(&host, &whole[..length]);
        assert_eq!(
            host.evidence(TWIN),
            ["unchecked: /etc/zfs/zpool.cache is no list of pools that can be read"],
            "{length}"
        );
    }
    put(&host, &whole);
    host.says(&listed);
}
