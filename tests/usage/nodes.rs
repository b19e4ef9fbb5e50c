//! Device nodes that processes have open.

use vfio_bindd::{
    kernel::{
        host::OpenVfioDevice,
        usage::{Handles, Look, Tables, handles, holders, usage, users},
    },
    pci::usage::Fact,
    policy::guard::judge,
};

use crate::{
    fake_kernel::vf_of,
    one::{ADDRESS, One, check},
};

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
fn for_writes_it_is_asked_again_once_somebody_opened_something() {
    let dev = tempfile::tempdir().unwrap();
    std::fs::write(dev.path().join("ptp0"), "").unwrap();
    for watched in [true, false] {
        let one = One::new("020000", "igb");
        one.device("ptp", "ptp/ptp0", &[("dev", "247:0")]);
        one.0
            .with(|kernel| kernel.dev = watched.then(|| dev.path().to_owned()));
        // By whoever inspected it first.
        let tables = Tables::default();
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

fn look<'a>(one: &'a One, tables: &'a Tables) -> Look<'a> {
    Look {
        sysfs: &one.0,
        host: &one.0,
        tables,
    }
}

fn taken_down(one: &One) -> Handles {
    handles(look(one, &Tables::default()), ADDRESS.parse().unwrap())
}

/// Who holds the function, by what was taken down of it before.
fn held(one: &One, before: &Handles) -> Vec<String> {
    let facts = holders(
        look(one, &Tables::default()),
        ADDRESS.parse().unwrap(),
        before,
    );
    facts.iter().map(|fact| judge(fact).1).collect()
}

#[test]
fn who_holds_a_function_is_found_although_its_nodes_are_gone() {
    let before = taken_down(&sound());
    assert_eq!(before.driver.as_deref(), Some("snd_hda_intel"));
    // As an unbind leaves it that waits for them.
    let one = One::without_driver("040300");
    assert_eq!(held(&one, &before), [""; 0]);
    one.opens("pipewire (pid 812, pipewire.service)", (116, 7), false);
    one.opens("sox (pid 9)", (116, 2), true);
    one.opens("dd (pid 10)", (116, 9), true);
    let both = [
        "pipewire (pid 812, pipewire.service) has controlC0 open",
        "sox (pid 9) has pcmC0D0p open",
    ];
    assert_eq!(held(&one, &before), both);
    assert_eq!(held(&one, &Handles::default()), [""; 0]);
    // A card that came later has the number now.
    one.0.link(
        "dev/char/116:7",
        "../../devices/pci0000:00/0000:05:00.0/sound/card1/controlC1",
    );
    assert_eq!(held(&one, &before), both[1..]);
    one.0.with(|kernel| kernel.open_nodes = None);
    assert_eq!(
        held(&one, &before),
        ["what processes have open cannot be seen: permission denied"]
    );
}

#[test]
fn who_holds_a_function_is_found_by_what_is_there_still() {
    let one = sound();
    one.opens("pipewire (pid 812)", (116, 7), false);
    let told = ["pipewire (pid 812) has controlC0 open"];
    assert_eq!(held(&one, &Handles::default()), told);
    assert_eq!(held(&one, &taken_down(&one)), told, "and told once");
    let one = vfio();
    one.opens("qemu (pid 7)", (240, 0), true);
    holds(&one, "qemu (pid 7)", None);
    holds(&one, "other (pid 8)", None);
    let told = [
        "qemu (pid 7) has /dev/vfio/7 open",
        "other (pid 8) has a vfio device open, and nobody can tell which",
    ];
    assert_eq!(held(&one, &taken_down(&one)), told);
}

#[test]
fn who_holds_a_vf_is_found_although_its_pf_has_it_no_more() {
    let one = One::new("020000", "igb");
    one.0.is_pf(ADDRESS, "0");
    one.0.with(|kernel| kernel.have_vfs(ADDRESS, 2));
    let vf = vf_of(ADDRESS, 1);
    one.0.bind(&vf, "vfio-pci");
    one.0.file("class/vfio/21/dev", "240:3\n");
    one.opens("qemu (pid 7)", (240, 3), true);
    let before = taken_down(&one);
    let told = ["qemu (pid 7) has /dev/vfio/21 open"];
    assert_eq!(held(&one, &before), told);
    // The kernel takes the link away first (drivers/pci/iov.c, `pci_iov_remove_virtfn`).
    one.0.with(|kernel| {
        let link = format!("bus/pci/devices/{ADDRESS}/virtfn1");
        kernel.links.remove(&link);
    });
    assert_eq!(held(&one, &before), told);
    holds(&one, "other (pid 8)", Some(&format!("/sys/devices/{vf}")));
    let without = "other (pid 8) has its vfio device open";
    assert_eq!(held(&one, &before), [told[0], without]);
}

#[test]
fn looking_for_holders_takes_no_lock_of_the_function() {
    let one = sound();
    let before = taken_down(&one);
    one.opens("pipewire (pid 812)", (116, 7), false);
    one.0.with(|kernel| kernel.reads.clear());
    assert_eq!(held(&one, &before).len(), 1);
    let reads = one.0.with(|kernel| std::mem::take(&mut kernel.reads));
    assert!(!reads.is_empty());
    for path in reads {
        assert!(path.ends_with("/dev"), "{path}");
    }
}

/// Who has the function for itself, and the machine of Proxmox VE that it is.
fn user(one: &One) -> Option<(String, Option<u64>)> {
    let look = Look {
        sysfs: &one.0,
        host: &one.0,
        tables: &Tables::default(),
    };
    let user = users(look, &[ADDRESS.parse().unwrap()])
        .into_values()
        .next();
    user.map(|user| (user.clause, user.vm))
}

#[test]
fn who_uses_a_function_is_looked_for_where_the_kernel_counts_anybody() {
    let one = vfio();
    assert_eq!(user(&one), None);
    one.opens("qemu (pid 7)", (240, 0), true);
    let told = "is in use: qemu (pid 7) has /dev/vfio/7 open";
    assert_eq!(user(&one), Some((told.to_owned(), None)));
    // Open by its group only, and not yet by itself: nobody is looked for.
    one.set("enable", "0");
    assert_eq!(user(&one), None);
    one.0.with(|kernel| kernel.open_nodes = None);
    assert_eq!(user(&one), None);
    one.set("enable", "1");
    let told = HIDDEN.split_once(": ").unwrap().1;
    assert!(user(&one).unwrap().0.contains(told));
    // What another driver has is not counted by vfio.
    let native = One::new("020000", "e1000e");
    native.set("enable", "0");
    native.0.with(|kernel| kernel.open_nodes = None);
    assert!(user(&native).unwrap().0.contains(told));
}

#[test]
fn a_machine_of_proxmox_ve_uses_what_is_reserved_for_it() {
    let one = vfio();
    let reserve = |line: &str| {
        one.file(
            "/run/qemu-server/pci-id-reservations",
            &format!("{ADDRESS} {line}\n"),
        );
    };
    reserve("100 time:99999999999");
    let told = "is reserved by Proxmox VE for the start of VM 100";
    assert_eq!(user(&one), Some((told.to_owned(), Some(100))));
    // Somebody else has it open, whoever is to start with it.
    one.opens("qemu (pid 7)", (240, 0), true);
    let told = "is in use: qemu (pid 7) has /dev/vfio/7 open";
    assert_eq!(user(&one), Some((told.to_owned(), None)));
    reserve("100 pid:7");
    one.file("/proc/7/comm", "kvm\n");
    assert_eq!(user(&one), Some((told.to_owned(), Some(100))));
    reserve("100 pid:8");
    assert_eq!(user(&one), Some((told.to_owned(), None)));
}
