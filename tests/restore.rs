//! Scripts of restores against the engine, with a clock that is moved by hand.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drive::{Drive, Engine, seen};
use support::{FunctionExt as _, at, bound, by_address, by_id, mapping, nic, policy};
use vfio_bindd::{
    engine::{
        event::{Effect, Event, Noted, Standing},
        report::Report,
        restore::Returned,
        snapshot::{DaemonState, FunctionState, MappingState},
        state::State,
        target::Target,
        undo::Unrestored,
    },
    pci::{
        address::Address,
        function::{Function, Inspection},
        inventory::Inventory,
    },
    policy::{model::Policy, resolve::Held},
};

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

/// A host whose helpers keep a journal as the real ones do; what is in `hang`
/// is never answered until it is taken out.
struct Host {
    engine: Engine,
    inventory: Inventory,
    /// What the journal on its disk has: the former driver, and how far it is.
    journal: BTreeMap<Address, (Option<String>, Standing)>,
    /// Addresses that a virtual machine uses.
    used: BTreeSet<Address>,
    /// Addresses whose former driver does not take them.
    fail: BTreeSet<Address>,
    hang: BTreeSet<Address>,
    hanging: Vec<Effect>,
    done: Vec<String>,
    reports: Vec<Report>,
    answers: BTreeMap<u64, Result<(), Unrestored>>,
}

impl Host {
    fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        let functions = functions.into_iter();
        Self {
            engine: Engine::new(State::new(Held::new(), false).awaiting_journal()),
            inventory: functions
                .map(|one| one.with(|one| one.inspection = None))
                .collect(),
            journal: BTreeMap::new(),
            used: BTreeSet::new(),
            fail: BTreeSet::new(),
            hang: BTreeSet::new(),
            hanging: Vec::new(),
            done: Vec::new(),
            reports: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    /// A daemon that starts: its config, and what the journal has.
    fn start(&mut self, policy: &Policy) {
        self.event(Event::Config(Ok(policy.clone())));
        let entries = self.journal.iter().map(|(address, (_, standing))| Noted {
            address: *address,
            mappings: vec!["m".to_owned()],
            standing: *standing,
            tuned: false,
        });
        let entries = entries.collect();
        let trouble = Vec::new();
        self.event(Event::Journal { entries, trouble });
    }

    /// The daemon starts anew; the host goes on.
    fn restart(&mut self, policy: &Policy) {
        self.engine.state = State::new(Held::new(), false).awaiting_journal();
        self.reports.clear();
        self.start(policy);
    }

    fn give_back(&mut self, address: Address, together: &[Address]) -> Returned {
        let Some((former, standing)) = self.journal.get_mut(&address) else {
            return Returned::Untaken("was never taken".to_owned());
        };
        if together.iter().any(|one| self.used.contains(one)) {
            return Returned::Refused {
                text: "is in use: qemu".to_owned(),
                released: *standing != Standing::Taken,
            };
        }
        *standing = Standing::Returning;
        let function = self.inventory.get_mut(address).unwrap();
        if self.fail.contains(&address) {
            function.driver = None;
            return Returned::Failed {
                step: "binding".to_owned(),
                text: "e1000e: input/output error".to_owned(),
                released: Some(true),
            };
        }
        *standing = Standing::Released;
        function.driver.clone_from(former);
        Returned::Given(former.clone())
    }

    fn restore(&mut self, asker: u64, target: Target) -> Result<(), Unrestored> {
        self.event(Event::Restore { asker, target });
        self.answers.remove(&asker).unwrap()
    }

    fn let_go(&mut self) {
        self.hang.clear();
        for effect in std::mem::take(&mut self.hanging) {
            let event = self.answer(effect).unwrap();
            self.event(event);
        }
    }

    fn mapping(&self, name: &str) -> (MappingState, &str) {
        let mapping = self.engine.state.snapshot().mappings.get(name).unwrap();
        (mapping.state, mapping.reason.as_str())
    }

    fn function(&self, address: &str) -> (FunctionState, &str) {
        let functions = &self.engine.state.snapshot().functions;
        let function = functions.get(&at(address)).unwrap();
        (function.state, function.reason.as_str())
    }

    fn drivers(&self) -> Vec<&str> {
        let all = self.inventory.iter();
        all.map(|one| one.driver.as_deref().unwrap_or("-"))
            .collect()
    }

    fn reported(&self, what: impl Fn(&Report) -> bool) -> usize {
        self.reports.iter().filter(|report| what(report)).count()
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
                Some(Event::Inspected(address, Ok(Some(Inspection::default()))))
            }
            Effect::Apply(ref action) if self.hang.contains(&action.address) => {
                self.hanging.push(effect);
                None
            }
            Effect::Restore { address, .. } if self.hang.contains(&address) => {
                self.hanging.push(effect);
                None
            }
            Effect::Apply(action) => {
                let address = action.address;
                self.done.push(format!("apply {address}"));
                let function = self.inventory.get_mut(address).unwrap();
                let from = function.driver.replace("vfio-pci".to_owned());
                let entry = self
                    .journal
                    .entry(address)
                    .or_insert((None, Standing::Released));
                if entry.1 == Standing::Released {
                    entry.0.clone_from(&from);
                }
                entry.1 = Standing::Taken;
                Some(Event::Applied(address, bound(&action, from)))
            }
            Effect::Restore { address, together } => {
                self.done.push(format!("restore {address}"));
                Some(Event::Restored(address, self.give_back(address, &together)))
            }
            Effect::Retake(address) => {
                self.done.push(format!("retake {address}"));
                let entry = self.journal.get_mut(&address).unwrap();
                let kept = entry.1 != Standing::Released;
                if kept {
                    entry.1 = Standing::Taken;
                } else {
                    self.journal.remove(&address);
                }
                Some(Event::Retaken(address, Ok(kept)))
            }
            Effect::Answer { asker, result } => {
                self.answers.insert(asker, result);
                None
            }
            Effect::Tune { .. }
            | Effect::Publish(_)
            | Effect::Remember(_)
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
            | Effect::Unfinished(..)
            | Effect::Finished(_)
            | Effect::FindHolders(_) => None,
            Effect::Report(report) => {
                self.reports.push(report);
                None
            }
        }
    }
}

