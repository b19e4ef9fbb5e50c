//! The planner's promises, as tables of hosts made by hand.

#![expect(clippy::indexing_slicing, reason = "a test says no by a panic")]

mod support;

use std::collections::BTreeSet;

use support::{
    FunctionExt as _, at, bound_by, busy, by_address, by_id, by_node, inventory, mapping, nic,
    planned, policy, refusal, selector, up,
};
use vfio_bindd::{
    pci::{
        function::{Header, Role},
        id::ClassCode,
        inventory::Inventory,
        usage::Fact,
    },
    policy::{
        guard::Guard,
        model::{Detach, Expect, Extent},
        plan::{Plan, Verdict, plan},
        resolve::Held,
        selector::Term,
    },
};

fn functions(plan: &Plan, name: &str) -> Vec<String> {
    let chosen = &plan.mappings[name].functions;
    chosen.iter().map(|one| one.address.to_string()).collect()
}

/// A policy with the one mapping `m`, and what becomes of it on `inventory`.
#[test]
fn of_three_twins_the_one_on_the_wanted_node_is_bound() {
    let host = inventory([
        nic("0000:01:00.0").driver("e1000e"),
        nic("0000:02:00.0").driver("e1000e"),
        nic("0000:41:00.0")
            .driver("e1000e")
            .with(|one| one.numa_node = Some(1)),
    ]);
    let plan = planned(
        &host,
        &policy([("m", mapping(vec![by_id("8086:10d3"), by_node(1)]))]),
    );
    assert_eq!(bound_by(&plan), [at("0000:41:00.0")]);
    assert_eq!(plan.actions[0].detach.as_deref(), Some("e1000e"));
    assert_eq!(plan.actions[0].why, "id=8086:10d3 numa=1");
}

#[test]
fn an_unknown_node_matches_no_number() {
    let host = inventory([nic("0000:01:00.0")]);
    let plan = planned(&host, &policy([("m", mapping(vec![by_node(0)]))]));
    assert_eq!(plan.mappings["m"].verdict, Verdict::Absent);
    assert_eq!(
        plan.mappings["m"].reason,
        "no function matches, at least 1 expected"
    );
}

#[test]
fn a_mapping_is_all_or_nothing_unless_partial() {
    let mut host = inventory([
        nic("0000:01:00.0"),
        nic("0000:02:00.0").driver("e1000e").in_use(up("enp2s0")),
    ]);
    let mut both = mapping(vec![by_id("8086:10d3")]);
    let reason = refusal(&host, &policy([("m", both.clone())]));
    assert_eq!(
        reason,
        "0000:02:00.0 is in use: enp2s0 is up; allow = [\"network\"] would lift this"
    );
    both.partial = true;
    // Two reasons are one function all the same.
    let used = host.get_mut(at("0000:02:00.0")).unwrap();
    let inspection = used.inspection.get_or_insert_default();
    inspection.usage.push(busy("nvme0n1"));
    let plan = planned(&host, &policy([("m", both)]));
    assert_eq!(bound_by(&plan), [at("0000:01:00.0")]);
    assert_eq!(plan.mappings["m"].refusals.len(), 2);
    assert_eq!(plan.mappings["m"].passed_over(), 1);
}

#[test]
fn what_was_seen_counts_without_a_driver_for_displays_only() {
    let console = Fact::ConsoleFramebuffer {
        framebuffer: "BOOTFB".to_owned(),
    };
    let function = nic("0000:02:00.0").in_use(console);
    let policy = policy([("m", mapping(vec![by_id("8086:10d3")]))]);
    let plan = planned(&inventory([function.clone()]), &policy);
    assert_eq!(plan.actions.len(), 1);
    let display = function.with(|one| one.class = ClassCode::new(0x03_0000));
    assert_eq!(
        refusal(&inventory([display]), &policy),
        "0000:02:00.0 is in use: the console is drawn on BOOTFB; allow = [\"console\"] would \
         lift this"
    );
}

