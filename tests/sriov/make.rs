//! What is written to have VFs made, and what comes of it.

use rustix::io::Errno;
use vfio_bindd::kernel::{
    host::OpenNode,
    sriov::{Made, MakeVfs, Pf, make},
    sysfs::Sysfs as _,
};

use crate::{
    PF,
    fake_kernel::{Fake, FakePf, Killed, vf_of},
    support::at,
};

/// A card under its native driver, with so many VFs that nobody uses.
pub(crate) fn card(vfs: u16) -> Fake {
    let fake = Fake::new(&["vfio-pci", "igbvf"]);
    fake.add("0000:00:01.0", PF, &[]);
    fake.bind(PF, "igb");
    fake.is_pf(PF, "0");
    fake.with(|kernel| kernel.have_vfs(PF, vfs));
    fake
}

pub(crate) fn the_pf() -> Pf {
    Pf {
        address: at(PF),
        id: "8086:10d3".parse().unwrap(),
    }
}

fn order(count: u16) -> MakeVfs {
    MakeVfs {
        pf: the_pf(),
        count,
        autoprobe: false,
    }
}

fn made(fake: &Fake, count: u16) -> Made {
    fake.look(|look| make(look, &order(count)))
}

fn has(before: u16, now: u16) -> Made {
    Made::Has { before, now }
}

/// The numbers that were written.
fn written(fake: &Fake) -> Vec<String> {
    let place = format!("bus/pci/devices/{PF}/sriov_numvfs=");
    let writes = fake.writes().into_iter();
    writes
        .map(|write| write.strip_prefix(&place).unwrap().to_owned())
        .collect()
}

/// How many VFs there are, by the links and by the functions.
fn links(fake: &Fake) -> usize {
    let names = fake.list(&format!("bus/pci/devices/{PF}")).unwrap();
    let links = names.iter().filter(|name| name.starts_with("virtfn"));
    let count = links.count();
    for index in 0..count {
        let vf = vf_of(PF, u16::try_from(index).unwrap());
        assert!(fake.read(&format!("bus/pci/devices/{vf}/vendor")).is_ok());
    }
    count
}

/// VFs stay, for this reason, and nothing is written.
fn keeps(fake: &Fake, why: &str) {
    let wanted = Made::Refused {
        text: format!("keeps its 4 VFs: VF 1, {}, {why}", vf_of(PF, 1)),
    };
    for count in [0, 2, 8] {
        assert_eq!(made(fake, count), wanted);
    }
    assert_eq!(written(fake), [""; 0]);
    // It has just as many as it is to have.
    assert_eq!(made(fake, 4), has(4, 4));
}

#[test]
fn the_number_goes_by_way_of_none() {
    for (before, count, writes) in [
        (0, 4, &["4"][..]),
        (4, 4, &[]),
        (4, 2, &["0", "2"]),
        (2, 8, &["0", "8"]),
        (4, 0, &["0"]),
        (0, 0, &[]),
    ] {
        let fake = card(before);
        assert_eq!(made(&fake, count), has(before, count));
        assert_eq!(written(&fake), writes, "{before} to {count}");
        assert_eq!(links(&fake), usize::from(count));
    }
}

#[test]
fn nobody_has_them_where_native_drivers_are_kept_away() {
    let fake = card(0);
    assert_eq!(made(&fake, 2), has(0, 2));
    assert_eq!(fake.driver(&vf_of(PF, 0)), None);
    // They may come.
    let fake = card(0);
    fake.file(
        &format!("bus/pci/devices/{PF}/sriov_drivers_autoprobe"),
        "1\n",
    );
    let autoprobe = MakeVfs {
        autoprobe: true,
        ..order(2)
    };
    assert_eq!(fake.look(|look| make(look, &autoprobe)), has(0, 2));
    assert_eq!(fake.driver(&vf_of(PF, 0)).as_deref(), Some("igbvf"));
}