fn nics() -> Policy {
    policy([("m", mapping(vec![by_id("8086:10d3")]))])
}

fn m() -> Target {
    Target::Mapping("m".to_owned())
}

fn two() -> Host {
    Host::new([nic(A).driver("e1000e"), nic(B)])
}

/// Both are taken.
fn taken() -> Host {
    let mut host = two();
    host.start(&nics());
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    host.done.clear();
    host.reports.clear();
    host
}

#[test]
fn nothing_is_bound_before_the_journal_is_read() {
    let mut host = two();
    host.event(Event::Config(Ok(nics())));
    assert_eq!(host.done, Vec::<String>::new());
    assert_eq!(host.engine.state.snapshot().state, DaemonState::Starting);
    assert!(host.engine.state.snapshot().mappings.is_empty());
    let early = Unrestored::NotReady("the undo journal is not read yet".to_owned());
    assert_eq!(host.restore(1, Target::All), Err(early));
    // A disk that does not answer holds up binding, and nothing else.
    host.wait(Duration::from_secs(31));
    assert_eq!(host.engine.state.snapshot().state, DaemonState::Degraded);
    assert_eq!(host.mapping("m").0, MappingState::Pending);
    assert_eq!(host.done, Vec::<String>::new());
    let (entries, trouble) = (Vec::new(), vec!["x.json: cannot be read".to_owned()]);
    host.event(Event::Journal { entries, trouble });
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    assert_eq!(
        host.reported(|one| matches!(one, Report::JournalTrouble { .. })),
        1
    );
}

#[test]
fn a_mapping_is_given_back_and_stays_so() {
    let mut host = taken();
    assert_eq!(host.restore(1, m()), Ok(()));
    assert_eq!(host.drivers(), ["e1000e", "-"]);
    let (state, reason) = host.mapping("m");
    assert_eq!(state, MappingState::Released);
    assert!(
        reason.contains(A) && reason.contains("rescan --take"),
        "{reason}"
    );
    assert_eq!(
        host.function(A),
        (FunctionState::Released, "was given back")
    );
    assert_eq!(host.engine.state.snapshot().state, DaemonState::Degraded);
    assert_eq!(
        host.reported(|one| matches!(one, Report::Restored { .. })),
        2
    );
    let generation = host.engine.state.snapshot().generation;
    for event in [
        Event::Rescan,
        Event::Audit,
        Event::Overrun,
        Event::Changed(at(A)),
        Event::Config(Err("no".to_owned())),
    ] {
        host.event(event);
        host.wait(Duration::from_secs(120));
        assert_eq!(host.drivers(), ["e1000e", "-"]);
        assert_eq!(host.mapping("m").0, MappingState::Released);
    }
    assert_eq!(host.done.len(), 2, "{:?}", host.done);
    assert!(host.engine.state.snapshot().generation <= generation + 1);
    // Once more is no news.
    assert_eq!(host.restore(2, m()), Ok(()));
    assert_eq!(
        host.reported(|one| matches!(one, Report::Restored { .. })),
        2
    );
}

