//! `driver = "auto"` and named variant drivers: what is planned, what the helper
//! makes of it, and what is told.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/drive.rs"]
mod drive;
#[path = "support/fake_kernel.rs"]
mod fake_kernel;
mod support;

use std::collections::BTreeSet;

use drive::{Drive, Engine};
use fake_kernel::Fake;
use support::{FunctionExt as _, at, by_id, inventory, mapping, nic, planned, policy, refusal};
use vfio_bindd::{
    engine::{
        event::{Effect, Event, Outcome as Told},
        report::Report,
        snapshot::MappingState,
        state::State,
    },
    kernel::{
        apply::apply,
        inspect::{Wanted, inspect},
        order::{Order, Outcome, Step},
    },
    pci::{
        function::{Function, Inspection, Variant},
        inventory::Inventory,
    },
    policy::{
        knobs::Knobs,
        model::{DriverChoice, Mapping, Policy},
        plan::{Action, Verdict},
        resolve::Held,
        variant::Pick,
    },
};

const NIC: &str = "0000:01:00.0";
const ALIAS: &str = "vfio_pci:v00008086d000010D3sv*sd*bc*sc*i*";

fn with(driver: DriverChoice) -> Policy {
    let mapping = Mapping {
        driver,
        ..mapping(vec![by_id("8086:10d3")])
    };
    policy([("m", mapping)])
}

fn auto() -> Policy {
    with(DriverChoice::Auto)
}

/// The NIC with what a helper found out of its drivers.
fn function(variant: Option<Variant>, driver_override: Option<&str>) -> Function {
    nic(NIC).with(|function| {
        function.inspection = Some(Inspection {
            driver_override: driver_override.map(str::to_owned),
            variant,
            ..Inspection::default()
        });
    })
}

fn module(name: &str) -> Option<Variant> {
    Some(Variant::Module {
        module: name.to_owned(),
        alias: ALIAS.to_owned(),
    })
}

fn unknown() -> Option<Variant> {
    Some(Variant::Unknown(
        "there is no modules.alias of Linux 6.12".to_owned(),
    ))
}

fn the_action(host: &Inventory, policy: &Policy) -> Action {
    let mut actions = planned(host, policy).actions;
    assert_eq!(actions.len(), 1, "{actions:?}");
    actions.remove(0)
}

fn the_pick(host: &Inventory, policy: &Policy) -> Pick {
    let plan = planned(host, policy);
    let chosen = plan.mappings.get("m").unwrap().functions.first();
    chosen.unwrap().driver.clone().unwrap()
}

#[test]
fn auto_goes_by_the_alias_unless_an_override_says_otherwise() {
    let from_alias = "vfio_pci:v00008086d000010D3sv*sd*bc*sc*i* names its module";
    let by_override = "the driver override names it";
    let none = "no variant driver is for it";
    let lost = "no variant driver can be chosen: there is no modules.alias of Linux 6.12";
    for (variant, set, driver, of_module, why) in [
        (None, None, "vfio-pci", None, none),
        (None, Some("vfio-pci"), "vfio-pci", None, by_override),
        (
            None,
            Some("mlx5_vfio_pci"),
            "mlx5_vfio_pci",
            None,
            by_override,
        ),
        (
            module("mlx5_vfio_pci"),
            None,
            "mlx5_vfio_pci",
            Some("mlx5_vfio_pci"),
            from_alias,
        ),
        (
            module("xe_vfio_pci"),
            None,
            "xe-vfio-pci",
            Some("xe_vfio_pci"),
            from_alias,
        ),
        // Out of the tree, or newer than this program.
        (
            module("new_vfio_pci"),
            None,
            "new_vfio_pci",
            Some("new_vfio_pci"),
            from_alias,
        ),
        // As an earlier try of ours left it.
        (
            module("mlx5_vfio_pci"),
            Some("mlx5_vfio_pci"),
            "mlx5_vfio_pci",
            Some("mlx5_vfio_pci"),
            from_alias,
        ),
        (
            module("mlx5_vfio_pci"),
            Some("vfio-pci"),
            "vfio-pci",
            None,
            by_override,
        ),
        (unknown(), None, "vfio-pci", None, lost),
    ] {
        let host = inventory([function(variant.clone(), set)]);
        let pick = the_pick(&host, &auto());
        let what = format!("{variant:?}, {set:?}");
        assert_eq!(pick.why, why, "{what}");
        let action = the_action(&host, &auto());
        assert_eq!(
            (action.driver.as_str(), action.module.as_deref()),
            (driver, of_module),
            "{what}"
        );
        assert_eq!((pick.driver, pick.module), (action.driver, action.module));
        assert_eq!(action.fallback.is_some(), why == lost, "{what}");
    }
}

