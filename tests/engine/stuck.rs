//! Functions whose helpers do not come back.

use std::{collections::BTreeMap, time::Duration};

use vfio_bindd::{
    engine::{
        event::{Event, Unfinished},
        report::Report,
        snapshot::{DaemonState, MappingState},
    },
    pci::function::Function,
};

use crate::{
    drive::Drive as _,
    host::{A, B, Host},
    nics,
    support::{FunctionExt as _, at, by_address, by_id, mapping, nic},
};

#[test]
fn one_stuck_function_holds_up_neither_the_others_nor_the_boot() {
    let mut host = Host::new([
        nic("0000:01:00.0").driver("e1000e"),
        nic("0000:02:00.0").driver("e1000e"),
    ]);
    host.hang.insert(at("0000:01:00.0"));
    let mut policy = nics();
    let mut free = mapping(vec![by_address("02:00.0")]);
    free.description = "free".to_owned();
    policy.mappings.insert("free".to_owned(), free);
    host.start(&policy);
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    host.wait(Duration::from_secs(31));
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    assert_eq!(host.mapping().0, MappingState::Stuck);
    assert!(
        host.reports
            .iter()
            .any(|one| matches!(one, Report::Stuck { .. }))
    );
    let free = host.snapshot().mappings.get("free").unwrap();
    assert_eq!(free.state, MappingState::Bound);
    // When the kernel lets go, it converges by itself.
    host.hang.clear();
    let hanging = std::mem::take(&mut host.hanging);
    assert_eq!(hanging.len(), 1, "{hanging:?}");
    for effect in hanging {
        let event = host.answer(effect).unwrap();
        host.event(event);
    }
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert!(
        host.reports
            .iter()
            .any(|one| matches!(one, Report::CameBack { .. }))
    );
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}

const DOING: &str = "unbinding e1000e and binding vfio-pci";

/// A host whose function at A does not come back from its unbind.
fn stuck() -> Host {
    let mut host = Host::new([nic(A).driver("e1000e")]);
    host.hang_writes.insert(at(A));
    host.start(&nics());
    host
}

fn reason(host: &Host) -> &str {
    &host.snapshot().mappings.get("m").unwrap().reason
}

fn found(host: &mut Host, holders: &[&str]) {
    let holders = holders.iter().map(|&one| one.to_owned()).collect();
    host.event(Event::Holders(at(A), holders));
}

#[test]
fn who_holds_a_stuck_function_is_named_and_asked_again_at_audits_only() {
    let mut host = stuck();
    host.wait(Duration::from_secs(14));
    assert_eq!(host.asked, [], "it is not late yet");
    host.wait(Duration::from_secs(2));
    assert_eq!(host.asked, [at(A)]);
    let late = format!("{A} does not come back from {DOING}");
    assert_eq!(reason(&host), late);
    // A helper that looks for them and hangs, too, is not followed by another.
    host.event(Event::Audit);
    host.wait(Duration::from_secs(300));
    assert_eq!(host.asked, [at(A)]);
    let pipewire = "pipewire (pid 812, pipewire.service) has controlC0 open";
    found(&mut host, &[pipewire]);
    assert_eq!(reason(&host), format!("{late}: {pipewire}"));
    assert_eq!(host.mapping().0, MappingState::Stuck);
    let before = host.snapshot().generation;
    host.event(Event::Audit);
    assert_eq!(host.asked, [at(A); 2]);
    found(&mut host, &[pipewire]);
    assert_eq!(host.snapshot().generation, before, "it is no news");
    host.event(Event::Audit);
    found(&mut host, &["a (pid 1) has x open", "b (pid 2) has x open"]);
    let both = format!("{late}: a (pid 1) has x open (and 1 more)");
    assert_eq!(reason(&host), both);
    // Who answers late, after the kernel, says nothing.
    host.event(Event::Audit);
    host.hang_writes.clear();
    let effect = host.hanging.remove(0);
    let event = host.answer(effect).unwrap();
    host.event(event);
    found(&mut host, &[pipewire]);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn what_writes_or_is_late_is_kept_for_the_next_start_until_it_is_over() {
    let mut host = stuck();
    let group = host.inventory.get(at(A)).unwrap().iommu_group;
    let unfinished = |late| Unfinished {
        doing: DOING.to_owned(),
        group,
        makes_vfs: false,
        late,
    };
    assert_eq!(host.kept, BTreeMap::from([(at(A), unfinished(false))]));
    host.wait(Duration::from_secs(16));
    assert_eq!(host.kept, BTreeMap::from([(at(A), unfinished(true))]));
    host.hang_writes.clear();
    let effect = host.hanging.remove(0);
    let event = host.answer(effect).unwrap();
    host.event(event);
    assert_eq!(host.kept, BTreeMap::new());
    // A helper that only reads is kept once it is late.
    let mut host = Host::new([nic(A).driver("e1000e")]);
    host.hang.insert(at(A));
    host.start(&nics());
    assert_eq!(host.kept, BTreeMap::new());
    host.wait(Duration::from_secs(11));
    assert!(host.kept.get(&at(A)).unwrap().late);
    assert_eq!(host.kept.get(&at(A)).unwrap().group, None);
}

/// A daemon that starts while a helper of the one before is at A, which shares
/// its IOMMU group with B; another mapping has a function of its own.
fn after(late: bool) -> Host {
    let together = |one: &mut Function| one.iommu_group = Some(7);
    let free = nic("0000:03:00.0").with(|one| one.id = "8086:1533".parse().unwrap());
    let mut host = Host::new([nic(A).with(together), nic(B).with(together), free]);
    let mut policy = nics();
    let other = mapping(vec![by_id("8086:1533")]);
    policy.mappings.insert("free".to_owned(), other);
    let unfinished = Unfinished {
        doing: DOING.to_owned(),
        group: Some(7),
        makes_vfs: false,
        late,
    };
    host.event(Event::Unfinished(vec![(at(A), unfinished)]));
    host.start(&policy);
    host
}

#[test]
fn what_an_earlier_daemon_left_stuck_is_left_alone_until_the_kernel_lets_go() {
    let mut host = after(true);
    assert_eq!(host.mapping().0, MappingState::Stuck);
    assert_eq!(
        reason(&host),
        format!("{A} does not come back from {DOING}")
    );
    assert_eq!(host.asked, [at(A)]);
    for event in [Event::Audit, Event::Changed(at(A)), Event::Rescan] {
        host.event(event);
        host.wait(Duration::from_secs(100));
    }
    // Neither it nor the other one of its group was touched.
    assert_eq!(host.applied, [at("0000:03:00.0")]);
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.event(Event::Finished(at(A)));
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(host.applied.len(), 3);
    assert_eq!(host.kept, BTreeMap::new());
    assert!(host.reports.contains(&Report::CameBack { address: at(A) }));
    // It is heard of once more, and by then that is nothing.
    host.event(Event::Finished(at(A)));
    assert_eq!(host.applied.len(), 3);
}

#[test]
fn a_helper_of_an_earlier_daemon_may_finish_in_time() {
    let mut host = after(false);
    assert_eq!(host.mapping().0, MappingState::Pending);
    assert_eq!(host.applied, [at("0000:03:00.0")]);
    // A restart does not wait for it.
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.event(Event::Finished(at(A)));
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert!(
        !host
            .reports
            .iter()
            .any(|one| matches!(one, Report::Stuck { .. }))
    );
    let mut host = after(false);
    host.wait(Duration::from_secs(16));
    assert_eq!(host.mapping().0, MappingState::Stuck);
}
