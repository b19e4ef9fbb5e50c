//! Scripts of events against the engine, with a clock that is moved by hand.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

mod claims;
#[path = "../support/drive.rs"]
mod drive;
mod host;
mod knobs;
mod nodes;
mod stuck;
#[path = "../support/mod.rs"]
mod support;
mod udev;

use drive::Drive as _;
use host::{A, B, Host};
use std::time::Duration;
use support::{FunctionExt as _, at, by_id, inventory, mapping, nic, policy, up};
use vfio_bindd::{
    engine::{
        event::Event,
        report::Report,
        snapshot::{DaemonState, MappingState},
        state::State,
    },
    pci::function::Inspection,
    policy::{
        guard::Guard,
        model::{DriverChoice, Policy},
        resolve::Held,
    },
};

fn nics() -> Policy {
    policy([("m", mapping(vec![by_id("8086:10d3")]))])
}

#[test]
fn a_boot_binds_what_the_config_describes_and_is_ready() {
    let mut host = Host::new([
        nic("0000:01:00.0").driver("e1000e"),
        nic("0000:02:00.0"),
        nic("0000:03:00.0").with(|one| one.id = "10de:2684".parse().unwrap()),
    ]);
    host.start(&nics());
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    assert_eq!(
        host.mapping(),
        (MappingState::Bound, "0000:01:00.0 0000:02:00.0".to_owned())
    );
    assert_eq!(host.inventory.get(at("0000:03:00.0")).unwrap().driver, None);
    let bound = host
        .reports
        .iter()
        .filter(|one| matches!(one, Report::Bound { .. }));
    assert_eq!(bound.count(), 2);
}

#[test]
fn an_empty_config_is_ready_and_touches_nothing() {
    let mut host = Host::new([nic("0000:01:00.0").driver("e1000e")]);
    host.start(&Policy::default());
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    assert!(host.applied.is_empty());
}

#[test]
fn a_bad_config_at_boot_binds_nothing_and_says_why() {
    let mut host = Host::new([nic("0000:01:00.0")]);
    host.event(Event::Config(Err("config.toml:1:1: no".to_owned())));
    assert_eq!(host.snapshot().state, DaemonState::Failed);
    assert_eq!(host.snapshot().reason, "config.toml:1:1: no");
    assert!(host.applied.is_empty());
    host.start(&nics());
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    assert_eq!(host.snapshot().reason, "");
}

