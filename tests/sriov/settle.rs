//! What is written to set VFs, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use vfio_bindd::{
    kernel::{
        scan::scan_all,
        sriov::{Pf, SettleVfs, Settled, settle},
    },
    pci::function::Role,
    policy::sriov::{Setting, VfSettings, Vlan, VlanProtocol},
};

use crate::{
    PF,
    fake_kernel::{Fake, Killed, vf_of},
    make::{card, open, the_pf},
};

/// A card with so many VFs, and an interface by which they are set.
fn nic(vfs: u16) -> Fake {
    let fake = card(vfs);
    interface(&fake, "enp59s0f0", "7", "0");
    fake
}

fn interface(fake: &Fake, name: &str, number: &str, port: &str) {
    let place = format!("bus/pci/devices/{PF}/net/{name}");
    fake.file(&format!("{place}/ifindex"), &format!("{number}\n"));
    fake.file(&format!("{place}/dev_port"), &format!("{port}\n"));
}

fn settings(each: &[Setting]) -> VfSettings {
    let mut settings = VfSettings::default();
    each.iter().for_each(|one| settings.set(*one));
    settings
}

fn mac(last: u8) -> Setting {
    Setting::Mac(format!("52:54:00:00:00:{last:02x}").parse().unwrap())
}

fn vlan(id: u16) -> Setting {
    Setting::Vlan(Vlan::new(id, 0, VlanProtocol::Customer))
}

fn set<const N: usize>(fake: &Fake, all: [(u16, &[Setting]); N]) -> Settled {
    ordered(fake, all, [].into())
}

/// The same of VFs that were set so before.
fn set_again<const N: usize>(fake: &Fake, all: [(u16, &[Setting]); N]) -> Settled {
    let again = all.iter().map(|(index, _)| *index).collect();
    ordered(fake, all, again)
}

fn ordered<const N: usize>(
    fake: &Fake,
    all: [(u16, &[Setting]); N],
    again: BTreeSet<u16>,
) -> Settled {
    let settings = all.map(|(index, each)| (index, settings(each)));
    let order = SettleVfs {
        pf: the_pf(),
        settings: settings.into(),
        again,
    };
    fake.look(|look| settle(look, &order))
}

fn done<const N: usize, const M: usize>(
    changed: [(u16, &[Setting]); N],
    wrong: [(u16, &str); M],
) -> Settled {
    let changed = changed.map(|(index, each)| (index, settings(each)));
    let wrong = wrong.map(|(index, text)| (index, text.to_owned()));
    Settled::Done {
        changed: changed.into(),
        wrong: wrong.into(),
        waiting: BTreeMap::new(),
    }
}

/// The same, with this to be set in the first VF when it is free.
fn waits<const N: usize>(changed: [(u16, &[Setting]); N], what: &str) -> Settled {
    let clause = format!(
        "gets {what} when it is free: {} is in use: qemu-system-x86 (pid 812) has \
         /dev/vfio/20 open",
        vf_of(PF, 0)
    );
    let Settled::Done { changed, wrong, .. } = done(changed, []) else {
        unreachable!("it was gone through");
    };
    Settled::Done {
        changed,
        wrong,
        waiting: [(0, clause)].into(),
    }
}

fn failed(text: &str) -> Settled {
    Settled::Failed {
        text: text.to_owned(),
    }
}

#[test]
fn only_what_differs_is_written_and_it_is_so_then() {
    let fake = nic(3);
    let first = [mac(1), vlan(5), Setting::Trust(true)];
    let second = [Setting::SpoofCheck(true), Setting::Trust(false)];
    let found = set(&fake, [(0, &first), (1, &second)]);
    assert_eq!(found, done([(0, &first)], []));
    assert_eq!(
        fake.writes(),
        [
            "vf 0 of 7=mac 52:54:00:00:00:01",
            "vf 0 of 7=vlan 5",
            "vf 0 of 7=trust on",
        ]
    );
    let found = set(&fake, [(0, &first), (1, &second)]);
    assert_eq!(found, done([], []));
    assert_eq!(fake.writes().len(), 3);
    // Somebody else changes one thing.
    let other = vlan(6);
    fake.pf(PF, |pf| pf.settings.get_mut(&0).unwrap().set(other));
    assert_eq!(set(&fake, [(0, &first)]), done([(0, &[vlan(5)])], []));
}

