//! What became of functions that mappings had before a boot: by what they are
//! known again, when that is told, and what is kept.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/drive.rs"]
mod drive;
mod support;

use drive::{Drive, Engine, seen};
use support::{FunctionExt as _, at, bound, by_address, by_id, inventory, mapping, nic, policy};
use vfio_bindd::{
    engine::{
        event::{Effect, Event},
        report::Report,
        state::State,
    },
    pci::{
        function::{Function, Inspection},
        inventory::Inventory,
    },
    policy::{
        drift::{Entry, Map, Memory, compare, remember},
        model::Policy,
        plan::plan,
        resolve::Held,
    },
};

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

/// A function at `address` behind the bridge `place`.
fn card(address: &str, place: &str, serial: Option<&str>) -> Function {
    nic(address).with(|one| {
        one.path = format!("0000:00:{place}.0/00.0");
        let inspection = one.inspection.as_mut().unwrap();
        inspection.serial = serial.map(str::to_owned);
    })
}

fn entry(address: &str, place: &str, serial: Option<&str>) -> Entry {
    let was = card(address, place, serial);
    Entry {
        address: was.address,
        id: was.id,
        subsystem: was.subsystem,
        class: was.class,
        serial: serial.map(str::to_owned),
        pf: None,
        path: was.path,
        slot: None,
    }
}

fn gpu(entries: Vec<Entry>) -> Map {
    Map::from([("gpu".to_owned(), entries)])
}

fn anything() -> Policy {
    policy([("gpu", mapping(vec![by_id("*:*")]))])
}

fn drift(policy: &Policy, host: &Inventory, previous: Map, map: Map) -> Vec<String> {
    let memory = Memory {
        map,
        previous,
        told: false,
    };
    let plan = plan(host, policy, &Held::new());
    let drift = compare(policy, host, &plan, &memory);
    drift.into_iter().map(|one| one.text).collect()
}

fn other(mut function: Function) -> Function {
    function.id = "10de:2684".parse().unwrap();
    function
}

#[test]
fn a_function_is_known_again_by_the_strongest_that_is_known() {
    let moved = |how: &str| vec![format!("gpu moved from {A} to {B} ({how})")];
    let instead = |was_is: &str| vec![format!("gpu: {A} is now another device ({was_is})")];
    let s = Some("00-01");
    let t = Some("00-02");
    let none: Vec<String> = Vec::new();
    for (what, was, now, wanted) in [
        (
            "nothing changed",
            entry(A, "01", s),
            vec![card(A, "01", s)],
            none.clone(),
        ),
        (
            "no serial then",
            entry(A, "01", None),
            vec![card(A, "01", s)],
            none.clone(),
        ),
        (
            "no serial now",
            entry(A, "01", s),
            vec![card(A, "01", None)],
            none.clone(),
        ),
        (
            "another slot, same bus number",
            entry(A, "01", s),
            vec![card(A, "02", s)],
            none.clone(),
        ),
        (
            "the card went to another slot",
            entry(A, "01", s),
            vec![card(B, "02", s)],
            moved("same serial"),
        ),
        (
            "buses were numbered anew, serials are not known",
            entry(A, "01", None),
            vec![card(A, "02", None), card(B, "01", None)],
            [
                moved("same path"),
                instead("was path 0000:00:01.0/00.0, is 0000:00:02.0/00.0"),
            ]
            .concat(),
        ),
        (
            "the serial that was is not known now",
            entry(A, "01", s),
            vec![card(A, "02", None), card(B, "01", None)],
            [
                moved("same path"),
                instead("was path 0000:00:01.0/00.0, is 0000:00:02.0/00.0"),
            ]
            .concat(),
        ),
        (
            "a twin sits in the same slot, the card in another",
            entry(A, "01", s),
            vec![card(A, "01", t), card(B, "02", s)],
            [moved("same serial"), instead("was serial 00-01, is 00-02")].concat(),
        ),
        (
            "a twin sits in the same slot, the card is not there",
            entry(A, "01", s),
            vec![card(A, "01", t)],
            instead("was serial 00-01, is 00-02"),
        ),
        (
            "the only one of its kind",
            entry(A, "01", None),
            vec![card(B, "02", s)],
            moved("the only 8086:10d3"),
        ),
        (
            "one of two of its kind",
            entry(A, "01", None),
            vec![card(B, "02", None), card("0000:03:00.0", "03", None)],
            vec![format!("gpu: {A} is gone")],
        ),
        (
            "the only one of its kind is another",
            entry(A, "01", s),
            vec![card(B, "02", t)],
            vec![format!("gpu: {A} is gone")],
        ),
        (
            "two with one serial number",
            entry(A, "01", s),
            vec![card(B, "01", s), card("0000:03:00.0", "03", s)],
            moved("same path"),
        ),
        (
            "another device",
            entry(A, "01", s),
            vec![other(card(A, "01", s))],
            instead("was 8086:10d3, is 10de:2684"),
        ),
        (
            "another subsystem",
            entry(A, "01", s),
            vec![card(A, "01", None).with(|one| one.subsystem = None)],
            instead("was subsystem 8086:0000, is none"),
        ),
        (
            "a twin has its number now",
            entry(A, "01", None),
            vec![card(A, "02", None), card(B, "03", None)],
            instead("was path 0000:00:01.0/00.0, is 0000:00:02.0/00.0"),
        ),
        (
            "nothing is there",
            entry(A, "01", s),
            vec![],
            vec![format!("gpu: {A} is gone")],
        ),
    ] {
        let host: Inventory = now.into_iter().collect();
        let found = drift(&anything(), &host, gpu(vec![was]), Map::new());
        assert_eq!(found, wanted, "{what}");
    }
}