#[test]
fn a_reload_or_a_rescan_that_takes_takes_it_again() {
    for event in [Event::RescanTake, Event::Config(Ok(nics()))] {
        let mut host = taken();
        host.restore(1, m()).unwrap();
        host.done.clear();
        host.event(event);
        assert_eq!(host.mapping("m").0, MappingState::Bound);
        assert_eq!(host.drivers(), ["vfio-pci", "vfio-pci"]);
        // Forgotten as given back first, or a crash in between would lose it.
        for address in [A, B] {
            let mut of_it = host.done.iter().filter(|one| one.ends_with(address));
            assert_eq!(of_it.next().unwrap(), &format!("retake {address}"));
            assert_eq!(of_it.next().unwrap(), &format!("apply {address}"));
        }
        // What it was is known as before.
        host.restore(2, m()).unwrap();
        assert_eq!(host.drivers(), ["e1000e", "-"]);
    }
}

#[test]
fn a_restart_keeps_what_was_given_back_and_what_was_taken() {
    let mut host = taken();
    host.restart(&nics());
    assert_eq!(host.done, Vec::<String>::new());
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    host.restore(1, m()).unwrap();
    host.done.clear();
    host.restart(&nics());
    assert_eq!(host.mapping("m").0, MappingState::Released);
    assert_eq!(host.drivers(), ["e1000e", "-"]);
    assert_eq!(host.done, Vec::<String>::new());
    assert_eq!(
        host.reported(|one| matches!(one, Report::Released { .. })),
        2
    );
    // A config that is read at a start is no reload.
    host.event(Event::Config(Ok(nics())));
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    // The first one may have been wrong; what follows is one.
    host.restore(2, m()).unwrap();
    host.engine.state = State::new(Held::new(), false).awaiting_journal();
    host.event(Event::Config(Err("no".to_owned())));
    host.start(&nics());
    assert_eq!(host.mapping("m").0, MappingState::Released);
}

#[test]
fn a_return_that_was_broken_off_is_finished_at_the_next_start() {
    let mut host = taken();
    host.journal.get_mut(&at(A)).unwrap().1 = Standing::Returning;
    host.restart(&nics());
    assert_eq!(host.done, [format!("restore {A}")]);
    assert_eq!(host.drivers(), ["e1000e", "vfio-pci"]);
    assert_eq!(host.mapping("m").0, MappingState::Released);
    assert_eq!(
        host.reported(|one| matches!(one, Report::Restored { .. })),
        1
    );
}

#[test]
fn one_function_is_given_back_by_its_address_and_releases_its_mappings() {
    let mut host = two();
    let mut policy = nics();
    let other = mapping(vec![by_address("02:00.0")]);
    policy.mappings.insert("other".to_owned(), other);
    host.start(&policy);
    assert_eq!(host.restore(1, Target::Function(at(A))), Ok(()));
    assert_eq!(host.drivers(), ["e1000e", "vfio-pci"]);
    assert_eq!(host.mapping("m").0, MappingState::Released);
    assert_eq!(host.mapping("other").0, MappingState::Bound);
    assert_eq!(host.function(B).0, FunctionState::Bound);
    host.restore(2, Target::Function(at(B))).unwrap();
    assert_eq!(host.mapping("other").0, MappingState::Released);
    host.restore(3, Target::All).unwrap();
}

#[test]
fn a_mapping_does_not_take_another_one_instead() {
    let mut host = Host::new([nic(A).driver("e1000e"), nic(B).driver("e1000e")]);
    let mut policy = nics();
    policy.mappings.get_mut("m").unwrap().take = Some(1);
    host.inventory.remove(at(A));
    host.start(&policy);
    host.inventory.insert(nic(A).driver("e1000e"));
    host.event(Event::Changed(at(A)));
    assert_eq!(host.drivers(), ["e1000e", "vfio-pci"]);
    host.restore(1, m()).unwrap();
    assert_eq!(host.drivers(), ["e1000e", "e1000e"]);
    host.restart(&policy);
    assert_eq!(host.drivers(), ["e1000e", "e1000e"]);
    assert_eq!(host.mapping("m").0, MappingState::Released);
}

