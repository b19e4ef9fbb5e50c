//! Scripts of events: nobody is told that a VF can be had before it is set.

use vfio_bindd::{
    engine::{
        claims::Unclaimed,
        event::Event,
        report::Report,
        snapshot::{DaemonState, FunctionState, MappingState, PfState},
    },
    policy::sriov::{Setting, VfSettings},
};

use crate::{PF, config, entry, host::Host, support::at, vf_at};

const TRUSTED: &str = "[[sriov.nics.vf]]\nindex = 0\ntrust = true\n";

/// Two VFs, of which the first is set, and who wants these of them.
fn two(wanted: &str) -> String {
    let mapping = format!("[mapping.vms]\nmatch = {{ vf_of = \"3b:00.0\", vf = \"{wanted}\" }}\n");
    entry("2", &(TRUSTED.to_owned() + &mapping))
}

fn trusted(on: bool) -> VfSettings {
    let mut settings = VfSettings::default();
    settings.set(Setting::Trust(on));
    settings
}

#[test]
fn a_mapping_is_bound_once_its_vfs_are_set() {
    let mut host = Host::new(0);
    host.hang.insert("set");
    host.start(&two("0-1"));
    host.pass(2);
    let why = format!("{} is bound, and gets trust on", vf_at(0));
    assert_eq!(host.mapping(), (MappingState::Pending, why.as_str()));
    assert_eq!(
        host.pf(),
        (PfState::Pending, "has its VFs, which are being set")
    );
    let functions = &host.snapshot().functions;
    assert_eq!(functions[&at(&vf_at(0))].state, FunctionState::Pending);
    assert_eq!(functions[&at(&vf_at(1))].state, FunctionState::Bound);
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    host.claim(1);
    assert!(host.granted[&1].is_err());
    host.go_on();
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.set[&0], trusted(true));
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    let told = Report::VfsSet {
        pf: at(PF),
        name: "nics".to_owned(),
        changed: [(0, trusted(true))].into(),
    };
    assert!(host.reports.contains(&told));
}

#[test]
fn what_cannot_be_set_is_the_reason_and_is_tried_with_longer_and_longer_breaks() {
    let mut host = Host::new(0);
    let wrong = "cannot have trust on: igb has no such setting";
    host.wrong.insert(0, wrong.to_owned());
    host.start(&two("0-1"));
    let why = format!("{} is bound, and {wrong}", vf_at(0));
    assert_eq!(host.mapping(), (MappingState::Failed, why.as_str()));
    let why = format!("has a VF 0 that {wrong}");
    assert_eq!(host.pf(), (PfState::Failed, why.as_str()));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.pass(300);
    let tries = host.times("set 1");
    assert!((6..=12).contains(&tries), "{tries} tries in five minutes");
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::VfsNotSet { .. }));
    assert_eq!(told.count(), 1, "the same is told once");
    host.wrong.clear();
    host.pass(60);
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn a_vf_of_which_nothing_is_said_does_not_wait_for_another() {
    let mut host = Host::new(0);
    host.wrong.insert(0, "is unknown".to_owned());
    host.start(&two("1"));
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.pf().0, PfState::Failed);
}

#[test]
fn a_pf_whose_vfs_cannot_be_set_at_all_says_why() {
    let mut host = Host::new(0);
    host.mute = Some("has no network interface".to_owned());
    host.start(&two("0"));
    let why = format!(
        "{} is bound, and its PF {PF} has no network interface",
        vf_at(0)
    );
    assert_eq!(host.mapping(), (MappingState::Failed, why.as_str()));
    assert_eq!(host.pf(), (PfState::Failed, "has no network interface"));
    host.mute = None;
    host.pass(1);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn audits_look_again_without_a_word_and_mend_what_somebody_changed() {
    let mut host = Host::new(0);
    host.start(&two("0-1"));
    host.done();
    host.reports.clear();
    let generation = host.snapshot().generation;
    host.run(Event::Audit);
    assert_eq!(host.done(), ["set 1"]);
    assert_eq!(host.snapshot().generation, generation);
    assert!(host.reports.is_empty(), "{:?}", host.reports);
    host.set.insert(0, trusted(false));
    host.run(Event::Audit);
    assert_eq!(host.set[&0], trusted(true));
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::VfsSet { .. }));
    assert_eq!(told.count(), 1);
    // Once an audit, and not more often.
    host.done();
    host.pass(600);
    assert_eq!(host.done(), [""; 0]);
}