#[test]
fn allow_lifts_the_named_guard_and_only_there() {
    let host = inventory([nic("0000:02:00.0").driver("e1000e").in_use(up("enp2s0"))]);
    let mut allowed = mapping(vec![by_id("8086:10d3")]);
    allowed.allow = BTreeSet::from([Guard::Network]);
    let plan = planned(&host, &policy([("m", allowed.clone())]));
    assert_eq!(plan.mappings["m"].verdict, Verdict::Ready);
    assert_eq!(plan.mappings["m"].lifted.len(), 1);
    assert_eq!(plan.actions[0].allow, BTreeSet::from(["network"]));
    allowed.allow = BTreeSet::from([Guard::Storage]);
    refusal(&host, &policy([("m", allowed)]));
}

#[test]
fn expect_and_take_count_functions_or_slots() {
    let host = inventory([
        nic("0000:01:00.0"),
        nic("0000:01:00.1"),
        nic("0000:02:00.0"),
        nic("0000:02:00.1"),
    ]);
    let mut pool = mapping(vec![by_id("8086:10d3")]);
    pool.extent = Extent::Slot;
    pool.expect = Expect {
        min: 2,
        max: Some(2),
    };
    pool.take = Some(1);
    let plan = planned(&host, &policy([("m", pool.clone())]));
    assert_eq!(functions(&plan, "m"), ["0000:01:00.0", "0000:01:00.1"]);
    pool.extent = Extent::Matched;
    let reason = refusal(&host, &policy([("m", pool)]));
    assert_eq!(reason, "4 functions match, exactly 2 expected");
}

#[test]
fn a_slot_brings_its_other_functions_but_not_excluded_ones() {
    let audio = |one: &str| nic(one).with(|one| one.class = ClassCode::new(0x04_0300));
    let host = inventory([
        nic("0000:01:00.0").with(|one| one.class = ClassCode::new(0x03_0200)),
        audio("0000:01:00.1"),
        audio("0000:01:00.2"),
    ]);
    let mut gpu = mapping(vec![Term::Class(vec!["3d".parse().unwrap()])]);
    gpu.extent = Extent::Slot;
    gpu.exclude = vec![selector(vec![by_address("01:00.2")])];
    let plan = planned(&host, &policy([("m", gpu)]));
    assert_eq!(functions(&plan, "m"), ["0000:01:00.0", "0000:01:00.1"]);
    assert_eq!(
        plan.mappings["m"].functions[1].why,
        "same slot as 0000:01:00.0"
    );
}

#[test]
fn a_slot_waits_for_the_serials_that_exclude_asks_for() {
    let blank = |one: &str| nic(one).with(|one| one.inspection = None);
    let other = |one: &str| blank(one).with(|one| one.id = "8086:1533".parse().unwrap());
    let mut host = inventory([nic("0000:01:00.0"), other("0000:01:00.1")]);
    let mut card = mapping(vec![by_id("8086:10d3")]);
    card.extent = Extent::Slot;
    card.exclude = vec![selector(vec![Term::Serial(vec!["48-b0".parse().unwrap()])])];
    let policy = policy([("m", card)]);
    let early = planned(&host, &policy);
    assert_eq!(early.mappings["m"].verdict, Verdict::Pending);
    assert_eq!(early.inspect, BTreeSet::from([at("0000:01:00.1")]));
    assert_eq!(early.actions, []);
    host.insert(other("0000:01:00.1").with(|one| {
        one.inspection.get_or_insert_default();
    }));
    let later = planned(&host, &policy);
    assert_eq!(functions(&later, "m"), ["0000:01:00.0", "0000:01:00.1"]);
}

#[test]
fn what_a_mapping_holds_stays_when_a_newcomer_sorts_first() {
    let host = inventory([nic("0000:01:00.0"), nic("0000:02:00.0").driver("vfio-pci")]);
    let mut one = mapping(vec![by_id("8086:10d3")]);
    one.take = Some(1);
    let policy = policy([("m", one)]);
    let fresh = planned(&host, &policy);
    assert_eq!(functions(&fresh, "m"), ["0000:01:00.0"]);
    let held = Held::from([("m".to_owned(), BTreeSet::from([at("0000:02:00.0")]))]);
    let later = plan(&host, &policy, &held);
    assert_eq!(functions(&later, "m"), ["0000:02:00.0"]);
    assert_eq!(later.actions, []);
}

#[test]
fn a_function_that_nobody_wants_any_more_is_left_over() {
    let host = inventory([nic("0000:02:00.0").driver("vfio-pci")]);
    let held = Held::from([("gone".to_owned(), BTreeSet::from([at("0000:02:00.0")]))]);
    let plan = plan(&host, &policy([]), &held);
    assert_eq!(plan.left_over, [at("0000:02:00.0")]);
    assert_eq!(plan.actions, []);
}