#[test]
fn functions_of_one_card_share_its_serial_number() {
    let s = Some("00-01");
    let was = gpu(vec![
        entry("0000:01:00.0", "01", s),
        entry("0000:01:00.1", "01", s),
    ]);
    let host = inventory([card("0000:02:00.0", "02", s), card("0000:02:00.1", "02", s)]);
    assert_eq!(
        drift(&anything(), &host, was, Map::new()),
        [
            "gpu moved from 0000:01:00.0 to 0000:02:00.0 (same serial)",
            "gpu moved from 0000:01:00.1 to 0000:02:00.1 (same serial)",
        ]
    );
}

#[test]
fn a_vf_that_nobody_made_yet_is_not_gone() {
    let vf = Entry {
        pf: Some(at("0000:01:00.7")),
        ..entry(A, "01", None)
    };
    let other = || other(card(A, "01", None));
    assert!(
        drift(
            &anything(),
            &inventory([]),
            gpu(vec![vf.clone()]),
            Map::new()
        )
        .is_empty()
    );
    let found = drift(
        &anything(),
        &inventory([other()]),
        gpu(vec![vf]),
        Map::new(),
    );
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn twins_that_change_places_are_two_that_moved() {
    let was = gpu(vec![entry(A, "01", None), entry(B, "02", None)]);
    let host = inventory([card(A, "02", None), card(B, "01", None)]);
    assert_eq!(
        drift(&anything(), &host, was, Map::new()),
        [
            format!("gpu moved from {A} to {B} (same path)"),
            format!("gpu moved from {B} to {A} (same path)"),
        ]
    );
}

#[test]
fn a_mapping_that_looks_elsewhere_is_told_so() {
    let by_place = policy([("gpu", mapping(vec![by_address("01:00.0")]))]);
    let was = || gpu(vec![entry(A, "01", Some("00-01"))]);
    let moved =
        format!("gpu moved from {A} to {B} (same serial); the mapping does not choose it there");
    let host = inventory([card(B, "02", Some("00-01"))]);
    assert_eq!(
        drift(&by_place, &host, was(), Map::new()),
        std::slice::from_ref(&moved)
    );
    // The worst there is: it takes what sits in the old place by now.
    let host = inventory([other(card(A, "01", None)), card(B, "02", Some("00-01"))]);
    assert_eq!(
        drift(&by_place, &host, was(), Map::new()),
        [
            moved,
            format!("gpu: {A} is now another device (was 8086:10d3, is 10de:2684)")
        ]
    );
    // And one that is no mapping any more is nobody's business.
    let renamed = policy([("gpus", mapping(vec![by_address("01:00.0")]))]);
    assert!(drift(&renamed, &host, was(), Map::new()).is_empty());
}

/// A function that is bound when the daemon starts is not inspected again.
#[test]
fn a_serial_number_read_earlier_in_this_boot_counts() {
    let s = Some("00-01");
    let host = inventory([card(B, "02", None), card("0000:03:00.0", "03", None)]);
    let this_boot = gpu(vec![entry(B, "02", s)]);
    let found = drift(&anything(), &host, gpu(vec![entry(A, "01", s)]), this_boot);
    assert_eq!(found, [format!("gpu moved from {A} to {B} (same serial)")]);
}

#[test]
fn what_is_bound_is_kept_and_what_is_not_bound_yet_is_not_forgotten() {
    let s = Some("00-01");
    let bound = |function: Function| function.driver("vfio-pci");
    let wanted = policy([
        ("gpu", mapping(vec![by_address("01:00.0")])),
        ("nic", mapping(vec![by_address("02:00.0")])),
    ]);
    let host = inventory([
        bound(card(A, "01", None).with(|one| one.slot_label = Some("5".to_owned()))),
        card(B, "02", None),
    ]);
    let memory = Memory {
        map: gpu(vec![entry(A, "01", s)]),
        previous: Map::from([
            ("nic".to_owned(), vec![entry(B, "09", s)]),
            ("old".to_owned(), vec![entry(B, "09", s)]),
        ]),
        told: true,
    };
    let kept = remember(&wanted, &host, &plan(&host, &wanted, &Held::new()), &memory);
    let gpu = Entry {
        slot: Some("5".to_owned()),
        ..entry(A, "01", s)
    };
    assert_eq!(
        kept,
        Map::from([
            ("gpu".to_owned(), vec![gpu]),
            ("nic".to_owned(), vec![entry(B, "09", s)]),
        ])
    );
}

/// A host whose helpers answer at once, but for inspections while `slow`.
struct Host {
    engine: Engine,
    inventory: Inventory,
    slow: bool,
    inspect: Vec<Event>,
    told: Vec<String>,
    kept: Vec<Memory>,
}

impl Host {
    fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        Self {
            engine: Engine::new(State::new(Held::new(), false)),
            inventory: functions.into_iter().collect(),
            slow: false,
            inspect: Vec::new(),
            told: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn published(&self) -> Vec<String> {
        let drift = self.engine.state.snapshot().drift.iter();
        drift.map(|one| one.text.clone()).collect()
    }
}

impl Drive for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Scan | Effect::Observe(_) => seen(&self.inventory, &effect),
            Effect::Inspect { address, .. } => {
                let inspection = self.inventory.get(address)?.inspection.clone();
                let answer = Event::Inspected(address, Ok(inspection));
                if self.slow {
                    self.inspect.push(answer);
                    return None;
                }
                Some(answer)
            }
            Effect::Apply(action) => {
                let function = self.inventory.get_mut(action.address).unwrap();
                let from = function.driver.replace(action.driver.clone());
                Some(Event::Applied(action.address, bound(&action, from)))
            }
            Effect::Report(Report::Drifted {
                mapping,
                address,
                text,
            }) => {
                assert_eq!((mapping.as_str(), address), ("gpu", at(A)));
                self.told.push(text);
                None
            }
            Effect::Remember(memory) => {
                self.kept.push(memory);
                None
            }
            Effect::Report(_)
            | Effect::Restore { .. }
            | Effect::Retake(_)
            | Effect::Unfinished(..)
            | Effect::Finished(_)
            | Effect::FindHolders(_)
            | Effect::Answer { .. }
            | Effect::KeepNodes(_)
            | Effect::Own(..)
            | Effect::Vouch(_)
            | Effect::Settled(_)
            | Effect::FindUsers(_)
            | Effect::KeepClaims(_)
            | Effect::Watch(_)
            | Effect::Granted { .. }
            | Effect::Freed { .. }
            | Effect::Withhold { .. }
            | Effect::MakeVfs { .. }
            | Effect::SettleVfs { .. }
            | Effect::Tune { .. }
            | Effect::Publish(_) => None,
        }
    }
}