#[test]
fn what_is_left_over_is_given_back_by_address_and_by_its_old_name() {
    for target in [Target::Function(at(A)), m(), Target::All] {
        let mut host = taken();
        host.event(Event::Config(Ok(policy([(
            "n",
            mapping(vec![by_address("02:00.0")]),
        )]))));
        assert_eq!(host.engine.state.snapshot().left_over, [at(A)]);
        assert_eq!(host.mapping("n").0, MappingState::Bound);
        let all = target == Target::All;
        host.restore(1, target).unwrap();
        let other = if all { "-" } else { "vfio-pci" };
        assert_eq!(host.drivers(), ["e1000e", other]);
        assert!(host.engine.state.snapshot().left_over.is_empty());
    }
    // The name that it has now works, too.
    let mut host = taken();
    host.event(Event::Config(Ok(policy([(
        "n",
        mapping(vec![by_address("02:00.0")]),
    )]))));
    host.restore(1, Target::Mapping("n".to_owned())).unwrap();
    assert_eq!(host.drivers(), ["vfio-pci", "-"]);
}

#[test]
fn nothing_of_a_mapping_in_use_is_given_back() {
    let mut host = taken();
    host.used.insert(at(B));
    let refused = Err(Unrestored::Refused(format!(
        "{A} is in use: qemu (and 1 more)"
    )));
    assert_eq!(host.restore(1, m()), refused);
    assert_eq!(host.mapping("m"), (MappingState::Bound, ""));
    assert_eq!(host.drivers(), ["vfio-pci", "vfio-pci"]);
    assert_eq!(
        host.reported(|one| matches!(one, Report::NotRestored { .. })),
        2
    );
    host.used.clear();
    assert_eq!(host.restore(2, m()), Ok(()));
}

#[test]
fn while_it_is_given_back_nobody_gets_it_and_what_hangs_is_stuck() {
    let mut host = taken();
    host.hang.insert(at(A));
    host.event(Event::Restore {
        asker: 1,
        target: m(),
    });
    assert_eq!(
        host.mapping("m"),
        (MappingState::Pending, "0000:01:00.0 is being given back")
    );
    assert!(host.answers.is_empty(), "it is not over");
    host.wait(Duration::from_secs(16));
    assert_eq!(host.mapping("m").0, MappingState::Stuck);
    let Some(Err(Unrestored::Stuck(text))) = host.answers.remove(&1) else {
        panic!("{:?}", host.answers);
    };
    assert!(text.starts_with(A) && text.contains("stuck"), "{text}");
    assert_eq!(host.drivers(), ["vfio-pci", "-"]);
    // Whoever asks again need not wait.
    let again = host.restore(2, m());
    assert!(matches!(again, Err(Unrestored::Stuck(_))), "{again:?}");
    host.let_go();
    assert_eq!(host.mapping("m").0, MappingState::Released);
    assert_eq!(host.drivers(), ["e1000e", "-"]);
    assert_eq!(host.restore(3, m()), Ok(()));
}

#[test]
fn a_restore_waits_for_the_apply_that_is_under_way() {
    let mut host = two();
    host.hang.insert(at(A));
    host.start(&nics());
    assert_eq!(host.mapping("m").0, MappingState::Pending);
    host.event(Event::Restore {
        asker: 1,
        target: Target::Function(at(A)),
    });
    // Nobody knows yet whether it was taken.
    let never = host.answers.remove(&1).unwrap();
    assert!(
        matches!(never, Err(Unrestored::NothingTaken(_))),
        "{never:?}"
    );
    host.let_go();
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    // One of the same IOMMU group goes after the other.
    let mut host = Host::new([
        nic(A)
            .driver("e1000e")
            .with(|one| one.iommu_group = Some(7)),
        nic(B).with(|one| one.iommu_group = Some(7)),
    ]);
    host.start(&nics());
    host.hang.insert(at(A));
    host.event(Event::Restore {
        asker: 2,
        target: m(),
    });
    assert_eq!(host.drivers(), ["vfio-pci", "vfio-pci"]);
    host.let_go();
    assert_eq!(host.answers.remove(&2), Some(Ok(())));
    assert_eq!(host.drivers(), ["e1000e", "-"]);
    // A stuck one holds up its group, and whoever asks is told.
    host.event(Event::RescanTake);
    host.hang.insert(at(A));
    host.event(Event::Restore {
        asker: 3,
        target: m(),
    });
    host.wait(Duration::from_secs(16));
    let Some(Err(Unrestored::Stuck(text))) = host.answers.remove(&3) else {
        panic!("{:?}", host.answers);
    };
    assert!(text.ends_with("(and 1 more)"), "{text}");
}

