//! Scripts of events: when VFs are made, and when not.

use std::time::Duration;

use vfio_bindd::{
    engine::{
        event::Event,
        report::Report,
        snapshot::{DaemonState, MappingState, PfState},
        state::State,
    },
    pci::function::Role,
    policy::resolve::Held,
};

use crate::{
    PF, config,
    drive::Engine,
    entry,
    host::Host,
    support::{FunctionExt as _, at, up},
    vf, vf_at,
};

/// Who wants the VFs, as many as there are to be.
pub(crate) fn mapping(expect: u16) -> String {
    format!("[mapping.vms]\nmatch = {{ vf_of = \"3b:00.0\" }}\nexpect = {expect}\n")
}

/// So many VFs, and a mapping that wants them all.
pub(crate) fn all(count: u16) -> String {
    entry(&count.to_string(), &mapping(count))
}

fn binds(count: u16) -> Vec<String> {
    (0..count)
        .map(|index| format!("bind {}", vf_at(index)))
        .collect()
}

#[test]
fn vfs_are_made_once_native_drivers_are_kept_from_them() {
    let mut host = Host::new(0);
    host.hang.insert("withhold");
    host.start(&all(2));
    assert_eq!(host.done(), ["withhold"]);
    assert_eq!(host.pf(), (PfState::Pending, "gets 2 VFs"));
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    host.go_on();
    let done = host.done();
    assert_eq!(done.first().map(String::as_str), Some("make 2"));
    let bound: Vec<_> = done
        .into_iter()
        .filter(|one| one.starts_with("bind"))
        .collect();
    assert_eq!(bound, binds(2));
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    assert_eq!(host.snapshot().pfs[&at(PF)].vfs.len(), 2);
    assert!(host.reports.contains(&Report::VfsMade {
        pf: at(PF),
        name: "nics".to_owned(),
        before: 0,
        now: 2,
        wanted: 2,
    }));
}

#[test]
fn a_pf_that_is_protected_and_used_by_the_host_makes_vfs_all_the_same() {
    let mut host = Host::new(0);
    let pf = host.inventory.get_mut(at(PF)).unwrap();
    *pf = pf.clone().in_use(up("enp59s0f0"));
    let protect = "[protect]\nmatch = { address = \"3b:00.0\" }\n";
    host.start(&format!("{}{protect}", all(2)));
    assert_eq!(host.vfs(), 2);
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert_eq!(host.mapping().0, MappingState::Bound);
    let pf = host.inventory.get(at(PF)).unwrap();
    assert_eq!(pf.driver.as_deref(), Some("igb"));
}

