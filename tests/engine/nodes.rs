//! Whose the nodes are: before a mapping is told as bound, and as long as it is.

use std::time::Duration;

use vfio_bindd::{
    engine::{
        event::{Event, Owned},
        report::Report,
        snapshot::{DaemonState, FunctionState, MappingState},
        state::State,
    },
    policy::{
        model::{Mapping, Policy},
        ownership::Ownership,
        plan::Verdict,
        resolve::Held,
    },
};

use crate::{
    drive::Drive as _,
    host::{A, B, Host},
    support::{FunctionExt as _, at, by_address, by_id, mapping, nic, planned, policy},
};

fn wish(owner: &str, group: &str, mode: &str) -> Ownership {
    let account = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    Ownership {
        owner: account(owner),
        group: account(group),
        mode: (!mode.is_empty()).then(|| mode.parse().unwrap()),
    }
}

fn owned(mapping: Mapping, ownership: Ownership) -> Mapping {
    Mapping {
        ownership,
        ..mapping
    }
}

/// All NICs, for the user that microVMs run as.
fn for_microvms() -> Policy {
    let all = mapping(vec![by_id("8086:10d3")]);
    policy([("m", owned(all, wish("microvm", "kvm", "0660")))])
}

#[test]
fn udev_knows_before_anything_is_bound_and_nothing_is_told_as_bound_before_it_is_so() {
    let mut host = Host::new([nic(A).driver("e1000e"), nic(B)]);
    host.hang_nodes.insert(at(B));
    host.start(&for_microvms());
    assert_eq!(host.order.first().map(String::as_str), Some("rules"));
    let group = host.inventory.get(at(A)).unwrap().iommu_group.unwrap();
    let wanted = wish("microvm", "kvm", "0660");
    assert_eq!(host.rules.groups.get(&group), Some(&wanted));
    assert_eq!(host.rules.functions.len(), 2);
    // Both are bound, and one of the nodes is not handed over. How far work is, is
    // told by and by.
    host.wait(Duration::from_secs(2));
    assert_eq!(host.mapping().0, MappingState::Pending);
    assert_eq!(
        host.snapshot().mappings["m"].reason,
        format!("{B} is bound, and its nodes get owner microvm, group kvm, mode 0660")
    );
    assert_eq!(host.snapshot().state, DaemonState::Starting);
    assert_eq!(
        host.snapshot().functions[&at(A)].state,
        FunctionState::Bound
    );
    assert_eq!(
        host.snapshot().functions[&at(B)].state,
        FunctionState::Pending
    );
    host.hang_nodes.clear();
    host.event(Event::Owned(at(B), Owned::Set(Vec::new())));
    assert_eq!(host.mapping(), (MappingState::Bound, format!("{A} {B}")));
    assert_eq!(host.snapshot().state, DaemonState::Ready);
}