#[test]
fn a_driver_that_does_not_take_it_back_is_named_and_asked_again() {
    let mut host = taken();
    host.fail.insert(at(A));
    let text = format!("{A} was not given back: binding: e1000e: input/output error");
    assert_eq!(host.restore(1, m()), Err(Unrestored::Failed(text.clone())));
    let words = text.strip_prefix(&format!("{A} ")).unwrap();
    assert_eq!(host.mapping("m"), (MappingState::Released, text.as_str()));
    assert_eq!(host.function(A), (FunctionState::Failed, words));
    host.wait(Duration::from_secs(300));
    assert_eq!(host.done.len(), 2, "only on request: {:?}", host.done);
    host.fail.clear();
    assert_eq!(host.restore(2, Target::Function(at(A))), Ok(()));
    assert_eq!(host.mapping("m").0, MappingState::Released);
    assert_eq!(host.function(A).0, FunctionState::Released);
    // One that is half-way back is taken again, and not forgotten.
    let mut host = taken();
    host.fail.insert(at(A));
    host.restore(1, m()).unwrap_err();
    host.event(Event::RescanTake);
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    host.fail.clear();
    host.restore(2, m()).unwrap();
    assert_eq!(host.drivers(), ["e1000e", "-"]);
}

#[test]
fn who_asks_for_what_there_is_not_is_told() {
    let mut host = taken();
    let mut two = nics();
    let none = mapping(vec![by_address("0f:00.0")]);
    two.mappings.insert("none".to_owned(), none);
    host.event(Event::Config(Ok(two)));
    for (target, wanted) in [
        (
            Target::Mapping("nobody".to_owned()),
            Unrestored::Unknown(
                "no mapping is named 'nobody', and nothing was taken for one of that name"
                    .to_owned(),
            ),
        ),
        (
            Target::Mapping("none".to_owned()),
            Unrestored::NothingTaken(
                "mapping 'none' has taken nothing since the host booted: there is nothing to \
                 give back"
                    .to_owned(),
            ),
        ),
        (
            Target::Function(at("0000:0e:00.0")),
            Unrestored::NothingTaken(
                "0000:0e:00.0 was never taken since the host booted: there is nothing to give \
                 back"
                    .to_owned(),
            ),
        ),
    ] {
        assert_eq!(host.restore(1, target), Err(wanted));
    }
    assert_eq!(host.done, Vec::<String>::new());
    // A journal that lost the entry.
    host.journal.clear();
    let lost = host.restore(2, Target::Function(at(A)));
    let text = format!("{A} was never taken");
    assert_eq!(lost, Err(Unrestored::NothingTaken(text)));
    let mut host = Host::new([nic(A)]);
    host.engine.state = State::new(Held::new(), true);
    host.event(Event::Config(Ok(nics())));
    let dry = host.restore(3, Target::All).unwrap_err();
    assert!(matches!(dry, Unrestored::Refused(text) if text.contains("--dry-run")));
}

#[test]
fn a_function_that_went_takes_its_past_along() {
    let mut host = taken();
    host.restore(1, m()).unwrap();
    host.inventory.remove(at(A));
    host.event(Event::Removed(at(A)));
    host.journal.remove(&at(A));
    host.inventory
        .insert(nic(A).with(|one| one.inspection = None));
    host.event(Event::Changed(at(A)));
    // The other one is still back, and so nothing of the mapping is bound.
    assert_eq!(host.mapping("m").0, MappingState::Released);
    assert_eq!(host.drivers(), ["-", "-"]);
    let never = host.restore(2, Target::Function(at(A)));
    assert!(
        matches!(never, Err(Unrestored::NothingTaken(_))),
        "{never:?}"
    );
    for address in [A, B] {
        host.inventory.remove(at(address));
        host.journal.remove(&at(address));
        host.event(Event::Removed(at(address)));
        host.inventory
            .insert(nic(address).with(|one| one.inspection = None));
        host.event(Event::Changed(at(address)));
    }
    assert_eq!(host.mapping("m").0, MappingState::Bound);
    // Also if nobody was told.
    host.restore(3, m()).unwrap();
    host.inventory = Inventory::default();
    host.event(Event::Overrun);
    host.journal.clear();
    host.inventory = [A, B]
        .map(|one| nic(one).with(|one| one.inspection = None))
        .into_iter()
        .collect();
    host.event(Event::Overrun);
    assert_eq!(host.mapping("m").0, MappingState::Bound);
}
