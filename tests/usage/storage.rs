//! Disks: each way in which a host can use one, and none.

use vfio_bindd::{
    kernel::{
        host::OpenNode,
        usage::{Look, Tables, usage},
    },
    policy::guard::judge,
};

use crate::fake_kernel::Fake;

const DISK: &str = "0000:01:00.0";
const TWIN: &str = "0000:02:00.0";

/// Two NVMe controllers with a disk each, of two partitions.
struct Host(Fake);

impl Host {
    fn new() -> Self {
        let host = Self(Fake::new(&["nvme"]));
        for (address, disk, minor) in [(DISK, "nvme0n1", 0), (TWIN, "nvme1n1", 8)] {
            let place = host.controller(address);
            host.0.block(&place, disk, &format!("259:{minor}"));
            for part in [1, 2] {
                let (place, name) = (format!("{place}/{disk}"), format!("{disk}p{part}"));
                host.0
                    .block(&place, &name, &format!("259:{}", minor + part));
            }
        }
        host
    }

    /// Adds a controller; the place of its disks.
    fn controller(&self, address: &str) -> String {
        self.0
            .add("0000:00:01.0", address, &[("class", "0x010802")]);
        self.0.bind(address, "nvme");
        let number = address.get(6..7).unwrap();
        format!("pci0000:00/0000:00:01.0/{address}/nvme/nvme{number}")
    }

    /// Makes `name` of `of`.
    fn made_of(&self, name: &str, number: &str, of: &[&str]) {
        self.0.block("virtual/block", name, number);
        for below in of {
            self.0.link(
                &format!("class/block/{below}/holders/{name}"),
                &format!("../../../../{name}"),
            );
        }
    }

    /// Makes the device mapper's `name` of `of`; LVM's UUIDs begin with `LVM-`.
    fn mapped(&self, name: &str, number: &str, called: &str, uuid: &str, of: &[&str]) {
        self.made_of(name, number, of);
        self.0.file(
            &format!("class/block/{name}/dm/name"),
            &format!("{called}\n"),
        );
        self.0
            .file(&format!("class/block/{name}/dm/uuid"), &format!("{uuid}\n"));
    }

    fn file(&self, path: &str, text: &str) {
        self.0.host_file(path, text);
    }

    /// What udev knows of the block device with the number.
    fn udev(&self, number: &str, record: &str) {
        self.file(&format!("/run/udev/data/b{number}"), record);
    }

    fn evidence(&self, address: &str) -> Vec<String> {
        let facts = usage(
            Look {
                sysfs: &self.0,
                host: &self.0,
                tables: &Tables::default(),
            },
            address.parse().unwrap(),
        );
        let told = facts.iter().map(|fact| {
            let (guard, text) = judge(fact);
            format!("{}: {text}", guard.unwrap().name())
        });
        told.collect()
    }

    /// The disk has exactly this evidence, and its twin has none.
    #[track_caller]
    fn says(&self, wanted: &[&str]) {
        assert_eq!(self.evidence(DISK), wanted);
        assert_eq!(self.evidence(TWIN), Vec::<String>::new(), "the twin");
    }
}

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
fn each_way_to_name_a_device_is_understood() {
    let named = |spec: &str| {
        let host = Host::new();
        host.udev(
            "259:0",
            "S:disk/by-id/nvme-A\nS:disk/by-path/pci-0000:01:00.0-nvme-1\n",
        );
        host.udev(
            "259:2",
            "S:disk/by-id/nvme-A-part2\nE:ID_FS_TYPE=ext4\nE:ID_FS_UUID=0a1b-2c\n\
             E:ID_FS_LABEL=my_data\nE:ID_FS_LABEL_ENC=my\\x20data\n\
             E:ID_PART_ENTRY_UUID=de-02\nE:ID_PART_ENTRY_NAME=the\\x20part\n",
        );
        host.file(
            "/etc/fstab",
            &format!("{spec} /var ext4 defaults,nofail 0 2\n"),
        );
        host.says(&["storage: nvme0n1p2 is in /etc/fstab for /var"]);
    };
    for spec in [
        "/dev/nvme0n1p2",
        "/dev//nvme0n1p2",
        "UUID=0A1B-2C",
        "UUID=\"0a1b-2c\"",
        "LABEL=my\\040data",
        "PARTUUID=DE-02",
        "PARTLABEL=the\\040part",
        "ID=nvme-A-part2",
        "/dev/disk/by-id/nvme-A-part2",
        "/dev/disk/by-uuid/0a1b-2c",
        "/dev/disk/by-label/my\\134x20data",
        "/dev/disk/by-partuuid/de-02",
        "/dev/disk/by-partlabel/the\\134x20part",
        "/dev/block/259:2",
    ] {
        named(spec);
    }
    let host = Host::new();
    host.udev("259:0", "S:disk/by-path/pci-0000:01:00.0-nvme-1\n");
    host.file(
        "/etc/fstab",
        "/dev/disk/by-path/pci-0000:01:00.0-nvme-1 none swap sw\n",
    );
    host.says(&["storage: nvme0n1 is in /etc/fstab for swap"]);
}

