//! What the tests share: functions and mappings made by hand.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part; a test says no by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};

use vfio_bindd::{
    engine::event::Outcome,
    pci::{
        address::Address,
        function::{Function, Header, Inspection, Role},
        id::ClassCode,
        inventory::Inventory,
        usage::Fact,
    },
    policy::{
        knobs::Knobs,
        model::{Detach, DriverChoice, Expect, Extent, GroupRule, Mapping, Policy},
        ownership::Ownership,
        pattern::{AddressPattern, IdPattern, NumaPattern},
        plan::{Action, Plan, Verdict, plan},
        resolve::Held,
        selector::{Selector, Term},
    },
};

pub(crate) fn at(text: &str) -> Address {
    text.parse().unwrap()
}

/// A driverless Intel NIC in an IOMMU group of its own, inspected.
pub(crate) fn nic(address: &str) -> Function {
    let address = at(address);
    let group = u32::from(address.bus()) * 256
        + u32::from(address.device()) * 8
        + u32::from(address.function());
    Function {
        address,
        id: "8086:10d3".parse().unwrap(),
        subsystem: Some("8086:0000".parse().unwrap()),
        class: ClassCode::new(0x02_0000),
        revision: 0,
        header: Header::Endpoint,
        numa_node: None,
        iommu_group: Some(group),
        driver: None,
        role: Role::Plain,
        boot_vga: false,
        path: format!("0000:00:{:02x}.0/00.{}", address.bus(), address.function()),
        slot_name: None,
        slot_label: None,
        netdevs: Vec::new(),
        reset_methods: Vec::new(),
        modalias: String::new(),
        inspection: Some(Inspection::default()),
    }
}

pub(crate) trait FunctionExt: Sized {
    fn with(self, change: impl FnOnce(&mut Function)) -> Function;
    fn driver(self, name: &str) -> Function;
    fn in_use(self, fact: Fact) -> Function;
}

impl FunctionExt for Function {
    fn with(mut self, change: impl FnOnce(&mut Function)) -> Function {
        change(&mut self);
        self
    }

    fn driver(self, name: &str) -> Function {
        self.with(|function| function.driver = Some(name.to_owned()))
    }

    fn in_use(self, fact: Fact) -> Function {
        self.with(|function| {
            let inspection = function.inspection.get_or_insert_default();
            inspection.usage = vec![fact];
        })
    }
}

/// An interface that is up.
pub(crate) fn up(interface: &str) -> Fact {
    Fact::LinkUp {
        interface: interface.to_owned(),
    }
}

/// A disk that cannot be opened exclusively.
pub(crate) fn busy(disk: &str) -> Fact {
    Fact::DiskHeld {
        disk: disk.to_owned(),
        error: "device or resource busy".to_owned(),
    }
}

pub(crate) fn by_id(id: &str) -> Term {
    Term::Id(vec![id.parse::<IdPattern>().unwrap()])
}

pub(crate) fn by_address(glob: &str) -> Term {
    Term::Address(vec![glob.parse::<AddressPattern>().unwrap()])
}

pub(crate) fn by_node(node: u32) -> Term {
    Term::Numa(vec![NumaPattern::Node(node)])
}

pub(crate) fn selector(terms: Vec<Term>) -> Selector {
    Selector::new(terms).unwrap()
}

/// A mapping of one selector with these terms and all defaults.
pub(crate) fn mapping(terms: Vec<Term>) -> Mapping {
    Mapping {
        description: String::new(),
        matches: vec![selector(terms)],
        exclude: Vec::new(),
        extent: Extent::Matched,
        expect: Expect::default(),
        take: None,
        preference: vfio_bindd::policy::placement::Preference::default(),
        driver: DriverChoice::VfioPci,
        detach: Detach::Idle,
        group: GroupRule::Refuse,
        allow: BTreeSet::new(),
        partial: false,
        ownership: Ownership::default(),
        knobs: Knobs::default(),
        proxmox: None,
    }
}

pub(crate) fn policy<const N: usize>(mappings: [(&str, Mapping); N]) -> Policy {
    Policy {
        mappings: mappings
            .into_iter()
            .map(|(name, mapping)| (name.to_owned(), mapping))
            .collect::<BTreeMap<_, _>>(),
        protect: Vec::new(),
        proxmox: vfio_bindd::policy::model::Proxmox::default(),
        sriov: BTreeMap::new(),
    }
}

pub(crate) fn inventory<const N: usize>(functions: [Function; N]) -> Inventory {
    functions.into_iter().collect()
}

pub(crate) fn planned(inventory: &Inventory, policy: &Policy) -> Plan {
    plan(inventory, policy, &Held::new())
}

pub(crate) fn bound_by(plan: &Plan) -> Vec<Address> {
    plan.actions.iter().map(|action| action.address).collect()
}

/// How an action ends that works, for a function that `from` had.
pub(crate) fn bound(action: &Action, from: Option<String>) -> Outcome {
    Outcome::Bound {
        from,
        driver: action.driver.clone(),
        fallback: None,
    }
}

pub(crate) fn refusal(inventory: &Inventory, policy: &Policy) -> String {
    let plan = planned(inventory, policy);
    let mapping = plan.mappings.get("m").unwrap();
    assert_eq!(mapping.verdict, Verdict::Refused, "{plan:?}");
    assert_eq!(plan.actions, []);
    mapping.reason.clone()
}