#[test]
fn overlaps_with_equal_settings_are_views_and_others_refuse_both() {
    let host = inventory([nic("0000:01:00.0")]);
    let one = mapping(vec![by_id("8086:10d3")]);
    let mut other = mapping(vec![by_address("01:00.0")]);
    let same = planned(&host, &policy([("a", one.clone()), ("b", other.clone())]));
    assert_eq!(same.actions.len(), 1);
    assert_eq!(same.actions[0].mappings, ["a", "b"]);
    other.detach = Detach::Never;
    let differ = planned(&host, &policy([("a", one), ("b", other)]));
    assert_eq!(differ.actions, []);
    assert!(differ.mappings["a"].reason.contains("also in mapping 'b'"));
    assert!(differ.mappings["b"].reason.contains("also in mapping 'a'"));
}

#[test]
fn what_is_never_taken() {
    let any = policy([("m", mapping(vec![by_address("01:00.0")]))]);
    let function = || nic("0000:01:00.0");
    for (host, wanted) in [
        (
            function().with(|one| one.header = Header::Bridge),
            "is a bridge",
        ),
        (
            function().with(|one| one.class = ClassCode::new(0x06_0100)),
            "host or ISA bridge",
        ),
        (
            function().with(|one| one.class = ClassCode::new(0x0c_0500)),
            "SMBus",
        ),
        (function().with(|one| one.boot_vga = true), "boot_vga"),
        (
            function().with(|one| one.iommu_group = None),
            "no IOMMU group",
        ),
        (
            function().with(|one| {
                one.inspection.get_or_insert_default().driver_override = Some("none".to_owned());
            }),
            "driver override 'none'",
        ),
        (
            function().with(|one| {
                let vfs = vec![at("0000:01:10.0")];
                one.role = Role::Pf { total_vfs: 4, vfs };
            }),
            "PF with 1 VFs",
        ),
        (
            function().driver("mlx5_vfio_pci"),
            "is bound to mlx5_vfio_pci already",
        ),
    ] {
        let reason = refusal(&inventory([host]), &any);
        assert!(reason.contains(wanted), "{reason}");
    }
}

#[test]
fn protect_beats_every_mapping() {
    let host = inventory([nic("0000:01:00.0")]);
    let mut policy = policy([("m", mapping(vec![by_id("8086:10d3")]))]);
    policy.protect = vec![selector(vec![by_address("01:00.*")])];
    let reason = refusal(&host, &policy);
    assert_eq!(reason, "0000:01:00.0 is in [protect]: address=0000:01:00.*");
}

#[test]
fn nothing_is_done_before_it_was_inspected() {
    let blank = |one: &str| nic(one).with(|one| one.inspection = None);
    let host = inventory([blank("0000:01:00.0"), nic("0000:02:00.0")]);
    let plan = planned(&host, &policy([("m", mapping(vec![by_id("8086:10d3")]))]));
    assert_eq!(plan.mappings["m"].verdict, Verdict::Pending);
    assert_eq!(plan.inspect, BTreeSet::from([at("0000:01:00.0")]));
    assert_eq!(plan.actions, []);
}

#[test]
fn what_is_refused_anyway_is_not_inspected() {
    let blank = |one: &str| nic(one).with(|one| one.inspection = None);
    let bridge = blank("0000:00:01.0").with(|one| one.header = Header::Bridge);
    let host = inventory([bridge, blank("0000:01:00.0")]);
    let mut pool = mapping(vec![by_id("8086:10d3")]);
    pool.partial = true;
    let plan = planned(&host, &policy([("m", pool)]));
    assert_eq!(plan.mappings["m"].verdict, Verdict::Pending);
    assert_eq!(plan.inspect, BTreeSet::from([at("0000:01:00.0")]));
}