#[test]
fn what_fstab_names_for_others_is_no_use() {
    let host = Host::new();
    let record = "E:ID_FS_TYPE=ext4\nE:ID_FS_UUID=aa\nE:ID_FS_LABEL=data\n";
    host.udev("259:1", record);
    host.file(
        "/etc/fstab",
        "#UUID=aa /a ext4\nUUID=aab /b ext4\nLABEL=dat /c ext4\n/dev/nvme0n1p11 /d ext4\n\
         nas:/x /e nfs\n",
    );
    host.says(&["signature: nvme0n1p1 carries ext4, though no use of it is seen"]);
}

#[test]
fn other_devices_of_an_entry_count_too() {
    let host = Host::new();
    host.file(
        "/etc/fstab",
        "/dev/sda1 /a xfs logdev=/dev/nvme0n1p1\n/dev/sda2 /b btrfs ro,device=/dev/nvme0n1p2\n",
    );
    host.file(
        "/etc/crypttab",
        "c /dev/sdb /keys/c:UUID=k header=/dev/disk/by-id/h\n",
    );
    host.udev("259:0", "S:disk/by-id/h\n");
    host.says(&[
        "storage: nvme0n1 is in /etc/crypttab for c",
        "storage: nvme0n1p1 is in /etc/fstab for /a",
        "storage: nvme0n1p2 is in /etc/fstab for /b",
    ]);
}

#[test]
fn the_kernel_is_told_of_devices() {
    let record = "E:ID_FS_TYPE=swap\nE:ID_FS_UUID=aa-bb\nE:ID_PART_ENTRY_UUID=p-1\n";
    for parameter in [
        "root=UUID=aa-bb",
        "root=PARTUUID=p-1",
        "root=/dev/nvme0n1p1",
        "root=259:1",
        "root=10301",
        "resume=/dev/disk/by-uuid/aa-bb",
        "rd.luks.uuid=luks-AA",
        "rd.luks.name=aa-bb=root",
        "cryptdevice=UUID=aa-bb:root",
    ] {
        let host = Host::new();
        host.udev("259:1", record);
        host.file("/proc/cmdline", &format!("ro {parameter} quiet\n"));
        host.says(&[&format!("storage: nvme0n1p1 is what {parameter} names")]);
    }
    let host = Host::new();
    host.0.file("power/resume", "259:1\n");
    host.file(
        "/etc/initramfs-tools/conf.d/resume",
        "RESUME=/dev/nvme0n1p1\n",
    );
    host.says(&[
        "storage: nvme0n1p1 is what /sys/power/resume names",
        "storage: nvme0n1p1 is in /etc/initramfs-tools/conf.d/resume for hibernation",
    ]);
}

#[test]
fn units_of_the_administrator_are_read() {
    let host = Host::new();
    for (path, text) in [
        ("srv.mount", "[Mount]\nWhat=/dev/nvme0n1p1\nWhere=/srv\n"),
        ("dev-x.swap", "[Swap]\nWhat = LABEL=sw\n"),
        ("a.mount.d/what.conf", "[Mount]\nWhat=/dev/nvme0n1\n"),
        ("a.mount.d/what.conf~", "[Mount]\nWhat=/dev/nvme1n1\n"),
        ("x.service", "What=/dev/nvme1n1\n"),
    ] {
        host.file(&format!("/etc/systemd/system/{path}"), text);
    }
    host.udev("259:2", "E:ID_FS_LABEL=sw\n");
    host.says(&[
        "storage: nvme0n1 is in /etc/systemd/system/a.mount.d/what.conf for a.mount",
        "storage: nvme0n1p1 is in /etc/systemd/system/srv.mount for /srv",
        "storage: nvme0n1p2 is in /etc/systemd/system/dev-x.swap for dev-x.swap",
    ]);
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
                "storage: nvme0n1 cannot be opened exclusively: device or resource busy",
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
