//! What becomes of the entries of a Proxmox VE resource mapping.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::subsequence};
use vfio_bindd::hooks::proxmox::{
    mapping::Entry,
    plan::{Ownership, Plan, diff, plan},
};

const NODE: &str = "pve1";

/// An entry of `node` for the device on bus `bus`, with `more` at its end.
fn line(node: &str, bus: u8, more: &str) -> String {
    format!("node={node},path=0000:{bus:02x}:00,id=10de:2684,iommugroup={bus}{more}")
}

fn ours(bus: u8) -> String {
    line(NODE, bus, ",description=vfio-bindd")
}

fn wanted(buses: &[u8]) -> Vec<Entry> {
    let entry = |bus: &u8| ours(*bus).parse().unwrap();
    buses.iter().map(entry).collect()
}

fn marked(current: &[String], buses: &[u8]) -> Plan {
    plan(current, NODE, &wanted(buses), Ownership::Marked)
}

#[test]
fn nothing_is_written_where_all_is_right() {
    let current = [
        line("pve2", 1, ""),
        ours(2),
        ours(1),
        line("pve0", 9, ",x=y"),
    ];
    assert_eq!(marked(&current, &[1, 2]), Plan::Unchanged);
    // Another order of keys says the same.
    let current =
        ["description=vfio-bindd,iommugroup=1,id=10de:2684,path=0000:01:00,node=pve1".to_owned()];
    assert_eq!(marked(&current, &[1]), Plan::Unchanged);
    assert_eq!(marked(&[], &[]), Plan::Unchanged);
}

#[test]
fn ours_are_replaced_in_place_and_others_stay() {
    let strange = "node=pve3,path=0000:01:00 ,,id=zz".to_owned();
    let other = line("pve2", 1, ",description=vfio-bindd");
    let current = [ours(7), other.clone(), ours(1), strange.clone()];
    // 7 is gone; 2 and 3 are new.
    assert_eq!(
        marked(&current, &[1, 2, 3]),
        Plan::Update(vec![
            ours(2),
            other.clone(),
            ours(1),
            strange.clone(),
            ours(3)
        ])
    );
    assert_eq!(marked(&current, &[]), Plan::Update(vec![other, strange]));
    assert_eq!(marked(&[], &[1]), Plan::Update(vec![ours(1)]));
}

#[test]
fn what_an_entry_says_of_its_functions_is_set_right() {
    let stale = ours(1).replace("iommugroup=1", "iommugroup=5") + ",numa=0";
    assert_eq!(
        marked(&[stale], &[1]),
        Plan::Update(vec![ours(1) + ",numa=0"])
    );
    let stale = line(NODE, 1, ",description=left").replace("10de", "10DE");
    assert_eq!(
        plan(&[stale], NODE, &wanted(&[1]), Ownership::Node),
        Plan::Update(vec![line(NODE, 1, ",description=left")])
    );
}

#[test]
fn the_last_entry_stays_even_if_it_is_stale() {
    assert_eq!(marked(&[ours(1)], &[]), Plan::LastEntryStale);
    assert_eq!(marked(&[ours(1), ours(2)], &[]), Plan::LastEntryStale);
    assert_eq!(
        plan(&[line(NODE, 1, "")], NODE, &[], Ownership::Node),
        Plan::LastEntryStale
    );
    // What somebody else wrote for this node is not ours to remove.
    assert_eq!(marked(&[line(NODE, 1, "")], &[]), Plan::Unchanged);
}

#[test]
fn ownership_says_what_is_changed() {
    let current = [line(NODE, 8, ""), ours(9)];
    assert_eq!(
        marked(&current, &[1]),
        Plan::Update(vec![line(NODE, 8, ""), ours(1)])
    );
    assert_eq!(
        plan(&current, NODE, &wanted(&[1]), Ownership::Node),
        Plan::Update(vec![ours(1)])
    );
    // Somebody else's entry for the same device is enough.
    assert_eq!(marked(&[line(NODE, 1, "")], &[1]), Plan::Unchanged);
    let both = [line(NODE, 1, ""), ours(1)];
    assert_eq!(marked(&both, &[1]), Plan::Update(vec![line(NODE, 1, "")]));
}

#[test]
fn one_of_ours_that_cannot_be_read_is_replaced() {
    let broken = "node=pve1,path=0000:01:00,description=vfio-bindd".to_owned();
    assert_eq!(marked(&[broken], &[1]), Plan::Update(vec![ours(1)]));
}

#[test]
fn a_difference_is_shown_where_it_is() {
    let texts = |list: &[&str]| -> Vec<String> { list.iter().map(|&one| one.into()).collect() };
    for (current, new, shown) in [
        (
            &["a", "b", "c"][..],
            &["a", "B", "c", "d"][..],
            "- b\n+ B\n+ d\n",
        ),
        (&["a", "b"], &["a", "b"], ""),
        (&["a", "a", "b"], &["a"], "- a\n- b\n"),
        (&[], &["a"], "+ a\n"),
    ] {
        assert_eq!(diff(&texts(current), &texts(new)), shown);
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let node = prop_oneof![Just(NODE), Just("pve2"), Just("pve10")];
    let more = prop_oneof![
        Just(",description=vfio-bindd"),
        Just(",description=vfio-bindd,new=1"),
        Just(",description=mine"),
        Just(""),
        Just(",,"),
        Just(",broken"),
        Just(",iommugroup=1"),
    ];
    prop_oneof![
        9 => (node, 0u8..6, more).prop_map(|(node, bus, more)| line(node, bus, more)),
        1 => "[a-z=,]{0,20}",
    ]
}

proptest! {
    #[test]
    fn a_plan_holds_whatever_there_is(
        current in vec(any_line(), 0..8),
        buses in subsequence(vec![0u8, 1, 2, 3, 4, 5], 0..=4),
        is_node in any::<bool>(),
    ) {
        let ownership = if is_node { Ownership::Node } else { Ownership::Marked };
        let wanted = wanted(&buses);
        let others = |lines: &[String]| -> Vec<String> {
            let is_other = |line: &&String| !line.contains("node=pve1,");
            lines.iter().filter(is_other).cloned().collect()
        };
        match plan(&current, NODE, &wanted, ownership) {
            Plan::Unchanged => {}
            Plan::LastEntryStale => {
                prop_assert!(buses.is_empty() && !current.is_empty());
                prop_assert!(others(&current).is_empty());
            }
            Plan::Update(new) => {
                prop_assert!(!new.is_empty());
                prop_assert_eq!(others(&new), others(&current));
                prop_assert_eq!(plan(&new, NODE, &wanted, ownership), Plan::Unchanged);
                let paths: BTreeSet<_> = new
                    .iter()
                    .filter_map(|line| line.parse::<Entry>().ok())
                    .filter(|entry| entry.node() == NODE)
                    .map(|entry| entry.path().to_vec())
                    .collect();
                for entry in &wanted {
                    prop_assert!(paths.contains(entry.path()));
                }
                prop_assert!(!diff(&current, &new).is_empty());
            }
        }
    }
}