#[test]
fn a_bound_function_is_inspected_if_a_serial_may_protect_it() {
    let bound = || nic("0000:01:00.0").driver("vfio-pci");
    let host = inventory([bound().with(|one| one.inspection = None)]);
    let mut policy = policy([("m", mapping(vec![by_id("8086:10d3")]))]);
    assert_eq!(planned(&host, &policy).inspect, BTreeSet::new());
    policy.protect = vec![selector(vec![Term::Serial(vec!["48-b0".parse().unwrap()])])];
    let early = planned(&host, &policy);
    assert_eq!(early.mappings["m"].verdict, Verdict::Pending);
    assert_eq!(early.inspect, BTreeSet::from([at("0000:01:00.0")]));
    let host = inventory([bound().with(|one| {
        one.inspection.get_or_insert_default().serial = Some("48-b0".to_owned());
    })]);
    let reason = refusal(&host, &policy);
    assert_eq!(reason, "0000:01:00.0 is in [protect]: serial=48-b0");
}

#[test]
fn a_serial_term_asks_only_for_what_the_other_terms_leave() {
    let blank = |one: &str| nic(one).with(|one| one.inspection = None);
    let host = inventory([
        blank("0000:01:00.0"),
        blank("0000:02:00.0").with(|one| one.id = "10de:2684".parse().unwrap()),
    ]);
    let serial = Term::Serial(vec!["48-b0-*".parse().unwrap()]);
    let plan = planned(
        &host,
        &policy([("m", mapping(vec![serial, by_id("8086:10d3")]))]),
    );
    assert_eq!(plan.inspect, BTreeSet::from([at("0000:01:00.0")]));
}

#[test]
fn a_recorded_host_is_the_same_host() {
    use vfio_bindd::kernel::record::{self, Record};
    let mut host = inventory([
        nic("0000:01:00.0").driver("e1000e").in_use(up("enp1s0")),
        nic("10000:01:00.1").with(|one| {
            one.role = Role::Vf {
                pf: at("0000:01:00.0"),
                index: Some(3),
            };
            one.inspection.get_or_insert_default().serial = Some("48-b0".to_owned());
        }),
    ]);
    let of = |inventory: &Inventory| Record {
        kernel: "6.12.0".to_owned(),
        facts: None,
        inventory: inventory.clone(),
    };
    let text = record::write(&of(&host)).unwrap_or_default();
    assert_eq!(record::parse(&text), Ok(of(&host)));
    record::redact(&mut host);
    let text = record::write(&of(&host)).unwrap_or_default();
    assert!(!text.contains("48-b0"), "{text}");
    for (bad, wanted) in [
        ("", "line 1: the text is empty"),
        ("{}\n", "line 1: this is no recorded host"),
        (
            "{\"vfio-bindd-host\":9,\"kernel\":\"\"}\n",
            "line 1: format 9 is not known",
        ),
        (
            "{\"vfio-bindd-host\":1,\"kernel\":\"\"}\n\n{\"address\":1}\n",
            "line 3: this is no function",
        ),
        (
            "{\"vfio-bindd-host\":1,\"kernel\":\"\"}\n{\"facts\":{\"cpv\":1}}\n",
            "line 2: these are no facts of a host: unknown field `cpv`",
        ),
        (
            "{\"vfio-bindd-host\":1,\"kernel\":\"\"}\n{\"facts\":{}}\n{\"facts\":{}}\n",
            "line 3: the host's facts are there twice",
        ),
    ] {
        let error = record::parse(bad)
            .map(drop)
            .map_err(|error| error.to_string());
        assert!(
            error.clone().is_err_and(|error| error.starts_with(wanted)),
            "{error:?}"
        );
    }
}

#[test]
fn where_the_kernel_panics_on_a_hung_task_a_native_driver_stays_unless_allowed() {
    let panics = Fact::HungTaskPanic {
        value: "1".to_owned(),
    };
    let native = inventory([nic("0000:01:00.0").driver("e1000e").in_use(panics)]);
    let plain = || mapping(vec![by_id("8086:10d3")]);
    assert_eq!(
        refusal(&native, &policy([("m", plain())])),
        "0000:01:00.0 is in use: an unbind that hangs would take the host down \
         (kernel.hung_task_panic is 1; sysctl kernel.hung_task_panic=0 ends that); \
         allow = [\"hung-task-panic\"] would lift this"
    );
    let mut allowed = plain();
    allowed.allow = BTreeSet::from([Guard::HungTaskPanic]);
    let plan = planned(&native, &policy([("m", allowed)]));
    assert_eq!(bound_by(&plan), [at("0000:01:00.0")]);
}
