//! What is said of a function and of a mapping, case by case.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says no by a panic"
)]

mod support;

use std::collections::BTreeSet;

use support::{
    FunctionExt as _, at, busy, by_address, by_id, by_node, inventory, mapping, nic, policy,
    selector, up,
};
use vfio_bindd::{
    pci::{
        function::{Function, Role},
        inventory::Inventory,
    },
    policy::{
        explain::{
            Explanation, OfFunction, OfMapping, Outcome, Relation, Standing, Target, explain,
        },
        guard::Guard,
        model::{Expect, Extent, GroupRule, Mapping, Policy},
        pattern::{ClassPattern, Kind},
        plan::{Verdict, plan},
        resolve::Held,
        selector::Term,
    },
};

const NIC: &str = "0000:01:00.0";

fn told(host: &Inventory, policy: &Policy, target: &str) -> Explanation {
    let plan = plan(host, policy, &Held::new());
    explain(host, policy, &plan, &target.parse().unwrap()).unwrap()
}

fn of_function(host: &Inventory, policy: &Policy, target: &str) -> OfFunction {
    match told(host, policy, target) {
        Explanation::Function(told) => *told,
        other => panic!("{target} is no function: {other:?}"),
    }
}

fn of_mapping(host: &Inventory, policy: &Policy, target: &str) -> OfMapping {
    match told(host, policy, target) {
        Explanation::Mapping(told) => *told,
        other => panic!("{target} is no mapping: {other:?}"),
    }
}

fn globs<T: std::str::FromStr>(text: &str) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    vec![text.parse().unwrap()]
}

fn serial(glob: &str) -> Term {
    Term::Serial(globs(glob))
}

/// A card with a serial number, a slot, a node and two subsystem halves.
fn card() -> Function {
    nic(NIC).with(|one| {
        one.numa_node = Some(0);
        one.slot_label = Some("SLOT5".to_owned());
        let inspection = one.inspection.as_mut().unwrap();
        inspection.serial = Some("00-11".to_owned());
    })
}

/// The pair of a VF and its PF, of which the VF is asked.
fn vf(index: Option<u16>) -> Inventory {
    let pf = nic("0000:02:00.0").with(|one| {
        one.netdevs = vec!["ens1f0".to_owned()];
        one.role = Role::Pf {
            total_vfs: 8,
            vfs: vec![at(NIC)],
        };
    });
    let vf = nic(NIC).with(|one| {
        one.role = Role::Vf {
            pf: at("0000:02:00.0"),
            index,
        };
    });
    inventory([pf, vf])
}