#[test]
fn what_is_read_counts() {
    let fake = nic(1);
    fake.pf(PF, |pf| pf.ignored.extend(["vlan"]));
    let found = set(&fake, [(0, &[vlan(5), Setting::Trust(true)])]);
    let Settled::Done { wrong, .. } = found else {
        unreachable!("{found:?}");
    };
    assert!(wrong[&0].contains("vlan none"), "{wrong:?}");
    assert!(wrong[&0].ends_with("after vlan 5 was set"), "{wrong:?}");
}

#[test]
fn what_a_driver_does_not_tell_is_taken_as_set() {
    let fake = nic(1);
    fake.pf(PF, |pf| pf.untold.extend(["trust"]));
    let wanted = [mac(1), Setting::Trust(true)];
    assert_eq!(set(&fake, [(0, &wanted)]), done([(0, &wanted)], []));
    // And once.
    assert_eq!(set_again(&fake, [(0, &wanted)]), done([], []));
    fake.pf(PF, |pf| pf.settings.get_mut(&0).unwrap().set(mac(2)));
    let found = set_again(&fake, [(0, &wanted)]);
    assert_eq!(found, done([(0, &[mac(1)])], []));
}

#[test]
fn a_setting_that_the_driver_has_not_is_told_and_the_others_are_set() {
    let fake = nic(2);
    fake.pf(PF, |pf| pf.unsupported.extend(["spoof_check"]));
    let wanted = [mac(1), Setting::SpoofCheck(false), Setting::Trust(true)];
    let found = set(&fake, [(0, &wanted), (1, &[mac(2)])]);
    let text = "cannot have spoof_check off: igb has no such setting, or not with this value";
    let first = [mac(1), Setting::Trust(true)];
    let changed = [(0, &first[..]), (1, &[mac(2)])];
    assert_eq!(found, done(changed, [(0, text)]));
}

#[test]
fn a_vf_that_is_being_reset_is_waited_for() {
    for error in [Errno::AGAIN, Errno::BUSY] {
        let fake = nic(1);
        fake.pf(PF, |pf| pf.not_ready = Some((3, error)));
        assert_eq!(set(&fake, [(0, &[mac(1)])]), done([(0, &[mac(1)])], []));
        // And not for ever.
        fake.pf(PF, |pf| pf.not_ready = Some((100, error)));
        let Settled::Done { wrong, .. } = set(&fake, [(0, &[mac(2)])]) else {
            unreachable!("it was gone through");
        };
        assert!(wrong[&0].starts_with("cannot have mac"), "{wrong:?}");
    }
}

#[test]
fn whoever_may_not_set_them_says_so() {
    let fake = nic(1);
    fake.pf(PF, |pf| pf.permitted = false);
    let text = "cannot have mac 52:54:00:00:00:01: not permitted; does the helper have \
                CAP_NET_ADMIN?";
    assert_eq!(set(&fake, [(0, &[mac(1)])]), done([], [(0, text)]));
}

#[test]
fn what_a_virtual_machine_goes_by_is_not_changed_under_it() {
    let fake = nic(2);
    open(&fake, 0);
    let wanted = [mac(1), vlan(5), Setting::SpoofCheck(false)];
    let found = set(&fake, [(0, &wanted), (1, &[mac(2)])]);
    let changed = [(0, &[Setting::SpoofCheck(false)][..]), (1, &[mac(2)])];
    assert_eq!(found, waits(changed, "vlan 5"));
    // What is right already is no matter to it.
    assert_eq!(
        set(&fake, [(0, &[Setting::SpoofCheck(false)]), (1, &[mac(2)])]),
        done([], [])
    );
    fake.with(|kernel| kernel.open_nodes = Some(Vec::new()));
    let found = set(&fake, [(0, &wanted)]);
    assert_eq!(found, done([(0, &[mac(1), vlan(5)])], []));
}

#[test]
fn a_virtual_machine_that_is_only_starting_counts() {
    let fake = nic(1);
    open(&fake, 0);
    // It has the group, and not yet the device.
    fake.file(&format!("bus/pci/devices/{}/enable", vf_of(PF, 0)), "0\n");
    let found = set(&fake, [(0, &[mac(1)])]);
    assert_eq!(found, waits([], "mac 52:54:00:00:00:01"));
}

#[test]
fn the_address_that_a_trusted_guest_gave_itself_is_its_own_until_it_ends() {
    let fake = nic(1);
    let wanted = [mac(1), Setting::Trust(true)];
    set(&fake, [(0, &wanted)]);
    fake.pf(PF, |pf| pf.settings.get_mut(&0).unwrap().set(mac(9)));
    open(&fake, 0);
    let found = set_again(&fake, [(0, &wanted)]);
    assert_eq!(found, waits([], "mac 52:54:00:00:00:01"));
    fake.with(|kernel| kernel.open_nodes = Some(Vec::new()));
    let found = set_again(&fake, [(0, &wanted)]);
    assert_eq!(found, done([(0, &[mac(1)])], []));
}

