//! What the host's configuration and the kernel's command line name.

use super::{DISK, Host, TWIN};

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
fn a_disk_that_udev_has_not_looked_at_may_be_the_one_that_is_named() {
    let host = Host::new();
    let unknown = |number: &str| {
        let record = format!("/run/udev/data/b{number}");
        host.0.with(|kernel| kernel.host_files.remove(&record));
    };
    unknown("259:0");
    unknown("259:1");
    host.says(&[]);
    for (path, text, named) in [
        (
            "/etc/fstab",
            "UUID=aa /srv ext4\n",
            "/etc/fstab has for /srv",
        ),
        (
            "/proc/cmdline",
            "root=/dev/mapper/vg-root",
            "root=/dev/mapper/vg-root names",
        ),
    ] {
        host.file(path, text);
        host.says(&[
            &format!("unchecked: udev has no record of nvme0n1, which may be what {named}"),
            &format!("unchecked: udev has no record of nvme0n1p1, which may be what {named}"),
        ]);
        host.file(path, "");
    }
    // What another disk answers to is not missed.
    host.file(
        "/etc/fstab",
        "UUID=aa /srv ext4\nLABEL=bb /a ext4\n/dev/vg/c /c ext4\n",
    );
    host.udev("259:9", "E:ID_FS_UUID=aa\n");
    host.mapped("dm-0", "254:0", "vg-d", "LVM-x", &["nvme1n1p2"]);
    host.udev("254:0", "E:ID_FS_LABEL=bb\n");
    assert_eq!(host.evidence(DISK), Vec::<String>::new());
    assert!(host.evidence(TWIN).len() > 1);
    // That of the other cannot be read: it could be the one.
    let record = "/run/udev/data/b259:9".to_owned();
    host.0.with(|kernel| kernel.unreadable.insert(record));
    let [one, _] = host.evidence(DISK).try_into().unwrap();
    let says = "unchecked: udev has no record of nvme0n1, which cannot be told from others: what \
                udev knows of nvme1n1p1 (";
    assert!(one.starts_with(says), "{one}");
}
