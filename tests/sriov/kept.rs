//! Scripts of events: VFs that somebody has stay.

use vfio_bindd::{
    engine::{
        claims::Unclaimed,
        event::{Event, Noted, Standing},
        report::Report,
        snapshot::{DaemonState, MappingState, PfState},
        state::State,
    },
    policy::resolve::Held,
};

use crate::{
    PF,
    drive::Engine,
    engine::{all, mapping},
    entry,
    host::Host,
    support::at,
    vf_at,
};

#[test]
fn a_claimed_vf_keeps_the_number_until_it_is_released() {
    let mut host = Host::new(0);
    host.start(&all(4));
    host.claim(1);
    assert!(host.granted[&1].is_ok());
    host.done();
    let fewer = entry("2", &mapping(4));
    host.start(&fewer);
    host.run(Event::Audit);
    host.pass(120);
    assert_eq!((host.times("make 2"), host.vfs()), (0, 4));
    let why = format!(
        "keeps its 4 VFs: VF 0, {}, is claimed by \"somebody\"",
        vf_at(0)
    );
    assert_eq!(host.pf(), (PfState::Refused, why.as_str()));
    assert_eq!(host.mapping().0, MappingState::Bound);
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::VfsNotMade { .. }));
    assert_eq!(told.count(), 1, "the same is told once");
    host.run(Event::Release {
        asker: 2,
        owner: "somebody".to_owned(),
        uid: 0,
    });
    assert_eq!((host.times("make 2"), host.vfs()), (1, 2));
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn nobody_gets_a_vf_that_is_about_to_go() {
    let mut host = Host::new(0);
    host.start(&all(4));
    host.hang.insert("make");
    host.refuses = Some("keeps its 4 VFs".to_owned());
    host.start(&entry("2", &mapping(4)));
    assert_eq!(host.times("make 2"), 1);
    assert_eq!(host.mapping().0, MappingState::Pending);
    host.claim(1);
    assert_eq!(host.granted[&1], Err(Unclaimed::NotBound));
    host.go_on();
    assert_eq!(host.mapping().0, MappingState::Bound);
    // The helper looks again, and may find that they can go.
    host.refuses = None;
    host.hang.insert("make");
    host.pass(1);
    assert_eq!(host.times("make 2"), 2);
    host.claim(1);
    let Err(Unclaimed::NoneFree(why)) = &host.granted[&1] else {
        unreachable!("{:?}", host.granted);
    };
    let wanted = format!("{} may go: its PF {PF} is making 2 VFs", vf_at(0));
    assert!(why.contains(&wanted), "{why}");
    host.go_on();
    assert_eq!(host.vfs(), 2);
}

#[test]
fn a_vf_that_the_host_has_back_stays() {
    let mut host = Host::new(2);
    host.engine = Engine::new(State::new(Held::new(), false).awaiting_journal());
    host.start(&all(4));
    assert_eq!(host.done(), [""; 0]);
    host.run(Event::Journal {
        entries: vec![Noted {
            address: at(&vf_at(1)),
            mappings: vec!["vms".to_owned()],
            standing: Standing::Released,
            tuned: false,
        }],
        trouble: Vec::new(),
    });
    host.pass(40);
    assert_eq!(host.times("make 4"), 0);
    let why = format!("keeps its 2 VFs: {} was given back to the host", vf_at(1));
    assert_eq!(host.pf(), (PfState::Refused, why.as_str()));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
}

#[test]
fn a_helper_that_finds_one_in_use_is_heard_and_the_rest_goes_on() {
    let mut host = Host::new(4);
    let why = format!("keeps its 4 VFs: VF 0, {}, is in use", vf_at(0));
    host.refuses = Some(why.clone());
    let rules = "[[sriov.nics.vf]]\ntrust = true\n";
    host.start(&entry("2", &(rules.to_owned() + &mapping(4))));
    // Those that there are get what they are to have, and can be used.
    assert_eq!(host.pf(), (PfState::Refused, why.as_str()));
    assert_eq!(host.mapping().0, MappingState::Bound);
    let set = host.set.values().filter(|one| one.trust == Some(true));
    assert_eq!(set.count(), 4);
    host.reports.clear();
    host.pass(300);
    assert_eq!(host.reports, [], "it is no news that it stays so");
    let tries = host.times("make 2");
    assert!((6..=12).contains(&tries), "{tries} tries in five minutes");
    assert_eq!(host.mapping().0, MappingState::Bound);
    host.refuses = None;
    host.pass(60);
    assert_eq!(host.vfs(), 2);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn a_release_has_it_looked_at_again_without_a_word_to_the_others() {
    let mut host = Host::new(4);
    host.refuses = Some("keeps its 4 VFs: VF 0 is in use".to_owned());
    host.start(&entry("2", &mapping(4)));
    host.claim(1);
    assert!(host.granted[&1].is_ok());
    host.hang.insert("make");
    host.done();
    host.reports.clear();
    host.run(Event::Release {
        asker: 2,
        owner: "somebody".to_owned(),
        uid: 0,
    });
    assert_eq!(host.times("make 2"), 1);
    assert_eq!(host.mapping().0, MappingState::Bound);
    host.go_on();
    assert_eq!(host.mapping().0, MappingState::Bound);
    let told = |one: &Report| matches!(one, Report::VfsNotMade { .. } | Report::Mapping { .. });
    assert!(!host.reports.iter().any(told), "{:?}", host.reports);
}

#[test]
fn what_is_under_way_at_a_vf_is_waited_for() {
    let mut host = Host::new(2);
    host.hang.insert("bind");
    host.start(&entry("4", &mapping(2)));
    assert_eq!(host.times("make 4"), 0);
    assert_eq!(host.pf(), (PfState::Pending, "gets 4 VFs in place of 2"));
    host.go_on();
    assert_eq!((host.times("make 4"), host.vfs()), (1, 4));
}