#[test]
fn each_term_says_what_the_function_is_instead() {
    let alone = || inventory([card()]);
    let id = || by_id("8086:10d3");
    let class = |text: &str| Term::Class(globs::<ClassPattern>(text));
    let vf_of = |vf: &str| Term::VfOf(globs("ens1f0"), Some(vf.parse().unwrap()));
    for (host, terms, failing, own) in [
        (alone(), vec![id(), by_node(1)], "numa=1", "it is on node 0"),
        (
            inventory([nic(NIC)]),
            vec![id(), by_node(1)],
            "numa=1",
            "its node is not known",
        ),
        (
            alone(),
            vec![by_id("10de:*"), by_address("01:00.0")],
            "id=10de:*",
            "it is 8086:10d3",
        ),
        (
            alone(),
            vec![id(), Term::Subsystem(globs("8086:a01f"))],
            "subsystem=8086:a01f",
            "its subsystem is 8086:0000",
        ),
        (
            inventory([nic(NIC).with(|one| one.subsystem = None)]),
            vec![id(), Term::Subsystem(globs("8086:a01f"))],
            "subsystem=8086:a01f",
            "it has no subsystem",
        ),
        (
            alone(),
            vec![id(), class("nvme")],
            "class=nvme",
            "its class is 020000",
        ),
        (
            alone(),
            vec![id(), Term::Kind(vec![Kind::Vf])],
            "kind=vf",
            "it has no SR-IOV",
        ),
        (
            alone(),
            vec![id(), Term::IommuGroup(vec![7])],
            "iommu_group=7",
            "it is in group 256",
        ),
        (
            inventory([nic(NIC).with(|one| one.iommu_group = None)]),
            vec![id(), Term::IommuGroup(vec![7])],
            "iommu_group=7",
            "it is in no IOMMU group",
        ),
        (
            alone(),
            vec![id(), by_address("02:00.0")],
            "address=0000:02:00.0",
            "it is at 0000:01:00.0",
        ),
        (
            alone(),
            vec![id(), Term::Path(globs("0000:00:02.0/*"))],
            "path=0000:00:02.0/*",
            "its path is 0000:00:01.0/00.0",
        ),
        (
            alone(),
            vec![id(), Term::Slot(globs("SLOT6"))],
            "slot=SLOT6",
            "its slot label is 'SLOT5'",
        ),
        (
            inventory([nic(NIC)]),
            vec![id(), Term::Slot(globs("SLOT6"))],
            "slot=SLOT6",
            "it has no slot label",
        ),
        (
            alone(),
            vec![id(), serial("00-12")],
            "serial=00-12",
            "its serial number is 00-11",
        ),
        (
            inventory([nic(NIC)]),
            vec![id(), serial("00-12")],
            "serial=00-12",
            "it has no serial number that can be read",
        ),
        (
            alone(),
            vec![id(), vf_of("0")],
            "vf_of=ens1f0 vf=0",
            "it is no VF",
        ),
        (
            vf(Some(3)),
            vec![id(), vf_of("0")],
            "vf_of=ens1f0 vf=0",
            "it is VF 3 of 0000:02:00.0 (ens1f0)",
        ),
        (
            vf(None),
            vec![id(), vf_of("0")],
            "vf_of=ens1f0 vf=0",
            "it is a VF of 0000:02:00.0 (ens1f0), and its number is not known yet",
        ),
    ] {
        let wanted = policy([("m", mapping(terms))]);
        let told = of_function(&host, &wanted, NIC);
        let seen = told.mappings.get("m").unwrap();
        assert_eq!(seen.relation, Relation::Near, "{failing}");
        let trial = seen.matches.first().unwrap();
        let term = trial.failing().unwrap();
        assert_eq!((term.term.as_str(), term.own.as_str()), (failing, own));
        // The mapping says the same of the function.
        let told = of_mapping(&host, &wanted, "m");
        let near = told.near.iter().find(|one| one.function.address == at(NIC));
        assert_eq!(near.unwrap().trial, *trial, "{failing}");
    }
}

#[test]
fn near_is_what_fails_in_one_term_that_says_no_more_than_the_others() {
    let class = || Term::Class(globs::<ClassPattern>("network"));
    let other = || by_id("10de:2684");
    for (terms, wanted) in [
        (vec![by_id("8086:10d3")], Outcome::Holds),
        // Any other card would be near.
        (vec![other()], Outcome::Fails),
        (vec![other(), by_node(0)], Outcome::Fails),
        (vec![other(), class()], Outcome::Fails),
        (vec![by_id("8086:10d3"), by_node(1)], Outcome::Near),
        (vec![class(), by_node(1)], Outcome::Near),
        (vec![other(), by_address("01:00.0")], Outcome::Near),
        (
            vec![by_id("8086:10d3"), by_node(1), by_address("09:00.0")],
            Outcome::Fails,
        ),
    ] {
        let host = inventory([card()]);
        let text = selector(terms.clone()).to_string();
        let told = of_function(&host, &policy([("m", mapping(terms))]), NIC);
        let seen = told.mappings.get("m").unwrap();
        assert_eq!(seen.matches.first().unwrap().outcome, wanted, "{text}");
    }
    // Before its serial number was read nobody can say.
    let blank = inventory([card().with(|one| one.inspection = None)]);
    let by_serial = || vec![by_id("8086:10d3"), serial("00-11")];
    let told = of_function(&blank, &policy([("m", mapping(by_serial()))]), NIC);
    let seen = told.mappings.get("m").unwrap();
    assert_eq!(seen.relation, Relation::Unknown);
    assert_eq!(seen.matches.first().unwrap().outcome, Outcome::Unknown);
    let told = of_mapping(&blank, &policy([("m", mapping(by_serial()))]), "m");
    assert_eq!(told.unknown, [at(NIC)]);
    assert_eq!(told.verdict, Verdict::Pending);
}

fn with(terms: Vec<Term>, change: impl FnOnce(&mut Mapping)) -> Mapping {
    let mut mapping = mapping(terms);
    change(&mut mapping);
    mapping
}

