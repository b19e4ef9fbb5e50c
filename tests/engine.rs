//! Scripts of events against the engine, with a clock that is moved by hand.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drive::{Drive, Engine};
use support::{FunctionExt as _, at, bound, by_id, inventory, mapping, nic, policy, up};
use vfio_bindd::{
    engine::{
        event::{Effect, Event, Outcome, Unfinished},
        report::Report,
        snapshot::{DaemonState, MappingState, Snapshot},
        state::State,
    },
    pci::{
        address::Address,
        function::{Function, Inspection},
        inventory::Inventory,
    },
    policy::{guard::Guard, model::Policy, resolve::Held},
};

/// A host that answers effects as a healthy kernel would; what is in `hang`
/// is never answered until it is taken out.
struct Host {
    engine: Engine,
    inventory: Inventory,
    inspections: BTreeMap<Address, Inspection>,
    hang: BTreeSet<Address>,
    /// Whose writes only hang.
    hang_writes: BTreeSet<Address>,
    fail: BTreeSet<Address>,
    hanging: Vec<Effect>,
    reports: Vec<Report>,
    applied: Vec<Address>,
    scan: Result<(), String>,
    /// What the next daemon is told.
    kept: BTreeMap<Address, Unfinished>,
    /// Of which functions it was asked who holds them.
    asked: Vec<Address>,
}

impl Host {
    fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        let mut inspections = BTreeMap::new();
        let inventory = functions
            .into_iter()
            .map(|mut function| {
                let inspection = function.inspection.take().unwrap_or_default();
                inspections.insert(function.address, inspection);
                function
            })
            .collect();
        Self {
            engine: Engine::new(State::new(Held::new(), false)),
            inventory,
            inspections,
            hang: BTreeSet::new(),
            hang_writes: BTreeSet::new(),
            fail: BTreeSet::new(),
            hanging: Vec::new(),
            reports: Vec::new(),
            applied: Vec::new(),
            scan: Ok(()),
            kept: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    fn start(&mut self, policy: &Policy) {
        self.event(Event::Config(Ok(policy.clone())));
    }

    fn snapshot(&self) -> &Snapshot {
        self.engine.state.snapshot()
    }

    fn mapping(&self) -> (MappingState, String) {
        let mapping = self.snapshot().mappings.get("m").unwrap();
        let addresses: Vec<_> = mapping.addresses.iter().map(Address::to_string).collect();
        (mapping.state, addresses.join(" "))
    }
}

impl Drive for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        match &effect {
            Effect::Inspect { address, .. } if self.hang.contains(address) => {
                self.hanging.push(effect);
                None
            }
            Effect::Apply(action)
                if self.hang.contains(&action.address)
                    || self.hang_writes.contains(&action.address) =>
            {
                self.hanging.push(effect);
                None
            }
            Effect::Scan => Some(Event::Scanned(
                self.scan.clone().map(|()| self.inventory.clone()),
            )),
            Effect::Observe(address) => {
                let function = self.inventory.get(*address).cloned();
                Some(Event::Observed(*address, function.map(Box::new)))
            }
            Effect::Inspect { address, .. } => {
                let inspection = self.inspections.get(address).cloned();
                Some(Event::Inspected(*address, Ok(inspection)))
            }
            Effect::Apply(action) => {
                self.applied.push(action.address);
                let outcome = if self.fail.contains(&action.address) {
                    Outcome::Failed {
                        step: "bind".to_owned(),
                        text: "invalid argument".to_owned(),
                        touched: true,
                    }
                } else {
                    let function = self.inventory.get_mut(action.address).unwrap();
                    bound(action, function.driver.replace(action.driver.clone()))
                };
                Some(Event::Applied(action.address, outcome))
            }
            Effect::Unfinished(address, unfinished) => {
                self.kept.insert(*address, unfinished.clone());
                None
            }
            Effect::Finished(address) => {
                self.kept.remove(address);
                None
            }
            Effect::FindHolders(address) => {
                self.asked.push(*address);
                None
            }
            // Restores are in tests/restore.rs, what is kept in drift.rs and early/.
            Effect::Publish(_)
            | Effect::Remember(_)
            | Effect::Vouch(_)
            | Effect::Restore { .. }
            | Effect::Retake(_)
            | Effect::Answer { .. } => None,
            Effect::Report(report) => {
                self.reports.push(report.clone());
                None
            }
        }
    }
}

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
fn one_stuck_function_holds_up_neither_the_others_nor_the_boot() {
    let mut host = Host::new([
        nic("0000:01:00.0").driver("e1000e"),
        nic("0000:02:00.0").driver("e1000e"),
    ]);
    host.hang.insert(at("0000:01:00.0"));
    let mut policy = nics();
    let mut free = mapping(vec![support::by_address("02:00.0")]);
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

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";
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