#[test]
fn a_reload_of_the_driver_loses_the_settings_and_they_come_back() {
    let mut host = Host::new(0);
    host.start(&two("0-1"));
    host.make(0);
    host.driver(None);
    host.run(Event::Changed(at(PF)));
    host.done();
    host.driver(Some("igb"));
    host.hang.insert("set");
    host.run(Event::Changed(at(PF)));
    host.pass(2);
    assert_eq!(host.vfs(), 2);
    assert_eq!(host.mapping().0, MappingState::Pending);
    host.go_on();
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.set[&0], trusted(true));
}

#[test]
fn vfs_that_cannot_be_set_do_not_hold_up_others_that_are_to_be_made() {
    let mut host = Host::new(0);
    host.wrong.insert(0, "is unknown".to_owned());
    host.start(&two("0-1"));
    // The breaks are long by now.
    host.pass(100);
    host.done();
    host.make(0);
    host.run(Event::Changed(at(PF)));
    assert_eq!(host.times("make 2"), 1);
}

#[test]
fn what_was_set_of_vfs_that_went_meanwhile_is_not_counted() {
    let mut host = Host::new(0);
    host.hang.insert("set");
    host.start(&two("0-1"));
    assert_eq!(host.hanging.len(), 1);
    // The like of them come, and the order was for those before.
    host.make(2);
    host.run(Event::Changed(at("0000:00:00.0")));
    let done = vfio_bindd::engine::sriov::Settled::Done {
        changed: [(0, trusted(true))].into(),
        wrong: [].into(),
        waiting: [].into(),
    };
    host.hanging.clear();
    host.done();
    host.run(Event::Settled(at(PF), done));
    assert_eq!(host.times("set 1"), 1);
    assert_eq!(host.mapping().0, MappingState::Pending);
    host.go_on();
    assert_eq!(host.set[&0], trusted(true));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn other_settings_are_set_anew() {
    let mut host = Host::new(0);
    host.start(&two("0-1"));
    let other = two("0-1").replace("trust = true", "trust = false");
    host.hang.insert("set");
    host.run(Event::Config(Ok(config(&other))));
    let why = format!("{} is bound, and gets trust off", vf_at(0));
    assert_eq!(host.mapping(), (MappingState::Pending, why.as_str()));
    host.go_on();
    assert_eq!(host.set[&0], trusted(false));
    assert_eq!(host.mapping().0, MappingState::Bound);
    // What nothing is said of any more stays as it is.
    host.done();
    host.run(Event::Config(Ok(config(&two("0-1").replace(TRUSTED, "")))));
    assert_eq!(host.done(), ["withhold"]);
    assert_eq!(host.set[&0], trusted(false));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_pf_that_is_refused_is_not_set_and_nobody_gets_its_vfs() {
    let mut host = Host::new(2);
    let text = two("0-1") + "[sriov.other]\npf = { id = \"8086:10d3\" }\nvfs = 2\n";
    host.start(&text);
    host.run(Event::Audit);
    assert_eq!((host.times("set 1"), host.times("make 2")), (0, 0));
    assert_eq!(host.pf().0, PfState::Refused);
    let why = format!(
        "{} is bound, and its PF {PF} is meant by [sriov.nics] and by [sriov.other]",
        vf_at(0)
    );
    assert_eq!(host.mapping(), (MappingState::Failed, why.as_str()));
}

#[test]
fn vfs_that_were_there_before_the_daemon_are_looked_at_too() {
    let mut host = Host::new(2);
    for index in 0..2 {
        let vf = host.inventory.get_mut(at(&vf_at(index))).unwrap();
        vf.driver = Some("vfio-pci".to_owned());
    }
    host.hang.insert("set");
    host.start(&two("0-1"));
    assert_eq!((host.times("set 1"), host.times("make 2")), (1, 0));
    assert_eq!(host.mapping().0, MappingState::Pending);
    host.go_on();
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn it_is_known_what_was_set_as_long_as_these_vfs_are_there() {
    let mut host = Host::new(0);
    host.start(&two("0-1"));
    assert_eq!(host.again.first(), Some(&[].into()));
    host.again.clear();
    host.run(Event::Audit);
    assert_eq!(host.again, [[0].into()]);
    host.again.clear();
    host.make(0);
    host.run(Event::Tick);
    assert_eq!((host.vfs(), host.again.first()), (2, Some(&[].into())));
}

#[test]
fn one_that_waits_until_it_is_free_keeps_a_mapping_that_needs_all_and_no_other() {
    let wait = "gets vlan 5 when it is free: somebody has it";
    for partial in [false, true] {
        let mut host = Host::new(0);
        host.waiting.insert(0, wait.to_owned());
        let text = two("0-1");
        host.start(&if partial {
            text + "partial = true\n"
        } else {
            text
        });
        let why = format!("has a VF 0 that {wait}");
        assert_eq!(host.pf(), (PfState::Pending, why.as_str()));
        let view = &host.snapshot().mappings["vms"];
        let (first, second) = (at(&vf_at(0)), at(&vf_at(1)));
        if partial {
            let why = format!("1 left out: {first} {wait}");
            assert_eq!((view.state, &view.reason), (MappingState::Bound, &why));
            assert_eq!(
                (&view.addresses, &view.beside),
                (&vec![second], &vec![first])
            );
            // Whoever comes gets another one, and then none.
            host.claim(1);
            assert_eq!(host.granted[&1], Ok(vec![second]));
            host.claim(2);
            let again = &host.granted[&2];
            assert_eq!(again, &Ok(vec![second]), "the same owner has it");
        } else {
            let why = format!("{first} is bound, and {wait}");
            assert_eq!((view.state, &view.reason), (MappingState::Failed, &why));
            host.claim(1);
            assert!(host.granted[&1].is_err());
        }
        // It is free: a release has it looked at, at once.
        host.waiting.clear();
        host.run(Event::Release {
            asker: 3,
            owner: "somebody".to_owned(),
            uid: 0,
        });
        if !partial {
            host.pass(2);
        }
        assert_eq!(host.pf(), (PfState::Ready, ""), "partial {partial}");
        let view = &host.snapshot().mappings["vms"];
        assert_eq!((view.state, view.addresses.len()), (MappingState::Bound, 2));
    }
}

#[test]
fn a_number_that_cannot_be_leaves_no_vf_without_its_settings() {
    let mut host = Host::new(2);
    let mapping = "[mapping.vms]\nmatch = { vf_of = \"3b:00.0\" }\n";
    host.start(&entry("9", &(TRUSTED.to_owned() + mapping)));
    assert_eq!(host.pf().0, PfState::Refused);
    let (state, why) = host.mapping();
    assert_eq!(state, MappingState::Failed);
    assert!(why.contains("can have at most 8 VFs"), "{why}");
    assert_eq!(host.times("make 9"), 0);
}

#[test]
fn a_vf_that_lost_its_driver_may_be_another_and_is_set_anew() {
    let mut host = Host::new(0);
    host.start(&two("0-1"));
    assert_eq!(host.mapping().0, MappingState::Bound);
    host.again.clear();
    host.hang.insert("bind");
    let vf = host.inventory.get_mut(at(&vf_at(0))).unwrap();
    vf.driver = None;
    host.set.insert(0, VfSettings::default());
    // What became of it was lost.
    host.run(Event::Overrun);
    assert_eq!(host.again, [[].into()]);
    assert_eq!(host.set[&0], trusted(true));
}

#[test]
fn one_that_lost_its_driver_is_no_news_of_the_others() {
    let wait = "gets vlan 5 when it is free: somebody has it";
    let mut host = Host::new(0);
    host.waiting.insert(0, wait.to_owned());
    let mappings = "[mapping.vms]\nmatch = { vf_of = \"3b:00.0\", vf = \"0-1\" }\n\
                    partial = true\n\
                    [mapping.other]\nmatch = { vf_of = \"3b:00.0\", vf = 2 }\n";
    host.start(&entry(
        "3",
        &format!("[[sriov.nics.vf]]\ntrust = true\n{mappings}"),
    ));
    assert_eq!(host.mapping().0, MappingState::Bound);
    host.hang.extend(["bind", "set"]);
    host.inventory.get_mut(at(&vf_at(2))).unwrap().driver = None;
    host.run(Event::Changed(at(&vf_at(2))));
    assert_eq!(host.mapping().0, MappingState::Bound);
    let view = &host.snapshot().mappings["vms"];
    assert_eq!(view.addresses, [at(&vf_at(1))]);
    assert_eq!(
        host.snapshot().mappings["other"].state,
        MappingState::Pending
    );
    host.go_on();
    assert_eq!(host.snapshot().mappings["other"].state, MappingState::Bound);
}

#[test]
fn an_owner_does_not_get_its_vf_again_before_it_is_set() {
    let mut host = Host::new(0);
    host.start(&(two("0-1") + "partial = true\n"));
    host.claim(1);
    assert_eq!(host.granted[&1], Ok(vec![at(&vf_at(0))]));
    let wait = "gets vlan 5 when it is free: somebody has it";
    host.waiting.insert(0, wait.to_owned());
    host.set.insert(0, VfSettings::default());
    host.run(Event::Audit);
    assert_eq!(host.mapping().0, MappingState::Bound);
    host.claim(2);
    let Err(Unclaimed::NoneFree(why)) = &host.granted[&2] else {
        unreachable!("{:?}", host.granted);
    };
    assert_eq!(why, &format!("{} {wait}", vf_at(0)));
}