#[test]
fn a_function_is_matched_left_out_or_a_companion() {
    let exclude = |one: &mut Mapping| one.exclude = vec![selector(vec![by_node(0)])];
    let slot = |one: &mut Mapping| one.extent = Extent::Slot;
    let host = inventory([
        card(),
        nic("0000:01:00.1").with(|one| one.id = "8086:ffff".parse().unwrap()),
        nic("0000:02:00.0"),
    ]);
    let id = || vec![by_id("8086:10d3")];
    let wanted = policy([
        ("all", mapping(id())),
        ("first", with(id(), |one| one.take = Some(1))),
        (
            "many",
            with(id(), |one| one.expect = Expect { min: 9, max: None }),
        ),
        ("out", with(id(), exclude)),
        ("slot", with(id(), slot)),
        (
            "slot-out",
            with(id(), |one| {
                slot(one);
                one.exclude = vec![selector(vec![by_id("8086:ffff")])];
            }),
        ),
    ]);
    let seen = |address: &str, name: &str| {
        let told = of_function(&host, &wanted, address);
        let one = told.mappings.get(name).unwrap();
        (one.relation, one.standing, one.why.clone())
    };
    let take = "'take' is reached without it";
    let few = "2 functions match, at least 9 expected";
    for (address, name, relation, standing, why) in [
        (NIC, "all", Relation::Matched, Some(Standing::Chosen), ""),
        (NIC, "first", Relation::Matched, Some(Standing::Chosen), ""),
        (
            "0000:02:00.0",
            "first",
            Relation::Matched,
            Some(Standing::NotChosen),
            take,
        ),
        (
            NIC,
            "many",
            Relation::Matched,
            Some(Standing::NotChosen),
            few,
        ),
        (NIC, "out", Relation::Excluded, None, ""),
        ("0000:01:00.1", "all", Relation::Far, None, ""),
        (
            "0000:01:00.1",
            "slot",
            Relation::SameSlot,
            Some(Standing::Chosen),
            "",
        ),
        ("0000:01:00.1", "slot-out", Relation::Excluded, None, ""),
    ] {
        let found = seen(address, name);
        assert_eq!(
            found,
            (relation, standing, why.to_owned()),
            "{address} {name}"
        );
    }
    let told = of_mapping(&host, &wanted, "out");
    let out: Vec<_> = told
        .excluded
        .iter()
        .map(|one| (one.function.address, one.by.as_str()))
        .collect();
    assert_eq!(out, [(at(NIC), "numa=0")]);
    let told = of_mapping(&host, &wanted, "slot");
    let by: Vec<_> = told.candidates.iter().map(|one| one.by.as_str()).collect();
    assert_eq!(
        by,
        ["id=8086:10d3", "same slot as 0000:01:00.0", "id=8086:10d3"]
    );
    assert_eq!((told.count.matched, told.count.of.as_str()), (2, "slot"));
}

#[test]
fn protected_functions_and_overlaps_are_named() {
    let mut wanted = policy([
        ("a", mapping(vec![by_id("8086:10d3")])),
        (
            "b",
            with(vec![by_address("01:00.0")], |one| {
                one.group = GroupRule::Take
            }),
        ),
    ]);
    wanted.protect = vec![selector(vec![serial("00-*")]), selector(vec![by_node(4)])];
    let told = of_function(&inventory([card()]), &wanted, NIC);
    let protected: Vec<_> = told
        .protected
        .iter()
        .map(|one| one.selector.as_str())
        .collect();
    assert_eq!(protected, ["serial=00-*"]);
    let a = told.mappings.get("a").unwrap();
    let reasons: Vec<_> = a.against.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "is also in mapping 'b', which wants another group for it",
            "is in [protect]: serial=00-*"
        ]
    );
    assert_eq!(a.standing, Some(Standing::Refused));
    // What cannot be told apart from a protected one is said to be so.
    let blank = inventory([card().with(|one| one.inspection = None)]);
    let told = of_function(&blank, &wanted, NIC);
    assert_eq!(told.protected.first().unwrap().outcome, Outcome::Unknown);
}

#[test]
fn guards_say_their_evidence_and_who_lifts_them() {
    let host = inventory([nic(NIC)
        .driver("e1000e")
        .in_use(up("eth0"))
        .with(|one| one.boot_vga = true)]);
    let id = || vec![by_id("8086:10d3")];
    let allow = |one: &mut Mapping| one.allow = BTreeSet::from([Guard::Network]);
    let wanted = policy([
        ("no", with(vec![by_id("10de:*")], allow)),
        ("strict", mapping(id())),
        ("lax", with(id(), allow)),
    ]);
    let told = of_function(&host, &wanted, NIC);
    let guards: Vec<_> = told
        .guards
        .iter()
        .map(|one| {
            (
                one.guard.as_deref(),
                one.reason.as_str(),
                one.lifted_by.join(" "),
            )
        })
        .collect();
    assert_eq!(
        guards,
        [
            (
                Some("console"),
                "is the display that the host booted with (boot_vga)",
                String::new()
            ),
            (Some("network"), "is in use: eth0 is up", "lax".to_owned()),
        ]
    );
    let lax = told.mappings.get("lax").unwrap();
    let lifted: Vec<_> = lax
        .against
        .iter()
        .map(|one| (one.guard.as_deref(), one.lifted))
        .collect();
    let overlap = (None, false);
    assert_eq!(
        lifted,
        [overlap, (Some("console"), false), (Some("network"), true)]
    );
    assert_eq!(told.action, None);
}