fn by_model() -> Event {
    Event::Config(Ok(policy([("gpu", mapping(vec![by_id("8086:10d3")]))])))
}

fn former() -> Memory {
    Memory {
        map: Map::new(),
        previous: gpu(vec![entry(A, "01", Some("00-01"))]),
        told: false,
    }
}

const MOVED: &str = "gpu moved from 0000:01:00.0 to 0000:02:00.0 (same serial)";

#[test]
fn a_drift_is_told_when_the_first_pass_is_over_and_not_before() {
    let mut host = Host::new([card(B, "02", Some("00-01"))]);
    host.slow = true;
    host.event(Event::Recalled(former()));
    host.event(by_model());
    assert!(host.told.is_empty() && host.published().is_empty());
    assert!(host.kept.is_empty());
    host.slow = false;
    let answer = host.inspect.pop().unwrap();
    host.event(answer);
    assert_eq!(host.told, [MOVED]);
    assert_eq!(host.published(), [MOVED]);
    let kept = host.kept.last().unwrap();
    assert_eq!(kept.map, gpu(vec![entry(B, "02", Some("00-01"))]));
    assert_eq!(kept.previous, former().previous);
    assert!(kept.told);
    // What stays as it is, is neither told nor kept again.
    let count = host.kept.len();
    host.event(Event::Audit);
    assert_eq!((host.told.len(), host.kept.len()), (1, count));
    // A mapping that goes takes its drift along.
    host.event(Event::Config(Ok(Policy::default())));
    assert!(host.published().is_empty());
    let kept = host.kept.last().unwrap();
    assert_eq!(kept.map, Map::new());
}

