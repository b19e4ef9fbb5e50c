//! The planner's promises about IOMMU groups.

mod support;

use std::collections::BTreeSet;

use support::{
    FunctionExt as _, at, bound_by, busy, by_address, by_id, inventory, mapping, nic, planned,
    policy, refusal, selector, up,
};
use vfio_bindd::{
    pci::function::{Header, Inspection},
    policy::{
        model::{Detach, GroupRule},
        plan::Verdict,
    },
};

#[test]
fn a_companion_with_a_native_driver_refuses_its_group() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let m = mapping(vec![by_address("01:00.0")]);
    let wanted = grouped("0000:01:00.0");
    let bridge = grouped("0000:00:01.0")
        .driver("pcieport")
        .with(|one| one.header = Header::Bridge);
    let host = inventory([wanted.clone(), bridge.clone(), grouped("0000:01:00.1")]);
    assert_eq!(planned(&host, &policy([("m", m.clone())])).actions.len(), 1);
    let spoiled = inventory([wanted, bridge, grouped("0000:01:00.1").driver("ahci")]);
    let reason = refusal(&spoiled, &policy([("m", m.clone())]));
    assert!(
        reason.contains("shares IOMMU group 7 with 0000:01:00.1, which ahci holds"),
        "{reason}"
    );
    // Another mapping that takes the companion makes the group whole ...
    let other = mapping(vec![by_address("01:00.1")]);
    let both = planned(&spoiled, &policy([("m", m.clone()), ("o", other.clone())]));
    assert_eq!(both.actions.len(), 2);
    // ... unless it is refused itself.
    let mut never = other;
    never.detach = Detach::Never;
    let fallen = planned(&spoiled, &policy([("m", m), ("o", never)]));
    assert_eq!(fallen.actions, []);
}

#[test]
fn what_a_partial_mapping_passes_over_spoils_its_group() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let used = grouped("0000:01:00.1").driver("ahci");
    let host = inventory([
        grouped("0000:01:00.0"),
        used.in_use(busy("sda")),
        nic("0000:02:00.0"),
    ]);
    let mut pool = mapping(vec![by_id("8086:10d3")]);
    pool.partial = true;
    let alone = planned(&host, &policy([("m", pool.clone())]));
    assert_eq!(bound_by(&alone), [at("0000:02:00.0")]);
    assert_eq!(alone.mappings["m"].refusals.len(), 2);
    // It is the same for a mapping of the other half alone.
    let half = mapping(vec![by_address("01:00.0")]);
    let both = planned(&host, &policy([("m", pool), ("half", half)]));
    assert_eq!(bound_by(&both), [at("0000:02:00.0")]);
    assert_eq!(both.mappings["half"].verdict, Verdict::Refused);
}

#[test]
fn a_group_waits_until_all_of_it_was_inspected() {
    let grouped = |one: &str| {
        nic(one)
            .driver("e1000e")
            .with(|one| one.iommu_group = Some(7))
    };
    let blank = grouped("0000:01:00.1").with(|one| one.inspection = None);
    let mut host = inventory([grouped("0000:01:00.0"), blank]);
    let policy = policy([
        ("half", mapping(vec![by_address("01:00.0")])),
        ("other", mapping(vec![by_address("01:00.1")])),
    ]);
    let early = planned(&host, &policy);
    assert_eq!(early.actions, []);
    assert_eq!(early.mappings["half"].verdict, Verdict::Pending);
    assert_eq!(early.inspect, BTreeSet::from([at("0000:01:00.1")]));
    host.insert(grouped("0000:01:00.1"));
    assert_eq!(planned(&host, &policy).actions.len(), 2);
    host.insert(grouped("0000:01:00.1").in_use(up("enp1s0f1")));
    let late = planned(&host, &policy);
    assert_eq!(late.actions, []);
    assert_eq!(late.mappings["half"].verdict, Verdict::Refused);
}

#[test]
fn a_bridge_whose_driver_keeps_the_group_refuses_it() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let bridge = |driver: &str| {
        grouped("0000:00:01.0")
            .driver(driver)
            .with(|one| one.header = Header::Bridge)
    };
    let policy = policy([("nic", mapping(vec![by_address("0000:01:00.0")]))]);
    let fine = inventory([grouped("0000:01:00.0"), bridge("pcieport")]);
    assert_eq!(planned(&fine, &policy).actions.len(), 1);
    let kept = inventory([grouped("0000:01:00.0"), bridge("shpchp")]);
    assert_eq!(
        planned(&kept, &policy).mappings["nic"].reason,
        "0000:01:00.0 shares IOMMU group 7 with the bridge 0000:00:01.0, which shpchp holds; vfio \
         cannot open the group unless it is unbound from shpchp"
    );
}