#[test]
fn a_group_names_who_is_in_it_and_who_keeps_it() {
    let grouped = |function: Function| function.with(|one| one.iommu_group = Some(5));
    let host = inventory([
        grouped(nic(NIC)),
        grouped(nic("0000:02:00.0").driver("nvme").in_use(busy("nvme0n1"))),
        grouped(nic("0000:03:00.0").driver("pcieport").with(|one| {
            one.header = vfio_bindd::pci::function::Header::Bridge;
        })),
        grouped(nic("0000:04:00.0").driver("vfio-pci")),
        nic("0000:05:00.0").driver("nvme"),
    ]);
    let wanted = policy([("m", mapping(vec![by_address("0[14]:00.0")]))]);
    let told = of_function(&host, &wanted, NIC);
    let group = told.group.unwrap();
    let members: Vec<_> = group
        .members
        .iter()
        .map(|one| {
            let bus = one.function.address.bus();
            (bus, one.bridge, one.keeps_group, one.mappings.join(" "))
        })
        .collect();
    assert_eq!(group.number, 5);
    assert_eq!(
        members,
        [
            (2, false, true, String::new()),
            (3, true, false, String::new()),
            (4, false, false, "m".to_owned()),
        ]
    );
}

#[test]
fn what_would_be_done_and_what_is_left_over_is_said() {
    let host = inventory([
        nic(NIC).driver("e1000e"),
        nic("0000:02:00.0").driver("vfio-pci"),
    ]);
    let wanted = policy([("m", mapping(vec![by_address("01:00.0")]))]);
    let deed = of_function(&host, &wanted, NIC).action.unwrap();
    assert_eq!(
        (deed.driver.as_str(), deed.detach.as_deref()),
        ("vfio-pci", Some("e1000e"))
    );
    assert_eq!(of_mapping(&host, &wanted, "m").actions, [deed]);
    let held = Held::from([("old".to_owned(), BTreeSet::from([at("0000:02:00.0")]))]);
    let plan = plan(&host, &wanted, &held);
    let target = Target::Function(at("0000:02:00.0"));
    let Explanation::Function(told) = explain(&host, &wanted, &plan, &target).unwrap() else {
        panic!("a function was asked for");
    };
    assert!(told.left_over && told.action.is_none());
}

#[test]
fn settings_that_are_not_the_default_are_said() {
    let host = inventory([nic(NIC)]);
    let plain = policy([("m", mapping(vec![by_id("8086:*")]))]);
    assert!(of_mapping(&host, &plain, "m").settings.is_empty());
    let other = with(vec![by_id("8086:*")], |one| {
        one.extent = Extent::Slot;
        one.expect = Expect {
            min: 1,
            max: Some(1),
        };
        one.take = Some(3);
        one.detach = vfio_bindd::policy::model::Detach::Never;
        one.group = GroupRule::Take;
        one.driver = vfio_bindd::policy::model::DriverChoice::Auto;
        one.allow = BTreeSet::from([Guard::Usb, Guard::Tpm]);
        one.partial = true;
    });
    let told = of_mapping(&host, &policy([("m", other)]), "m");
    let settings: Vec<_> = told
        .settings
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(
        settings,
        [
            "allow=usb, tpm",
            "detach=never",
            "driver=auto",
            "expect=exactly 1",
            "functions=slot",
            "group=take",
            "partial=true",
            "take=3"
        ]
    );
}

#[test]
fn what_is_not_there_is_named() {
    let host = inventory([nic(NIC)]);
    let wanted = policy([("aa", mapping(vec![by_id("8086:*")]))]);
    let plan = plan(&host, &wanted, &Held::new());
    for (target, text) in [
        ("bb", "no mapping is named 'bb'; there are: aa"),
        ("0f:00.0", "no PCI function is at 0000:0f:00.0"),
    ] {
        let error = explain(&host, &wanted, &plan, &target.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    for text in ["0f:00", ":", "0000:0f:00.9"] {
        assert!(text.parse::<Target>().is_err(), "{text}");
    }
}
