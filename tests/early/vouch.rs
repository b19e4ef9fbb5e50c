//! Who the daemon vouches for.

use vfio_bindd::{
    engine::{
        event::{Effect, Event},
        snapshot::DaemonState,
        state::State,
    },
    pci::{function::Function, inventory::Inventory},
    policy::{early::Known, guard::Guard, model::Policy, resolve::Held},
};

use crate::{
    drive::{Drive, Engine, seen},
    support::{FunctionExt as _, at, bound, by_id, mapping, nic, policy, up},
};

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

/// A host whose helpers answer at once.
struct Host {
    engine: Engine,
    inventory: Inventory,
    /// What is kept, and whether the first pass was over by then.
    kept: Vec<(Vec<Known>, bool)>,
}

impl Host {
    fn new(functions: impl IntoIterator<Item = Function>, dry_run: bool) -> Self {
        Self {
            engine: Engine::new(State::new(Held::new(), dry_run)),
            inventory: functions.into_iter().collect(),
            kept: Vec::new(),
        }
    }

    fn start(&mut self, policy: &Policy) {
        self.event(Event::Config(Ok(policy.clone())));
    }

    /// The addresses that were kept, each time.
    fn kept(&self) -> Vec<String> {
        let kept = self.kept.iter().map(|(known, ready)| {
            assert!(ready, "kept before it was ready");
            let addresses: Vec<_> = known.iter().map(|one| one.address.to_string()).collect();
            addresses.join(" ")
        });
        kept.collect()
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
                Some(Event::Inspected(address, Ok(inspection)))
            }
            Effect::Apply(action) => {
                let function = self.inventory.get_mut(action.address).unwrap();
                let from = function.driver.replace(action.driver.clone());
                Some(Event::Applied(action.address, bound(&action, from)))
            }
            Effect::Vouch(known) => {
                let state = self.engine.state.snapshot().state;
                self.kept.push((known, state != DaemonState::Starting));
                None
            }
            _ => None,
        }
    }
}

fn nics() -> Policy {
    policy([("m", mapping(vec![by_id("8086:10d3")]))])
}

#[test]
fn what_was_found_idle_and_is_bound_is_vouched_for_with_its_serial() {
    let idle = nic(A).driver("e1000e").with(|one| {
        one.inspection.as_mut().unwrap().serial = Some("00-01".to_owned());
    });
    let mut host = Host::new([idle, nic(B)], false);
    host.start(&nics());
    // There was nothing to see of the one that had no driver.
    assert_eq!(host.kept().last().unwrap(), A);
    let (known, _) = host.kept.last().unwrap();
    assert_eq!(known[0].serial.as_deref(), Some("00-01"));
    // Nothing new, nothing kept.
    let times = host.kept.len();
    host.event(Event::Audit);
    assert_eq!(host.kept.len(), times);
}

#[test]
fn what_a_lifted_guard_gave_up_is_not_vouched_for() {
    let used = nic(A).driver("e1000e").in_use(up("eth0"));
    let mut host = Host::new([used], false);
    let mut wanted = mapping(vec![by_id("8086:10d3")]);
    wanted.allow = [Guard::Network].into();
    host.start(&policy([("m", wanted)]));
    let driver = &host.inventory.get(at(A)).unwrap().driver;
    assert_eq!(driver.as_deref(), Some("vfio-pci"));
    assert_eq!(host.kept(), [""]);
}

#[test]
fn what_no_driver_of_its_own_had_is_not_vouched_for() {
    for function in [nic(A), nic(A).driver("pci-stub")] {
        let mut host = Host::new([function], false);
        host.start(&nics());
        let driver = &host.inventory.get(at(A)).unwrap().driver;
        assert_eq!(driver.as_deref(), Some("vfio-pci"));
        assert_eq!(host.kept(), [""]);
    }
}

#[test]
fn what_stayed_bound_since_it_was_vouched_for_stays_so() {
    let known = |address| Known::of(&nic(address).with(|one| one.inspection = None));
    let bound = || nic(A).driver("vfio-pci");
    for (what, function, kept) in [
        ("bound", bound(), A),
        ("taken back", nic(A).driver("nvme").in_use(up("eth0")), ""),
        (
            "another model",
            bound().with(|one| one.subsystem = "1028:0000".parse().ok()),
            "",
        ),
    ] {
        let mut host = Host::new([function], false);
        host.event(Event::Vouched(vec![known(A), known(B)]));
        host.start(&nics());
        assert_eq!(host.kept(), [kept], "{what}");
    }
}

#[test]
fn what_goes_or_is_wanted_no_more_is_not_vouched_for_any_more() {
    let fleet = || [A, B].map(|address| nic(address).driver("e1000e"));
    let mut host = Host::new(fleet(), false);
    host.start(&nics());
    assert_eq!(host.kept().last().unwrap(), &format!("{A} {B}"));
    host.inventory.remove(at(A));
    host.event(Event::Removed(at(A)));
    assert_eq!(host.kept().last().unwrap(), B);
    // Another of its kind at the same address has to be looked at.
    host.inventory
        .insert(nic(A).driver("e1000e").in_use(up("eth0")));
    host.event(Event::Changed(at(A)));
    assert!(!host.kept().last().unwrap().contains(A));
    host.start(&Policy::default());
    assert_eq!(host.kept().last().unwrap(), "");
}

#[test]
fn neither_a_dry_run_nor_a_bad_config_vouches_for_anything() {
    let mut host = Host::new([nic(A).driver("e1000e")], true);
    host.start(&nics());
    assert_eq!(host.kept(), Vec::<String>::new());
    let mut host = Host::new([nic(A).driver("e1000e")], false);
    host.event(Event::Config(Err("config.toml:1:1: no".to_owned())));
    assert_eq!(host.kept(), Vec::<String>::new());
}