#[test]
fn what_is_bound_already_gets_its_owner_too() {
    let mut host = Host::new([nic(A).driver("vfio-pci")]);
    host.start(&for_microvms());
    assert_eq!(host.mapping(), (MappingState::Bound, A.to_owned()));
    assert_eq!(host.order, ["rules", &format!("own {A}")]);
    let told = host.reports.iter();
    let told = told.filter(|one| matches!(one, Report::Owned { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn without_a_wish_nothing_is_touched() {
    let mut host = Host::new([nic(A).driver("vfio-pci"), nic(B)]);
    host.start(&policy([("m", mapping(vec![by_id("8086:10d3")]))]));
    host.event(Event::Audit);
    assert_eq!(host.order, ["rules", &format!("bind {B}")]);
    assert!(host.rules.groups.is_empty() && host.rules.functions.is_empty());
}

#[test]
fn a_dry_run_leaves_nothing_and_waits_for_nobody() {
    let mut host = Host::new([nic(A).driver("vfio-pci")]);
    host.engine.state = State::new(Held::new(), true);
    host.start(&for_microvms());
    assert!(host.order.is_empty(), "{:?}", host.order);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn an_audit_looks_again_without_a_word() {
    let mut host = Host::new([nic(A)]);
    host.start(&for_microvms());
    let generation = host.snapshot().generation;
    host.order.clear();
    host.event(Event::Audit);
    assert_eq!(host.order, [format!("own {A}")]);
    assert_eq!(host.snapshot().generation, generation);
    // Somebody had changed it.
    host.nodes.clear();
    host.event(Event::Audit);
    assert_eq!(host.nodes.len(), 1);
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_function_that_goes_and_comes_is_no_less_its_owners() {
    let mut host = Host::new([nic(A)]);
    host.start(&for_microvms());
    let gone = host.inventory.remove(at(A)).unwrap();
    host.event(Event::Removed(at(A)));
    assert!(host.rules.functions.is_empty());
    host.nodes.clear();
    host.order.clear();
    host.inventory.insert(gone.with(|one| one.driver = None));
    host.hang_nodes.insert(at(A));
    host.event(Event::Changed(at(A)));
    let wanted = ["rules", &format!("bind {A}"), &format!("own {A}")];
    assert_eq!(host.order, wanted);
    host.wait(Duration::from_secs(2));
    assert_eq!(host.mapping().0, MappingState::Pending);
}

#[test]
fn a_user_who_is_not_there_is_a_reason_until_he_is() {
    let mut host = Host::new([nic(A), nic(B)]);
    let why = "there is no user \"microvm\" in /etc/passwd".to_owned();
    host.strangers.insert(at(A), why.clone());
    host.start(&for_microvms());
    assert_eq!(host.mapping().0, MappingState::Failed);
    assert_eq!(
        host.snapshot().mappings["m"].reason,
        format!("{A} is bound, and its nodes are not owner microvm, group kvm, mode 0660: {why}")
    );
    // Nobody waits for him at boot.
    assert_eq!(host.snapshot().state, DaemonState::Degraded);
    host.strangers.clear();
    host.wait(Duration::from_secs(5));
    assert_eq!(host.mapping().0, MappingState::Bound);
}

#[test]
fn a_reload_hands_nodes_over_anew() {
    let mut host = Host::new([nic(A)]);
    host.start(&for_microvms());
    let mut other = for_microvms();
    other.mappings.get_mut("m").unwrap().ownership = wish("other", "", "");
    host.start(&other);
    assert_eq!(host.nodes[&at(A)], wish("other", "", ""));
    assert_eq!(host.mapping().0, MappingState::Bound);
    // What was wanted is left alone, and udev sets it no more.
    host.start(&policy([("m", mapping(vec![by_id("8086:10d3")]))]));
    assert_eq!(host.nodes[&at(A)], wish("other", "", ""));
    assert!(host.rules.groups.is_empty());
}

#[test]
fn one_group_has_one_node() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let two = |first: Ownership, second: Ownership| {
        policy([
            ("a", owned(mapping(vec![by_address(A)]), first)),
            ("b", owned(mapping(vec![by_address(B)]), second)),
        ])
    };
    let host = [grouped(A), grouped(B)].into_iter().collect();
    // What they want adds up, and who wants nothing has nothing against it.
    let plan = planned(
        &host,
        &two(wish("microvm", "", ""), wish("", "kvm", "0640")),
    );
    let both = wish("microvm", "kvm", "0640");
    assert_eq!(plan.nodes[&at(A)], both);
    assert_eq!(plan.nodes[&at(B)], both);
    let plan = planned(&host, &two(wish("microvm", "", ""), Ownership::default()));
    assert_eq!(plan.nodes.keys().copied().collect::<Vec<_>>(), [at(A)]);
    // Otherwise both are refused, each naming the other.
    let plan = planned(&host, &two(wish("a", "kvm", ""), wish("b", "kvm", "")));
    for (name, address, other) in [("a", A, "b"), ("b", B, "a")] {
        let mapping = &plan.mappings[name];
        assert_eq!(mapping.verdict, Verdict::Refused);
        assert_eq!(
            mapping.reason,
            format!(
                "{address} shares /dev/vfio/7 with mapping '{other}', which wants another owner \
                 for it"
            )
        );
    }
    assert!(plan.nodes.is_empty() && plan.actions.is_empty());
    // In groups of their own they may differ.
    let apart = [nic(A), nic(B)].into_iter().collect();
    let plan = planned(&apart, &two(wish("a", "", ""), wish("b", "", "")));
    assert_eq!(plan.nodes[&at(A)], wish("a", "", ""));
    assert_eq!(plan.nodes[&at(B)], wish("b", "", ""));
}

#[test]
fn who_wants_nothing_of_a_shared_node_does_not_wait_for_who_does() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let mut host = Host::new([grouped(A), grouped(B)]);
    host.strangers.insert(at(B), "nobody is there".to_owned());
    let theirs = owned(mapping(vec![by_address(B)]), wish("ghost", "", ""));
    host.start(&policy([
        ("m", mapping(vec![by_address(A)])),
        ("theirs", theirs),
    ]));
    assert_eq!(host.mapping(), (MappingState::Bound, A.to_owned()));
    assert_eq!(
        host.snapshot().mappings["theirs"].state,
        MappingState::Failed
    );
}

#[test]
fn many_nodes_are_seen_to_a_few_at_a_time() {
    let many: Vec<_> = (1..=20).map(|bus| format!("0000:{bus:02x}:00.0")).collect();
    let mut host = Host::new(many.iter().map(|one| nic(one).driver("vfio-pci")));
    host.hang_nodes.extend(many.iter().map(|one| at(one)));
    host.start(&for_microvms());
    assert_eq!(host.hanging.len(), 8);
    assert_eq!(host.snapshot().state, DaemonState::Starting);
}