/// What comes late is not gone, and what goes later has not gone at the boot.
#[test]
fn a_function_that_comes_back_is_no_drift_any_more() {
    let mut host = Host::new([nic("0000:09:00.0").with(|one| {
        one.id = "10de:2684".parse().unwrap();
    })]);
    host.event(Event::Recalled(former()));
    host.event(by_model());
    let gone = format!("gpu: {A} is gone");
    assert_eq!(host.published(), std::slice::from_ref(&gone));
    host.inventory.insert(card(A, "01", Some("00-01")));
    host.event(Event::Changed(at(A)));
    assert!(host.published().is_empty());
    host.inventory.remove(at(A));
    host.event(Event::Removed(at(A)));
    assert!(host.published().is_empty());
    assert_eq!(host.told, [gone]);
}

#[test]
fn a_host_that_cannot_be_scanned_has_lost_nothing() {
    let mut host = Host::new([]);
    host.event(Event::Recalled(former()));
    host.event(by_model());
    assert!(host.told.is_empty() && host.kept.is_empty());
    // It is told as soon as there is something to tell it by.
    host.inventory.insert(card(B, "02", Some("00-01")));
    host.event(Event::Audit);
    assert_eq!(host.told, [MOVED]);
}

#[test]
fn a_restart_shows_the_drift_and_does_not_tell_it_again() {
    let mut host = Host::new([card(B, "02", None).driver("vfio-pci")]);
    host.event(by_model());
    // The disk was slow.
    assert!(host.kept.is_empty());
    host.event(Event::Recalled(Memory {
        map: gpu(vec![entry(B, "02", Some("00-01"))]),
        told: true,
        ..former()
    }));
    assert_eq!(host.published(), [MOVED]);
    assert!(host.told.is_empty());
    // Nothing is new, and the serial number, which nobody reads now, is kept.
    assert!(host.kept.is_empty());
}

#[test]
fn the_map_is_kept_as_it_changes() {
    let mut host = Host::new([card(A, "01", None)]);
    host.event(Event::Recalled(Memory::default()));
    host.event(by_model());
    let addresses = |host: &Host| -> Vec<_> {
        let map = &host.kept.last().unwrap().map;
        let entries = map.get("gpu").unwrap().iter();
        entries.map(|entry| entry.address).collect()
    };
    assert_eq!(addresses(&host), [at(A)]);
    host.inventory.insert(card(B, "02", None));
    host.event(Event::Changed(at(B)));
    assert_eq!(addresses(&host), [at(A), at(B)]);
    assert!(host.told.is_empty());
}

#[test]
fn a_dry_run_shows_the_drift_and_keeps_nothing() {
    let mut host = Host::new([card(B, "02", Some("00-01"))]);
    host.engine.state = State::new(Held::new(), true);
    host.event(Event::Recalled(former()));
    host.event(by_model());
    assert_eq!(host.published(), [MOVED]);
    assert!(host.kept.is_empty());
}

/// What a helper read before it bound a function is not what is there now.
#[test]
fn a_bound_function_is_published_with_the_override_that_it_has() {
    let mut host = Host::new([card(A, "01", None).driver("e1000e")]);
    host.event(by_model());
    let snapshot = host.engine.state.snapshot();
    let bound = &snapshot.functions.get(&at(A)).unwrap().function;
    let wanted = Inspection {
        driver_override: Some("vfio-pci".to_owned()),
        ..Inspection::default()
    };
    assert_eq!(bound.inspection, Some(wanted));
    let basis = snapshot.basis.as_ref().unwrap();
    assert_eq!(basis.inventory.get(at(A)), Some(bound));
}