#[test]
fn companions_are_taken_where_the_mapping_says_so() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let bridge = grouped("0000:00:01.0").with(|one| one.header = Header::Bridge);
    let mut nic = mapping(vec![by_address("0000:01:00.0")]);
    nic.group = GroupRule::Take;
    nic.expect.max = Some(1);
    let wanted = policy([("nic", nic)]);
    let host = inventory([
        bridge.clone(),
        grouped("0000:01:00.0"),
        grouped("0000:01:00.1").driver("e1000e"),
        grouped("0000:01:00.2"),
    ]);
    let plan = planned(&host, &wanted);
    let chosen: Vec<_> = plan.mappings["nic"]
        .functions
        .iter()
        .map(|one| (one.address.to_string(), one.companion))
        .collect();
    assert_eq!(
        chosen,
        [
            ("0000:01:00.0".to_owned(), false),
            ("0000:01:00.1".to_owned(), true),
            ("0000:01:00.2".to_owned(), true)
        ]
    );
    assert_eq!(plan.actions.len(), 3);
    assert_eq!(plan.actions[1].detach.as_deref(), Some("e1000e"));

    // The same guards hold for them, and the whole group stays then.
    let used = grouped("0000:01:00.1")
        .driver("e1000e")
        .in_use(up("enp1s0f1"));
    let host = inventory([bridge.clone(), grouped("0000:01:00.0"), used.clone()]);
    let plan = planned(&host, &wanted);
    assert_eq!(
        plan.mappings["nic"].reason,
        "0000:01:00.1 is in use: enp1s0f1 is up (same IOMMU group as 0000:01:00.0); \
         allow = [\"network\"] would lift this"
    );
    assert_eq!(plan.actions, []);

    // With partial nothing of it is left half taken.
    let mut partial = wanted.clone();
    partial.mappings.get_mut("nic").unwrap().partial = true;
    let host = inventory([
        bridge,
        grouped("0000:01:00.0"),
        used,
        grouped("0000:01:00.2"),
    ]);
    let plan = planned(&host, &partial);
    assert_eq!(plan.actions, []);
    let refused: Vec<_> = plan.mappings["nic"]
        .refusals
        .iter()
        .map(|one| one.address.to_string())
        .collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
}

#[test]
fn a_companion_that_another_mapping_chose_stays_its_own() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let mut first = mapping(vec![by_address("0000:01:00.0")]);
    first.group = GroupRule::Take;
    let second = mapping(vec![by_address("0000:01:00.1")]);
    let host = inventory([grouped("0000:01:00.0"), grouped("0000:01:00.1")]);
    let plan = planned(&host, &policy([("first", first), ("second", second)]));
    assert_eq!(plan.mappings["first"].functions.len(), 1);
    assert_eq!(plan.actions.len(), 2);
    assert_eq!(plan.actions[1].mappings, ["second"]);
}

#[test]
fn a_companion_that_is_excluded_stays_with_the_host() {
    let grouped = |one: &str| nic(one).with(|one| one.iommu_group = Some(7));
    let mut wanted = mapping(vec![by_address("0000:01:00.0")]);
    wanted.group = GroupRule::Take;
    wanted.exclude = vec![selector(vec![by_address("0000:01:00.1")])];
    let policy = policy([("m", wanted)]);
    let idle = inventory([grouped("0000:01:00.0"), grouped("0000:01:00.1")]);
    assert_eq!(bound_by(&planned(&idle, &policy)), [at("0000:01:00.0")]);
    let held = grouped("0000:01:00.1").driver("e1000e");
    let reason = refusal(&inventory([grouped("0000:01:00.0"), held]), &policy);
    assert!(
        reason.contains("shares IOMMU group 7 with 0000:01:00.1"),
        "{reason}"
    );
}

#[test]
fn groups_that_vfio_cannot_use_are_refused() {
    let policy = policy([("nic", mapping(vec![by_address("0000:01:00.0")]))]);
    let with = |change: &dyn Fn(&mut Inspection)| {
        let function =
            nic("0000:01:00.0").with(|one| change(one.inspection.get_or_insert_default()));
        let plan = planned(&inventory([function]), &policy);
        assert_eq!(plan.actions, []);
        plan.mappings["nic"].reason.clone()
    };
    let reason = with(&|one| one.direct_regions = vec!["0xbdf6f000-0xbdf8dfff".to_owned()]);
    assert!(reason.contains("(0xbdf6f000-0xbdf8dfff, RMRR)"), "{reason}");
    let reason = with(&|one| one.no_iommu = true);
    assert!(reason.contains("no-IOMMU mode"), "{reason}");
}