#[test]
fn none_are_made_for_native_drivers_to_take() {
    let fake = card(4);
    fake.file(
        &format!("bus/pci/devices/{PF}/sriov_drivers_autoprobe"),
        "1\n",
    );
    let text = "makes no VFs while sriov_drivers_autoprobe is 1: native drivers would get them";
    let wanted = Made::Refused {
        text: text.to_owned(),
    };
    assert_eq!(made(&fake, 2), wanted);
    assert_eq!(written(&fake), [""; 0]);
    // That is no matter where none come.
    assert_eq!(made(&fake, 0), has(4, 0));
}

#[test]
fn what_the_driver_grants_is_read_back() {
    for (grants, now) in [(3, 3), (0, 0)] {
        let fake = card(0);
        fake.pf(PF, |pf| pf.grants = grants);
        assert_eq!(made(&fake, 4), has(0, now));
    }
    let fake = card(4);
    fake.pf(PF, |pf| pf.keeps = true);
    assert_eq!(made(&fake, 0), has(4, 4));
}

#[test]
fn what_the_kernel_says_is_told_with_its_meaning() {
    type Change = fn(&mut FakePf);
    let cases: [(Change, &str); 6] = [
        (
            |pf| pf.configures = false,
            "was asked for 4 VFs: no such file or directory: igb cannot make VFs",
        ),
        (
            |pf| pf.total = 3,
            "was asked for 4 VFs: numerical result out of range: it cannot have so many",
        ),
        (
            |pf| pf.error = Some(Errno::NOMEM),
            "was asked for 4 VFs: cannot allocate memory: the firmware left no room for their \
             registers or bus numbers (SR-IOV, ARI and above-4G decoding in its setup, or \
             pci=realloc)",
        ),
        (
            |pf| pf.error = Some(Errno::PERM),
            "was asked for 4 VFs: operation not permitted",
        ),
        (
            |pf| pf.raced = Some(1),
            "was asked for 4 VFs: device or resource busy: it has others by now",
        ),
        (
            |pf| pf.keeps = true,
            "was asked for 4 VFs: device or resource busy: it has others by now",
        ),
    ];
    for (index, (change, text)) in cases.into_iter().enumerate() {
        let fake = card(if index < 4 { 0 } else { 2 });
        fake.pf(PF, change);
        let text = text.to_owned();
        assert_eq!(made(&fake, 4), Made::Failed { text });
    }
    let fake = card(0);
    fake.with(|kernel| kernel.unbind_for_good(PF));
    let text = "was asked for 4 VFs: no such file or directory: it has no driver, which has to \
                make them";
    let text = text.to_owned();
    assert_eq!(made(&fake, 4), Made::Failed { text });
}

#[test]
fn those_that_went_for_others_come_back_where_these_cannot_be() {
    let fake = card(2);
    fake.pf(PF, |pf| pf.total = 3);
    let wanted = Made::Back {
        now: 2,
        text: "was asked for 4 VFs: numerical result out of range: it cannot have so many"
            .to_owned(),
    };
    assert_eq!(made(&fake, 4), wanted);
    assert_eq!(written(&fake), ["0", "4", "2"]);
    assert_eq!(links(&fake), 2);
    // Nor can they.
    let fake = card(2);
    fake.pf(PF, |pf| pf.error = Some(Errno::PERM));
    let text = "was asked for 4 VFs: operation not permitted".to_owned();
    assert_eq!(made(&fake, 4), Made::Failed { text });
    assert_eq!(written(&fake), ["0", "4", "2"]);
    assert_eq!(links(&fake), 0);
}

/// A virtual machine has the VF open.
pub(crate) fn open(fake: &Fake, index: u16) {
    fake.bind(&vf_of(PF, index), "vfio-pci");
    let minor = 20 + u32::from(index);
    fake.file(
        &format!("class/vfio/{minor}/dev"),
        &format!("240:{minor}\n"),
    );
    let user = OpenNode {
        block: false,
        device: (240, minor),
        writing: true,
        process: "qemu-system-x86 (pid 812)".to_owned(),
    };
    fake.with(|kernel| kernel.open_nodes = Some(vec![user]));
}