#[test]
fn a_foreign_override_is_respected_with_auto_too() {
    for set in ["e1000e", "none", "vfio_pci", "somebodys_vfio_pci"] {
        let host = inventory([function(module("mlx5_vfio_pci"), Some(set))]);
        let text = refusal(&host, &auto());
        assert!(
            text.contains(&format!("the driver override '{set}'")),
            "{text}"
        );
    }
}

#[test]
fn what_a_vfio_driver_has_is_bound_for_auto_and_stays_there() {
    for (driver, variant, fell_back) in [
        ("vfio-pci", None, false),
        ("vfio-pci", module("mlx5_vfio_pci"), true),
        ("mlx5_vfio_pci", module("mlx5_vfio_pci"), false),
        ("xe-vfio-pci", module("mlx5_vfio_pci"), false),
    ] {
        let host = inventory([function(variant, None).driver(driver)]);
        let plan = planned(&host, &auto());
        let bound = &plan.mappings["m"];
        assert_eq!((bound.verdict, plan.actions), (Verdict::Ready, vec![]));
        assert!(bound.functions[0].bound, "{driver}");
        let pick = the_pick(&host, &auto());
        assert_eq!((pick.driver.as_str(), pick.fell_back), (driver, fell_back));
    }
    // Nobody inspects what is bound.
    let host = inventory([nic(NIC)
        .driver("vfio-pci")
        .with(|one| one.inspection = None)]);
    let pick = the_pick(&host, &auto());
    assert_eq!(pick.why, "it has the function already");
}

#[test]
fn a_named_driver_is_that_one_and_no_other() {
    let named = with(DriverChoice::named("mlx5_vfio_pci"));
    let host = inventory([function(None, None)]);
    let action = the_action(&host, &named);
    assert_eq!(
        (action.driver.as_str(), action.module),
        ("mlx5_vfio_pci", None)
    );
    let plan = planned(&host, &named);
    assert_eq!(plan.mappings["m"].functions[0].driver, None);
    let host = inventory([function(None, None).driver("vfio-pci")]);
    assert!(refusal(&host, &named).contains("is bound to vfio-pci already, not to mlx5_vfio_pci"));
    let host = inventory([function(None, None).driver("mlx5_vfio_pci")]);
    assert_eq!(planned(&host, &named).mappings["m"].verdict, Verdict::Ready);
    let plain = with(DriverChoice::VfioPci);
    assert!(refusal(&host, &plain).contains("is bound to mlx5_vfio_pci already"));
}

/// A host with the NIC and vfio-pci.
fn host() -> Fake {
    let fake = Fake::new(&["vfio-pci", "e1000e"]);
    let modalias = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";
    fake.add("0000:00:01.0", NIC, &[("modalias", modalias)]);
    fake
}

fn order(module: &str, expected: &str) -> Order {
    Order {
        address: at(NIC),
        id: "8086:10d3".parse().unwrap(),
        driver: expected.to_owned(),
        module: Some(module.to_owned()),
        detach: Some("e1000e".to_owned()),
        allow: BTreeSet::from(["network".to_owned()]),
        knobs: Knobs::default(),
        mappings: vec!["m".to_owned()],
        undo: None,
    }
}

fn run(fake: &Fake, order: &Order) -> Outcome {
    fake.look(|look| apply(look, fake, order))
}