#[test]
fn a_vf_that_is_going_is_not_taken_for_another() {
    let fake = nic(2);
    fake.with(|kernel| {
        kernel
            .links
            .remove(&format!("bus/pci/devices/{PF}/virtfn0"))
    });
    let found = set(&fake, [(0, &[mac(1)]), (1, &[mac(2)])]);
    let text = "is unknown to the interface of its PF";
    assert_eq!(found, done([(1, &[mac(2)])], [(0, text)]));
    let scanned = scan_all(&fake).unwrap();
    let vf = scanned.get(vf_of(PF, 1).parse().unwrap()).unwrap();
    assert!(
        matches!(vf.role, Role::Vf { index: Some(1), .. }),
        "{:?}",
        vf.role
    );
}

#[test]
fn a_vf_that_is_not_there_is_told() {
    let fake = nic(1);
    let found = set(&fake, [(0, &[mac(1)]), (1, &[mac(2)])]);
    let text = "is unknown to the interface of its PF";
    assert_eq!(found, done([(0, &[mac(1)])], [(1, text)]));
}

#[test]
fn without_an_interface_none_can_be_set() {
    let fake = card(1);
    assert_eq!(
        set(&fake, [(0, &[mac(1)])]),
        failed(
            "has no network interface in the host's network namespace, by which its VFs are set"
        )
    );
    // It went to another namespace just now.
    interface(&fake, "enp59s0f0", "8", "0");
    assert_eq!(
        set(&fake, [(0, &[mac(1)])]),
        failed("does not tell how its VFs are set: no such device")
    );
    assert_eq!(fake.writes(), [""; 0]);
}

#[test]
fn of_several_interfaces_it_is_that_of_the_first_port_and_of_no_vf() {
    let fake = card(1);
    interface(&fake, "aaa", "3", "1");
    interface(&fake, "enp59s0f0np0", "7", "0");
    assert_eq!(set(&fake, [(0, &[mac(1)])]), done([(0, &[mac(1)])], []));
    // Interfaces of the card's own switch, which stand for VFs.
    for (name, port) in [
        ("aab", "pf0vf0"),
        ("aac", "pf0sf88"),
        ("enp59s0f0np0", "p0"),
    ] {
        let place = format!("bus/pci/devices/{PF}/net/{name}");
        fake.file(&format!("{place}/phys_port_name"), &format!("{port}\n"));
        if port != "p0" {
            interface(&fake, name, "4", "0");
        }
    }
    assert_eq!(set(&fake, [(0, &[mac(2)])]), done([(0, &[mac(2)])], []));
}

#[test]
fn another_device_is_left_alone_and_one_that_went_is_gone() {
    let fake = nic(1);
    let order = SettleVfs {
        pf: Pf {
            id: "15b3:1017".parse().unwrap(),
            ..the_pf()
        },
        settings: BTreeMap::from([(0, settings(&[mac(1)]))]),
        again: BTreeSet::new(),
    };
    assert_eq!(
        fake.look(|look| settle(look, &order)),
        failed("is another device by now: 8086:10d3, not 15b3:1017")
    );
    fake.unplug(PF);
    assert_eq!(set(&fake, [(0, &[mac(1)])]), Settled::Gone);
    assert_eq!(fake.writes(), [""; 0]);
}

#[test]
fn it_can_be_broken_off_anywhere_and_begun_again() {
    let first = [mac(1), vlan(5)];
    let second = [mac(2)];
    let wanted: [(u16, &[Setting]); 2] = [(0, &first), (1, &second)];
    for killed in [Killed::BeforeIt, Killed::AfterIt] {
        for at in 0..3 {
            let fake = nic(2);
            fake.with(|kernel| kernel.killed_at = Some((at, killed)));
            assert_eq!(fake.mortal(|| set(&fake, wanted)), None);
            let again = set(&fake, wanted);
            let Settled::Done { wrong, .. } = again else {
                unreachable!("{again:?}");
            };
            assert!(wrong.is_empty(), "{killed:?} {at}: {wrong:?}");
            assert_eq!(set(&fake, wanted), done([], []), "{killed:?} {at}");
        }
    }
}