#[test]
fn vfs_that_a_virtual_machine_has_stay() {
    let fake = card(4);
    open(&fake, 1);
    keeps(
        &fake,
        "is in use: qemu-system-x86 (pid 812) has /dev/vfio/21 open",
    );
    // What cannot be seen counts as open.
    fake.with(|kernel| kernel.open_nodes = None);
    let Made::Refused { text } = made(&fake, 0) else {
        unreachable!("nobody knows who uses it");
    };
    assert!(text.contains("cannot be seen"), "{text}");
    // It is shut down.
    fake.with(|kernel| kernel.open_nodes = Some(Vec::new()));
    assert_eq!(made(&fake, 2), has(4, 2));
}

#[test]
fn vfs_that_the_host_uses_stay() {
    let fake = card(4);
    let vf = vf_of(PF, 1);
    fake.bind(&vf, "igbvf");
    let place = format!("../../devices/pci0000:00/0000:00:01.0/{vf}/net/enp59s0f0v1");
    fake.link("class/net/enp59s0f0v1", &place);
    fake.file("class/net/enp59s0f0v1/ifindex", "9\n");
    fake.file("class/net/enp59s0f0v1/flags", "0x1003\n");
    keeps(&fake, "is in use: enp59s0f0v1 is up");
    fake.file("class/net/enp59s0f0v1/flags", "0x1002\n");
    assert_eq!(made(&fake, 2), has(4, 2));
}

#[test]
fn vfs_that_proxmox_has_reserved_stay() {
    for driver in [Some("vfio-pci"), None] {
        let fake = card(4);
        let vf = vf_of(PF, 1);
        if let Some(driver) = driver {
            fake.bind(&vf, driver);
        }
        fake.host_file("/proc/4711/comm", "kvm\n");
        let file = "/run/qemu-server/pci-id-reservations";
        fake.host_file(file, &format!("{vf} 100 pid:4711\n"));
        keeps(&fake, "is reserved by Proxmox VE for VM 100 (pid 4711)");
        fake.host_file(file, "");
        assert_eq!(made(&fake, 2), has(4, 2));
    }
}

#[test]
fn another_device_is_left_alone_and_one_that_went_is_gone() {
    let fake = card(0);
    let other = MakeVfs {
        pf: Pf {
            id: "15b3:1017".parse().unwrap(),
            ..the_pf()
        },
        ..order(4)
    };
    let text = "is another device by now: 8086:10d3, not 15b3:1017".to_owned();
    assert_eq!(fake.look(|look| make(look, &other)), Made::Refused { text });
    assert_eq!(written(&fake), [""; 0]);
    // It goes while it is asked.
    fake.pf(PF, |pf| pf.goes = true);
    assert_eq!(made(&fake, 4), Made::Gone);
    assert_eq!(made(&fake, 4), Made::Gone);
}

#[test]
fn without_a_number_that_can_be_read_nothing_is_written() {
    let fake = Fake::new(&[]);
    fake.add("0000:00:01.0", PF, &[]);
    let text = "has no sriov_numvfs that can be read".to_owned();
    assert_eq!(made(&fake, 4), Made::Failed { text: text.clone() });
    let fake = card(0);
    let place = format!("devices/pci0000:00/0000:00:01.0/{PF}/sriov_numvfs");
    fake.with(|kernel| kernel.broken.insert(place));
    assert_eq!(made(&fake, 4), Made::Failed { text });
    assert_eq!(written(&fake), [""; 0]);
}

#[test]
fn it_can_be_broken_off_anywhere_and_begun_again() {
    for killed in [Killed::BeforeIt, Killed::AfterIt] {
        for at in 0..2 {
            let fake = card(4);
            fake.with(|kernel| kernel.killed_at = Some((at, killed)));
            assert_eq!(fake.mortal(|| made(&fake, 2)), None);
            let Made::Has { now: 2, .. } = made(&fake, 2) else {
                unreachable!("{killed:?} {at}");
            };
            assert_eq!(links(&fake), 2, "{killed:?} {at}");
        }
    }
}