#[test]
fn a_helper_finds_the_variant_driver_in_the_list_of_the_running_kernel() {
    let seen = |fake: &Fake| {
        let inspection = fake.look(|look| inspect(look, at(NIC), Wanted::ALL));
        inspection.unwrap().variant
    };
    let fake = host();
    let Some(Variant::Unknown(why)) = seen(&fake) else {
        panic!("there is no release");
    };
    assert!(why.starts_with("/proc/sys/kernel/osrelease: "), "{why}");
    fake.host_file("/proc/sys/kernel/osrelease", "6.12\n");
    assert_eq!(seen(&fake), unknown());
    fake.aliases("alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n");
    assert_eq!(seen(&fake), None);
    fake.aliases(&format!("alias {ALIAS} mlx5_vfio_pci\n"));
    assert_eq!(seen(&fake), module("mlx5_vfio_pci"));
    let path = "/lib/modules/6.12/modules.alias".to_owned();
    fake.with(|kernel| kernel.forbidden.insert(path.clone()));
    let Some(Variant::Unknown(why)) = seen(&fake) else {
        panic!("it cannot be read");
    };
    assert!(why.starts_with(&path), "{why}");
    // Where the unit hides the modules it shows them in its own folder.
    fake.with(|kernel| {
        kernel.forbidden.clear();
        let list = kernel.host_files.remove(&path).unwrap();
        let there = "/run/vfio-bindd/modules/modules.alias".to_owned();
        kernel.host_files.insert(there, list);
    });
    assert_eq!(seen(&fake), module("mlx5_vfio_pci"));
}

#[test]
fn the_driver_is_the_one_that_the_loaded_module_has() {
    for (drivers, wanted) in [
        (&["mlx5_vfio_pci"][..], "mlx5_vfio_pci"),
        (&["other-vfio-pci"], "other-vfio-pci"),
        (&["mlx5_core", "mlx5_vfio_pci"], "mlx5_vfio_pci"),
    ] {
        for native in [None, Some("e1000e")] {
            let fake = host();
            fake.has_variant("mlx5_vfio_pci", drivers);
            native.inspect(|native| fake.bind(NIC, native));
            let outcome = run(&fake, &order("mlx5_vfio_pci", "mlx5_vfio_pci"));
            let bound = Outcome::Bound {
                from: native.map(str::to_owned),
                driver: wanted.to_owned(),
                fallback: None,
            };
            assert_eq!(outcome, bound);
            assert_eq!(fake.driver(NIC).as_deref(), Some(wanted));
            assert_eq!(fake.override_of(NIC).as_deref(), Some(wanted));
        }
    }
}

#[test]
fn whatever_is_wrong_with_the_variant_driver_vfio_pci_gets_the_function() {
    let lacks = "the module mlx5_vfio_pci has no vfio driver for PCI";
    let missing = "modprobe mlx5_vfio_pci: FATAL: Module mlx5_vfio_pci not found";
    let sick = "binding: mlx5_vfio_pci: input/output error";
    for (drivers, why) in [
        (None, missing),
        (Some(&[][..]), lacks),
        (Some(&["mlx5_core"]), lacks),
        (Some(&["mlx5_vfio_pci"]), sick),
    ] {
        for native in [None, Some("e1000e")] {
            let fake = host();
            native.inspect(|native| fake.bind(NIC, native));
            drivers.inspect(|drivers| fake.has_variant("mlx5_vfio_pci", drivers));
            fake.with(|kernel| kernel.sick.insert("mlx5_vfio_pci".to_owned()));
            let outcome = run(&fake, &order("mlx5_vfio_pci", "mlx5_vfio_pci"));
            let bound = Outcome::Bound {
                from: native.map(str::to_owned),
                driver: "vfio-pci".to_owned(),
                fallback: Some(why.to_owned()),
            };
            assert_eq!(outcome, bound);
            assert_eq!(fake.override_of(NIC).as_deref(), Some("vfio-pci"));
        }
    }
}