#[test]
fn where_native_drivers_may_have_them_nothing_is_waited_for() {
    let mut host = Host::new(0);
    host.start(&entry("2", "autoprobe = true"));
    assert_eq!(host.done(), ["make 2"]);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn while_native_drivers_cannot_be_kept_from_them_none_are_made_and_it_is_told() {
    let mut host = Host::new(0);
    host.probes = true;
    host.start(&entry("2", ""));
    assert_eq!(host.done(), ["withhold"]);
    let why = "makes no VFs while native drivers would get them: sriov_drivers_autoprobe cannot \
               be set";
    assert_eq!(host.pf(), (PfState::Refused, why));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.probes = false;
    host.run(Event::Audit);
    assert_eq!(host.vfs(), 2);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn what_is_right_is_left_alone() {
    let mut host = Host::new(2);
    host.start(&entry("2", ""));
    host.run(Event::Audit);
    host.run(Event::Changed(at(PF)));
    host.run(Event::Rescan);
    host.pass(120);
    assert_eq!(host.times("make 2"), 0);
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}

#[test]
fn a_number_that_somebody_else_sets_heals() {
    let mut host = Host::new(0);
    host.start(&all(4));
    host.done();
    host.make(2);
    host.run(Event::Audit);
    assert_eq!((host.times("make 4"), host.vfs()), (1, 4));
    assert_eq!(host.mapping().0, MappingState::Bound);
    // And without an event, at the next audit.
    host.done();
    host.make(0);
    host.uevents.clear();
    host.run(Event::Audit);
    assert_eq!((host.times("make 4"), host.vfs()), (1, 4));
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn vfs_that_are_seen_to_be_gone_before_it_is_told_are_made_again() {
    let mut host = Host::new(0);
    host.start(&all(2));
    host.done();
    host.make(0);
    // Their drivers went first, and the kernel tells nothing of the PF.
    let vfs = [at(&vf_at(0)), at(&vf_at(1))];
    host.uevents = vfs
        .into_iter()
        .flat_map(|vf| [Event::Changed(vf), Event::Removed(vf)])
        .collect();
    host.run(Event::Tick);
    assert_eq!((host.times("make 2"), host.vfs()), (1, 2));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_vf_that_is_seen_without_its_pf_is_as_good_as_gone() {
    let mut host = Host::new(0);
    host.start(&all(1));
    host.done();
    host.make(0);
    host.uevents.clear();
    // The link to its PF goes before it does, and this is the last that is heard of it.
    host.inventory
        .insert(vf(0).with(|one| one.role = Role::Plain));
    host.run(Event::Changed(at(&vf_at(0))));
    assert_eq!(host.times("make 1"), 1);
}

#[test]
fn a_reload_of_the_driver_takes_vfs_away_and_they_are_made_again() {
    let mut host = Host::new(0);
    host.start(&all(2));
    host.done();
    host.make(0);
    host.driver(None);
    host.run(Event::Removed(at(&vf_at(0))));
    assert_eq!(host.times("make 2"), 0);
    let why = "has no driver yet, which has to make the VFs";
    assert_eq!(host.pf(), (PfState::Pending, why));
    assert_eq!(host.mapping().0, MappingState::Absent);
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.driver(Some("igb"));
    host.run(Event::Changed(at(PF)));
    assert_eq!((host.times("make 2"), host.vfs()), (1, 2));
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}

#[test]
fn a_number_that_cannot_be_had_costs_those_that_there_are_once() {
    let mut host = Host::new(0);
    host.start(&all(2));
    host.done();
    host.fails = Some("was asked for 4 VFs: no".to_owned());
    host.start(&all(4));
    assert_eq!((host.times("make 4"), host.vfs()), (1, 2));
    let why = "has 2 of 4 VFs: it was asked for 4 VFs: no";
    assert_eq!(host.pf(), (PfState::Failed, why));
    let told = host.reports.iter().filter_map(|one| match one {
        Report::VfsNotMade { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, ["was asked for 4 VFs: no; it has its 2 VFs again"]);
    host.run(Event::Audit);
    host.run(Event::Changed(at(PF)));
    host.pass(300);
    assert_eq!((host.times("make 4"), host.vfs()), (1, 2));
    // They are served as before.
    host.start(&all(2));
    assert_eq!(host.pf(), (PfState::Ready, ""));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_driver_that_makes_fewer_is_told_once_and_left_in_peace() {
    let mut host = Host::new(0);
    host.grants = 3;
    host.start(&entry("4", ""));
    assert_eq!((host.times("make 4"), host.vfs()), (1, 3));
    let why = "has 3 of 4 VFs: its driver makes no more";
    assert_eq!(host.pf(), (PfState::Failed, why));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.run(Event::Audit);
    host.run(Event::Changed(at(PF)));
    host.run(Event::Changed(at(&vf_at(0))));
    host.pass(300);
    assert_eq!(host.times("make 4"), 1);
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::VfsMade { now: 3, .. }));
    assert_eq!(told.count(), 1);
    // Nor for the sake of others in the config; but for a rescan, or where they went.
    host.start(&entry("4", "description = \"others\""));
    assert_eq!(host.times("make 4"), 1);
    host.run(Event::Rescan);
    assert_eq!(host.times("make 4"), 2);
    host.make(0);
    host.run(Event::Changed(at(PF)));
    assert_eq!((host.times("make 4"), host.vfs()), (3, 3));
    host.grants = 8;
    host.start(&entry("5", ""));
    assert_eq!((host.times("make 5"), host.vfs()), (1, 5));
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn a_driver_that_makes_none_is_asked_with_longer_and_longer_breaks() {
    let mut host = Host::new(0);
    host.grants = 0;
    host.start(&entry("4", ""));
    let (state, why) = host.pf();
    assert_eq!(state, PfState::Failed);
    assert!(why.starts_with("made none of its VFs"), "{why}");
    host.pass(300);
    let tries = host.times("make 4");
    assert!((6..=12).contains(&tries), "{tries} tries in five minutes");
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::VfsNotMade { .. }));
    assert_eq!(told.count(), 1, "the same is told once");
    host.grants = 8;
    host.pass(60);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn what_cannot_be_made_is_told_with_the_reason_and_tried_again() {
    let mut host = Host::new(0);
    host.fails = Some("was asked for 4 VFs: cannot allocate memory".to_owned());
    host.start(&entry("4", ""));
    let why = "was asked for 4 VFs: cannot allocate memory";
    assert_eq!(host.pf(), (PfState::Failed, why));
    assert!(host.reports.contains(&Report::VfsNotMade {
        pf: at(PF),
        name: "nics".to_owned(),
        text: why.to_owned(),
        retry_in_secs: Some(1),
    }));
    host.fails = None;
    host.pass(1);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn a_driver_that_keeps_its_vfs_is_asked_again_later() {
    let mut host = Host::new(4);
    host.start(&entry("0", ""));
    assert_eq!((host.times("make 0"), host.vfs()), (1, 0));
    let mut host = Host::new(4);
    host.hang.insert("make");
    host.start(&entry("0", ""));
    host.hang.clear();
    let kept = |count| vfio_bindd::engine::sriov::Made::Has {
        before: count,
        now: count,
    };
    host.run(Event::Made(at(PF), kept(4)));
    let why = "keeps 4 VFs, and its driver does not say why";
    assert_eq!(host.pf(), (PfState::Failed, why));
    assert_eq!(host.times("make 0"), 1);
    host.pass(1);
    assert_eq!((host.times("make 0"), host.vfs()), (2, 0));
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn a_kernel_that_counts_otherwise_than_it_shows_is_not_asked_for_ever() {
    let mut host = Host::new(0);
    host.hang.insert("make");
    host.start(&entry("2", ""));
    for _ in 0..20 {
        host.hanging.clear();
        host.run(Event::Made(
            at(PF),
            vfio_bindd::engine::sriov::Made::Has { before: 2, now: 2 },
        ));
        host.pass(30);
    }
    let tries = host.times("make 2");
    assert!((5..=20).contains(&tries), "{tries} tries in ten minutes");
    assert_eq!(host.pf().0, PfState::Failed);
}

#[test]
fn a_pf_that_goes_is_forgotten_and_another_one_begins_anew() {
    let mut host = Host::new(0);
    host.fails = Some("was asked for 2 VFs: cannot allocate memory".to_owned());
    host.start(&entry("2", ""));
    host.pass(20);
    assert_eq!(host.pf().0, PfState::Failed);
    let gone = host.inventory.remove(at(PF)).unwrap();
    host.run(Event::Removed(at(PF)));
    assert!(host.snapshot().pfs.is_empty());
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    assert_eq!(host.snapshot().reason, "sriov nics is absent");
    host.done();
    host.fails = None;
    host.inventory.insert(gone);
    host.run(Event::Changed(at(PF)));
    assert_eq!(host.done(), ["withhold", "make 2", "withhold"]);
    assert_eq!(host.pf(), (PfState::Ready, ""));
}

#[test]
fn a_dry_run_makes_nothing_and_sets_nothing() {
    let mut host = Host::new(0);
    host.engine = Engine::new(State::new(Held::new(), true));
    host.start(&all(2));
    host.run(Event::Audit);
    assert_eq!(host.done(), [""; 0]);
    assert_eq!(host.pf(), (PfState::Pending, "gets 2 VFs"));
    let mut host = Host::new(1);
    host.engine = Engine::new(State::new(Held::new(), true));
    host.inventory.get_mut(at(&vf_at(0))).unwrap().driver = Some("vfio-pci".to_owned());
    let rules = "[[sriov.nics.vf]]\ntrust = true\n";
    host.start(&entry("1", &(rules.to_owned() + &mapping(1))));
    assert_eq!(host.done(), [""; 0]);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn without_an_entry_vfs_are_nobodys_matter() {
    let mut host = Host::new(0);
    host.start(&all(2));
    host.done();
    host.run(Event::Config(Ok(config(&mapping(2)))));
    host.make(1);
    host.run(Event::Audit);
    assert_eq!((host.times("make 2"), host.vfs()), (0, 1));
    assert!(host.snapshot().pfs.is_empty());
}

#[test]
fn an_entry_whose_interface_went_waits_for_nothing() {
    let mut host = Host::new(0);
    host.fails = Some("was asked for 2 VFs: input/output error".to_owned());
    host.start("[sriov.nics]\npf = { netdev = \"enp59s0f0\" }\nvfs = 2\n");
    assert_eq!(host.pf().0, PfState::Failed);
    let pf = host.inventory.get_mut(at(PF)).unwrap();
    pf.netdevs.clear();
    host.run(Event::Changed(at(PF)));
    assert_eq!(host.snapshot().reason, "sriov nics is absent");
    // The try that was to come is not waited for.
    let now = host.engine.now;
    let next = host.engine.state.next_tick(now);
    let soon = now + Duration::from_secs(2);
    assert!(next.is_none_or(|at| at > soon), "{next:?}");
}