#[test]
fn a_mended_config_is_not_called_wrong_while_the_first_scan_is_out() {
    let mut host = Host::new([nic("0000:01:00.0")]);
    host.event(Event::Config(Err("config.toml:1:1: no".to_owned())));
    let effects = host
        .engine
        .state
        .handle(Event::Config(Ok(nics())), host.engine.now);
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    assert_eq!(host.snapshot().reason, "");
    let answers: Vec<_> = effects
        .into_iter()
        .filter_map(|effect| host.answer(effect))
        .collect();
    for answer in answers {
        host.event(answer);
    }
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_bad_reload_keeps_the_old_policy_and_says_so() {
    let mut host = Host::new([nic("0000:01:00.0")]);
    host.start(&nics());
    host.event(Event::Config(Err("config.toml:1:1: no".to_owned())));
    assert_eq!(host.snapshot().state, DaemonState::Ready);
    assert!(host.snapshot().reason.contains("config.toml:1:1: no"));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_function_that_comes_is_bound_and_one_that_goes_is_forgotten() {
    let mut host = Host::new([]);
    host.start(&nics());
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    assert_eq!(host.mapping().0, MappingState::Absent);
    let before = host.snapshot().generation;
    host.inventory = inventory([nic("0000:05:00.0").with(|one| one.inspection = None)]);
    host.inspections
        .insert(at("0000:05:00.0"), Inspection::default());
    host.event(Event::Changed(at("0000:05:00.0")));
    assert_eq!(
        host.mapping(),
        (MappingState::Bound, "0000:05:00.0".to_owned())
    );
    assert!(host.snapshot().generation > before);
    host.inventory.remove(at("0000:05:00.0"));
    host.event(Event::Removed(at("0000:05:00.0")));
    assert_eq!(host.mapping(), (MappingState::Absent, String::new()));
    assert!(host.snapshot().functions.is_empty());
}

#[test]
fn failures_are_tried_again_with_longer_and_longer_breaks() {
    let mut host = Host::new([nic("0000:01:00.0")]);
    host.fail.insert(at("0000:01:00.0"));
    host.start(&nics());
    assert_eq!(host.mapping().0, MappingState::Failed);
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.wait(Duration::from_secs(300));
    let tries = host.applied.len();
    assert!((6..=12).contains(&tries), "{tries} tries in five minutes");
    host.fail.clear();
    host.event(Event::Rescan);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn the_interface_of_a_native_driver_that_is_back_is_no_reason_to_try_again() {
    let address = at("0000:01:00.0");
    let mut host = Host::new([nic("0000:01:00.0").driver("e1000e")]);
    host.fail.insert(address);
    host.start(&nics());
    for _ in 0..3 {
        host.event(Event::Interface(address));
    }
    assert_eq!(host.applied, [address]);
    host.fail.clear();
    host.event(Event::Changed(address));
    assert_eq!(host.applied, [address, address]);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn what_was_in_use_is_bound_once_an_audit_finds_it_idle() {
    let busy = nic("0000:01:00.0").driver("e1000e").in_use(up("enp1s0"));
    let mut host = Host::new([busy]);
    host.start(&nics());
    assert_eq!(host.mapping().0, MappingState::Refused);
    assert!(host.applied.is_empty());
    host.inspections
        .insert(at("0000:01:00.0"), Inspection::default());
    host.event(Event::Audit);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_lifted_guard_is_told_at_each_use_and_not_at_each_plan() {
    let busy = nic("0000:01:00.0").driver("e1000e").in_use(up("enp1s0"));
    let mut policy = nics();
    let mapping = policy.mappings.get_mut("m").unwrap();
    mapping.allow.insert(Guard::Network);
    let mut host = Host::new([busy]);
    let told = |host: &Host| {
        let lifted =
            |report: &&Report| matches!(report, Report::Lifted { guard, .. } if guard == "network");
        host.reports.iter().filter(lifted).count()
    };
    host.start(&policy);
    host.event(Event::Audit);
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(told(&host), 1);
    let address = at("0000:01:00.0");
    let again = host.inventory.get(address).unwrap().clone();
    host.inventory.remove(address);
    host.event(Event::Removed(address));
    host.inventory.insert(again.driver("e1000e"));
    host.event(Event::Changed(address));
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert_eq!(told(&host), 2);
}

#[test]
fn what_came_among_lost_uevents_is_found() {
    let mut host = Host::new([nic("0000:05:00.0")]);
    let late = std::mem::take(&mut host.inventory);
    host.start(&nics());
    assert_eq!(host.mapping().0, MappingState::Absent);
    host.inventory = late;
    host.event(Event::Tick);
    assert_eq!(host.mapping().0, MappingState::Absent);
    host.event(Event::Overrun);
    assert_eq!(host.mapping().0, MappingState::Bound);
    assert!(host.reports.contains(&Report::Overrun));
}

#[test]
fn a_scan_that_fails_forgets_nothing() {
    let mut host = Host::new([nic("0000:01:00.0")]);
    host.start(&nics());
    let before = host.snapshot().clone();
    host.scan = Err("permission denied".to_owned());
    host.reports.clear();
    host.event(Event::Audit);
    assert_eq!(*host.snapshot(), before);
    assert!(
        host.reports
            .iter()
            .any(|report| matches!(report, Report::ScanFailed { .. })),
        "{:?}",
        host.reports
    );
    // A host without PCI is one where nothing is to be done.
    let mut none = Host::new([]);
    none.scan = Err("not found".to_owned());
    none.start(&nics());
    assert_eq!(none.mapping().0, MappingState::Absent);
}

#[test]
fn an_audit_that_finds_nothing_new_publishes_nothing() {
    let mut host = Host::new([
        nic("0000:01:00.0"),
        nic("0000:02:00.0").driver("e1000e").in_use(up("enp2s0")),
    ]);
    host.start(&nics());
    let before = host.snapshot().generation;
    for _ in 0..3 {
        host.event(Event::Audit);
    }
    assert_eq!(host.snapshot().generation, before);
}

#[test]
fn another_device_at_the_same_address_is_inspected_anew() {
    let mut host = Host::new([nic("0000:01:00.0").driver("e1000e").in_use(up("enp1s0"))]);
    host.start(&nics());
    assert_eq!(host.mapping().0, MappingState::Refused);
    let other = nic("0000:01:00.0").with(|one| {
        one.inspection = None;
        one.revision = 9;
    });
    host.inventory.insert(other);
    host.inspections
        .insert(at("0000:01:00.0"), Inspection::default());
    host.event(Event::Changed(at("0000:01:00.0")));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_dry_run_applies_nothing_and_still_gets_ready() {
    let mut host = Host::new([nic("0000:01:00.0")]);
    host.engine.state = State::new(Held::new(), true);
    host.start(&nics());
    assert!(host.applied.is_empty());
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    assert_eq!(host.mapping().0, MappingState::Pending);
}

#[test]
fn the_variant_driver_is_asked_for_as_soon_as_a_mapping_leaves_the_choice() {
    let mut host = Host::new([nic(A).driver("e1000e").in_use(up("eth0"))]);
    host.start(&nics());
    assert_eq!(host.variants, [(at(A), false)]);
    let mut auto = mapping(vec![by_id("8086:10d3")]);
    auto.driver = DriverChoice::Auto;
    host.start(&policy([("m", auto)]));
    assert_eq!(host.variants, [(at(A), false), (at(A), true)]);
}

#[test]
fn what_goes_from_a_bound_mapping_is_told_at_once_whatever_else_is_under_way() {
    const OTHER: &str = "0000:03:00.0";
    let other = nic(OTHER).with(|one| one.id = "10de:2684".parse().unwrap());
    let mut host = Host::new([nic(A), nic(B), other]);
    host.hang_writes.insert(at(OTHER));
    host.start(&policy([
        ("m", mapping(vec![by_id("8086:10d3")])),
        ("other", mapping(vec![by_id("10de:2684")])),
    ]));
    assert_eq!(host.mapping(), (MappingState::Bound, format!("{A} {B}")));
    host.inventory.remove(at(B));
    host.event(Event::Removed(at(B)));
    assert_eq!(host.mapping(), (MappingState::Bound, A.to_owned()));
}