#[test]
fn without_any_vfio_driver_the_host_keeps_or_gets_its_own() {
    let fake = Fake::new(&["e1000e"]);
    fake.add("0000:00:01.0", NIC, &[]);
    fake.bind(NIC, "e1000e");
    let order = order("mlx5_vfio_pci", "mlx5_vfio_pci");
    let Outcome::Failed { step, .. } = run(&fake, &order) else {
        panic!("there is no driver");
    };
    assert_eq!((step, fake.writes()), (Step::LoadModule, vec![]));
    let fake = host();
    fake.bind(NIC, "e1000e");
    fake.has_variant("mlx5_vfio_pci", &["mlx5_vfio_pci"]);
    fake.with(|kernel| {
        kernel.sick.insert("mlx5_vfio_pci".to_owned());
        kernel.sick.insert("vfio-pci".to_owned());
    });
    let Outcome::Failed { step, text } = run(&fake, &order) else {
        panic!("no driver takes it");
    };
    assert!(text.ends_with("e1000e has it back"), "{step:?}: {text}");
    assert_eq!(fake.driver(NIC).as_deref(), Some("e1000e"));
    assert_eq!(fake.override_of(NIC), None);
}

/// A host of one function, whose helper ends the action as it is told to.
struct Host {
    engine: Engine,
    function: Function,
    outcome: Option<Told>,
    fell_back: Vec<String>,
}

impl Drive for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        let address = self.function.address;
        match effect {
            Effect::Scan => Some(Event::Scanned(Ok(inventory([self.function.clone()])))),
            Effect::Observe(_) => {
                let function = self.function.clone();
                Some(Event::Observed(address, Some(Box::new(function))))
            }
            Effect::Inspect { .. } => {
                let inspection = self.function.inspection.clone();
                Some(Event::Inspected(address, Ok(inspection)))
            }
            Effect::Apply(action) => {
                let outcome = self.outcome.take();
                let outcome = outcome.unwrap_or_else(|| support::bound(&action, None));
                if let Told::Bound { driver, .. } = &outcome {
                    self.function.driver = Some(driver.clone());
                }
                Some(Event::Applied(address, outcome))
            }
            Effect::Report(Report::FellBack { driver, text, .. }) => {
                self.fell_back.push(format!("{driver}: {text}"));
                None
            }
            _ => None,
        }
    }
}

fn start(function: Function, outcome: Option<Told>) -> Host {
    let mut host = Host {
        engine: Engine::new(State::new(Held::new(), false)),
        function,
        outcome,
        fell_back: Vec::new(),
    };
    host.event(Event::Config(Ok(auto())));
    for _ in 0..3 {
        host.event(Event::Rescan);
    }
    host
}

#[test]
fn a_fall_back_is_told_once_and_stays_to_be_seen() {
    let fell_back = Told::Bound {
        from: None,
        driver: "vfio-pci".to_owned(),
        fallback: Some("the module mlx5_vfio_pci was not loaded".to_owned()),
    };
    for (variant, outcome, told, reason, of_mapping) in [
        (
            module("mlx5_vfio_pci"),
            Some(fell_back),
            &["vfio-pci: the module mlx5_vfio_pci was not loaded"][..],
            format!(
                "has vfio-pci: it has the function already, although {ALIAS} names mlx5_vfio_pci"
            ),
            "1 without a variant driver",
        ),
        (
            unknown(),
            None,
            &["vfio-pci: no variant driver can be chosen: there is no modules.alias of Linux 6.12"],
            String::new(),
            "",
        ),
        (module("mlx5_vfio_pci"), None, &[], String::new(), ""),
        (None, None, &[], String::new(), ""),
    ] {
        let host = start(function(variant, None), outcome);
        assert_eq!(host.fell_back, told);
        let snapshot = host.engine.state.snapshot();
        let bound = &snapshot.mappings["m"];
        assert_eq!(bound.state, MappingState::Bound);
        assert_eq!(bound.reason, of_mapping);
        assert_eq!(snapshot.functions[&at(NIC)].reason, reason);
    }
}
