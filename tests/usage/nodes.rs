//! Device nodes that processes have open.

use vfio_bindd::{
    kernel::{
        host::OpenVfioDevice,
        usage::{Look, Tables, usage},
    },
    pci::usage::Fact,
};

use crate::one::{ADDRESS, One, check};

fn sound() -> One {
    let one = One::new("040300", "snd_hda_intel");
    one.device("sound", "sound/card0", &[]);
    one.device("sound", "sound/card0/controlC0", &[("dev", "116:7")]);
    one.device("sound", "sound/card0/pcmC0D0p", &[("dev", "116:2")]);
    one
}

const HIDDEN: &str = "unchecked: what processes have open cannot be seen: permission denied";

#[test]
fn an_open_sound_node_counts_and_an_idle_card_does_not() {
    check(
        sound,
        &[
            ("idle", |_| {}, &[]),
            (
                "the control node, for reading only",
                |one| one.opens("wireplumber (pid 7)", (116, 7), false),
                &["sound: wireplumber (pid 7) has controlC0 open"],
            ),
            (
                "a node of another card",
                |one| one.opens("wireplumber (pid 7)", (116, 9), true),
                &[],
            ),
            (
                "nobody can look",
                |one| one.0.with(|kernel| kernel.open_nodes = None),
                &[HIDDEN],
            ),
        ],
    );
}

#[test]
fn reading_counts_only_where_nobody_looks_round() {
    for (subsystem, read, written) in [
        ("nvme", None, Some("storage")),
        ("usb", None, Some("usb")),
        ("scsi_generic", None, Some("storage")),
        ("scsi_tape", Some("storage"), Some("storage")),
        ("drm", Some("display"), Some("display")),
        ("i2c-dev", Some("display"), Some("display")),
        ("ptp", Some("network"), Some("network")),
        ("uio", Some("unchecked"), Some("unchecked")),
        ("input", None, None),
    ] {
        for (writing, guard) in [(false, read), (true, written)] {
            let one = One::new("010000", "x");
            one.device(subsystem, "a/node0", &[("dev", "240:3")]);
            one.opens("x (pid 7)", (240, 3), writing);
            let wanted = guard.map(|guard| format!("{guard}: x (pid 7) has node0 open"));
            let uses = one.uses();
            let uses: Vec<_> = uses.iter().filter(|text| text.contains("pid")).collect();
            assert_eq!(
                uses,
                wanted.iter().collect::<Vec<_>>(),
                "{subsystem} {writing}"
            );
        }
    }
}

/// How many open nodes of it are found by a look with these tables.
fn open_nodes(one: &One, tables: &Tables) -> usize {
    let look = Look {
        sysfs: &one.0,
        host: &one.0,
        tables,
    };
    let facts = usage(look, ADDRESS.parse().unwrap());
    let open = facts.iter();
    open.filter(|fact| matches!(fact, Fact::NodeOpen { .. }))
        .count()
}

#[test]
fn for_a_row_of_writes_it_is_asked_again_once_somebody_opened_something() {
    let dev = tempfile::tempdir().unwrap();
    std::fs::write(dev.path().join("ptp0"), "").unwrap();
    for watched in [true, false] {
        let one = One::new("020000", "igb");
        one.device("ptp", "ptp/ptp0", &[("dev", "247:0")]);
        one.0
            .with(|kernel| kernel.dev = watched.then(|| dev.path().to_owned()));
        let tables = Tables::default().for_next_write();
        assert_eq!(open_nodes(&one, &tables), 0);
        // Without a sign of it nobody asks, and without a watch everybody.
        one.opens("chronyd (pid 7)", (247, 0), true);
        let tables = tables.for_next_write();
        assert_eq!(
            open_nodes(&one, &tables),
            usize::from(!watched),
            "watched: {watched}"
        );
        std::fs::File::open(dev.path().join("ptp0")).unwrap();
        let tables = tables.for_next_write();
        assert_eq!(open_nodes(&one, &tables), 1, "watched: {watched}");
    }
}

#[test]
fn what_was_read_for_a_look_serves_no_write() {
    let one = One::new("020000", "igb");
    one.device("ptp", "ptp/ptp0", &[("dev", "247:0")]);
    let tables = Tables::default();
    assert_eq!(open_nodes(&one, &tables), 0);
    one.opens("chronyd (pid 7)", (247, 0), true);
    assert_eq!(open_nodes(&one, &tables), 0);
    assert_eq!(open_nodes(&one, &tables.for_next_write()), 1);
}

/// The function is bound to vfio-pci, in IOMMU group 7.
fn vfio() -> One {
    let one = One::new("020000", "vfio-pci");
    one.0.file("class/vfio/7/dev", "240:0\n");
    one.0.file("class/vfio/8/dev", "240:1\n");
    let own = format!("bus/pci/devices/{ADDRESS}/vfio-dev/vfio3/dev");
    one.0.file(&own, "241:3\n");
    one
}

fn holds(one: &One, process: &str, function: Option<&str>) {
    let device = OpenVfioDevice {
        function: function.map(str::to_owned),
        process: process.to_owned(),
    };
    one.0.with(|kernel| kernel.open_vfio.push(device));
}

#[test]
fn an_open_vfio_device_counts() {
    check(
        vfio,
        &[
            ("idle", |_| {}, &[]),
            (
                "by its group",
                |one| one.opens("qemu (pid 7)", (240, 0), true),
                &["-: qemu (pid 7) has /dev/vfio/7 open"],
            ),
            (
                "by its own node",
                |one| one.opens("qemu (pid 7)", (241, 3), true),
                &["-: qemu (pid 7) has /dev/vfio/devices/vfio3 open"],
            ),
            (
                "another group",
                |one| {
                    one.opens("qemu (pid 7)", (240, 1), true);
                    holds(one, "qemu (pid 7)", None);
                },
                &[],
            ),
            (
                "a device without any node",
                |one| {
                    one.opens("qemu (pid 8)", (240, 1), true);
                    holds(one, "qemu (pid 7)", None);
                },
                &["unchecked: qemu (pid 7) has a vfio device open, and nobody can tell which"],
            ),
            (
                "its device, as the kernel says",
                |one| {
                    holds(
                        one,
                        "qemu (pid 7)",
                        Some("/sys/devices/pci0000:00/0000:01:00.0"),
                    )
                },
                &["-: qemu (pid 7) has its vfio device open"],
            ),
            (
                "the device of another function, as the kernel says",
                |one| {
                    holds(
                        one,
                        "qemu (pid 7)",
                        Some("/sys/devices/pci0000:00/0000:02:00.0"),
                    )
                },
                &[],
            ),
            (
                "nobody can look",
                |one| one.0.with(|kernel| kernel.open_nodes = None),
                &[HIDDEN],
            ),
        ],
    );
    let without_iommu = One::new("020000", "vfio-pci");
    without_iommu.0.file("class/vfio/noiommu-7/dev", "240:0\n");
    without_iommu.opens("dpdk (pid 7)", (240, 0), true);
    let wanted = "-: dpdk (pid 7) has /dev/vfio/noiommu-7 open";
    assert_eq!(without_iommu.uses(), [wanted]);
}
