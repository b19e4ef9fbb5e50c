//! Which devices are chosen where there are more than are wanted: near a node,
//! far from one another, or together.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says no by a panic"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::{FunctionExt as _, at, by_id, inventory, mapping, nic, planned, policy};
use vfio_bindd::{
    pci::{
        address::Address,
        function::{Function, Role},
        id::ClassCode,
        inventory::Inventory,
    },
    policy::{
        model::{Extent, Mapping},
        placement::{Hand, Piece, Placement, Preference, arrange},
        plan::{Plan, Verdict, plan},
        resolve::Held,
    },
};

/// A NIC on this node, behind this root port.
fn card(address: &str, node: u32, port: &str) -> Function {
    let end = at(address);
    nic(address).with(|one| {
        one.numa_node = Some(node);
        one.path = format!("{port}/{:02x}.{}", end.device(), end.function());
    })
}

/// Two nodes, each with two root ports; behind the first port of each is a switch
/// with two cards, behind the second is one card.
fn board() -> Inventory {
    inventory([
        card("0000:03:00.0", 0, "0000:00:01.0/00.0/00.0"),
        card("0000:04:00.0", 0, "0000:00:01.0/00.0/01.0"),
        card("0000:05:00.0", 0, "0000:00:02.0"),
        card("0000:83:00.0", 1, "0000:80:01.0/00.0/00.0"),
        card("0000:84:00.0", 1, "0000:80:01.0/00.0/01.0"),
        card("0000:85:00.0", 1, "0000:80:02.0"),
    ])
}

fn preferring(take: u32, numa: Option<u32>, placement: Placement) -> Mapping {
    Mapping {
        take: Some(take),
        preference: Preference { numa, placement },
        ..mapping(vec![by_id("8086:10d3")])
    }
}

fn taken(plan: &Plan) -> Vec<String> {
    let functions = &plan.mappings["m"].functions;
    functions
        .iter()
        .map(|one| one.address.to_string())
        .collect()
}

/// The buses of what is taken of the board.
fn buses(take: u32, numa: Option<u32>, placement: Placement) -> Vec<u8> {
    let policy = policy([("m", preferring(take, numa, placement))]);
    let plan = planned(&board(), &policy);
    let functions = &plan.mappings["m"].functions;
    functions.iter().map(|one| one.address.bus()).collect()
}

#[test]
fn nodes_come_first_then_ports_then_switches() {
    use Placement::{Address, Pack, Spread};
    for (take, numa, placement, wanted) in [
        (2, None, Address, &[0x03, 0x04][..]),
        (2, Some(1), Address, &[0x83, 0x84]),
        (4, Some(1), Address, &[0x03, 0x83, 0x84, 0x85]),
        (2, None, Spread, &[0x03, 0x83]),
        (3, None, Spread, &[0x03, 0x05, 0x83]),
        (4, None, Spread, &[0x03, 0x05, 0x83, 0x85]),
        (2, Some(1), Spread, &[0x83, 0x85]),
        (4, Some(1), Spread, &[0x03, 0x83, 0x84, 0x85]),
        // The one that is alone is the narrowest place that has one.
        (1, None, Pack, &[0x05]),
        (2, None, Pack, &[0x03, 0x04]),
        (3, None, Pack, &[0x03, 0x04, 0x05]),
        (4, None, Pack, &[0x03, 0x04, 0x05, 0x85]),
        (2, Some(1), Pack, &[0x83, 0x84]),
        (5, Some(1), Pack, &[0x03, 0x04, 0x83, 0x84, 0x85]),
    ] {
        let what = format!("{take} {numa:?} {placement:?}");
        assert_eq!(buses(take, numa, placement), wanted, "{what}");
    }
}

/// Until the next boot: a better one may have come meanwhile.
#[test]
fn what_is_held_stays_and_the_rest_goes_by_it() {
    let host = board();
    let with = |placement, held: &[&str]| {
        let held = held.iter().map(|one| at(one)).collect();
        let policy = policy([("m", preferring(2, None, placement))]);
        taken(&plan(&host, &policy, &Held::from([("m".to_owned(), held)])))
    };
    let spread = with(Placement::Spread, &["0000:84:00.0"]);
    assert_eq!(spread, ["0000:03:00.0", "0000:84:00.0"]);
    let packed = with(Placement::Pack, &["0000:84:00.0"]);
    assert_eq!(packed, ["0000:83:00.0", "0000:84:00.0"]);
    let both = with(Placement::Pack, &["0000:03:00.0", "0000:85:00.0"]);
    assert_eq!(both, ["0000:03:00.0", "0000:85:00.0"]);
}

#[test]
fn virtual_functions_spread_over_the_ports_of_their_card() {
    let vf = |address: &str, pf: &str| {
        let pf = at(pf);
        card(address, 0, "0000:00:01.0").with(|one| one.role = Role::Vf { pf, index: None })
    };
    let host = inventory([
        vf("0000:01:00.2", "0000:01:00.0"),
        vf("0000:01:00.3", "0000:01:00.0"),
        vf("0000:01:01.0", "0000:01:00.1"),
        vf("0000:01:01.1", "0000:01:00.1"),
    ]);
    let both = |placement| {
        let policy = policy([("m", preferring(2, None, placement))]);
        taken(&planned(&host, &policy))
    };
    assert_eq!(both(Placement::Spread), ["0000:01:00.2", "0000:01:01.0"]);
    assert_eq!(both(Placement::Pack), ["0000:01:00.2", "0000:01:00.3"]);
}

/// Two cards with two functions in one group each, and one with a function alone.
#[test]
fn slots_and_groups_are_not_split_where_that_can_be() {
    let pair = |bus: u32, node| {
        let one = |function| {
            let address = format!("0000:{bus:02x}:00.{function}");
            let port = format!("0000:00:{bus:02x}.0");
            card(&address, node, &port).with(|one| one.iommu_group = Some(bus))
        };
        [one(0), one(1)]
    };
    let [a, b] = pair(1, 0);
    let [c, d] = pair(2, 1);
    let host = inventory([a, b, c, d, card("0000:03:00.0", 1, "0000:00:03.0")]);
    let some = |take, extent, placement| {
        let mapping = Mapping {
            extent,
            ..preferring(take, None, placement)
        };
        let plan = planned(&host, &policy([("m", mapping)]));
        assert_eq!(plan.mappings["m"].verdict, Verdict::Ready);
        taken(&plan)
    };
    let functions = |take| some(take, Extent::Matched, Placement::Spread);
    assert_eq!(functions(1), ["0000:03:00.0"]);
    assert_eq!(functions(2), ["0000:01:00.0", "0000:01:00.1"]);
    let three = ["0000:01:00.0", "0000:01:00.1", "0000:03:00.0"];
    assert_eq!(functions(3), three);
    let slots = some(2, Extent::Slot, Placement::Spread);
    assert_eq!(
        slots,
        [
            "0000:01:00.0",
            "0000:01:00.1",
            "0000:02:00.0",
            "0000:02:00.1"
        ]
    );
}

#[test]
fn it_is_said_why() {
    let plan = |preference: Mapping| planned(&board(), &policy([("m", preference)]));
    let words = |plan: &Plan| -> Vec<_> {
        let functions = plan.mappings["m"].functions.iter();
        let placed = functions.map(|one| one.placed.clone().unwrap());
        placed.map(|one| (one.why, one.far)).collect()
    };
    let near = plan(preferring(4, Some(1), Placement::Address));
    let said = words(&near);
    let far = "not on the preferred node 1, which has no more".to_owned();
    assert_eq!(said[0], (far, true));
    assert_eq!(said[1], ("on node 1, as preferred".to_owned(), false));
    let spread = plan(preferring(2, None, Placement::Spread));
    assert_eq!(words(&spread)[1].0, "spread: node 1, behind 0000:80:01.0");
    let packed = plan(preferring(2, Some(0), Placement::Pack));
    let both = "on node 0, as preferred; packed: node 0, behind 0000:00:01.0";
    assert_eq!(words(&packed)[0].0, both);
    // Of all of it nothing was preferred.
    let all = plan(preferring(6, Some(1), Placement::Pack));
    assert!(
        all.mappings["m"]
            .functions
            .iter()
            .all(|one| one.placed.is_none())
    );
}

#[test]
fn a_guest_gets_what_is_far_from_what_others_have() {
    let board: Vec<_> = board().iter().cloned().collect();
    let order = |others: &[usize], placement, count| {
        let pieces = board.iter().enumerate().map(|(number, one)| Piece {
            functions: vec![one],
            devices: 1,
            hand: if others.contains(&number) {
                Hand::Others
            } else {
                Hand::Free
            },
        });
        let preference = Preference {
            numa: None,
            placement,
        };
        let mut order = arrange(&pieces.collect::<Vec<_>>(), preference, count);
        order.truncate(count);
        order
    };
    assert_eq!(order(&[], Placement::Spread, 1), [0]);
    assert_eq!(order(&[0], Placement::Spread, 1), [3]);
    assert_eq!(order(&[0, 3], Placement::Spread, 1), [2]);
    assert_eq!(order(&[0, 3], Placement::Spread, 2), [2, 5]);
    // What is left of a switch is used up before another one is begun.
    assert_eq!(order(&[0, 2], Placement::Pack, 1), [1]);
}

#[derive(Clone, Debug)]
struct Spot {
    node: Option<u32>,
    port: u8,
    nested: bool,
}

fn spots() -> impl Strategy<Value = Vec<Spot>> {
    let spot = (prop::option::of(0_u32..3), 0_u8..4, any::<bool>());
    let spot = spot.prop_map(|(node, port, nested)| Spot { node, port, nested });
    prop::collection::vec(spot, 1..20)
}

fn host(spots: &[Spot]) -> Vec<Function> {
    let one = |(number, spot): (usize, &Spot)| {
        let address = format!("0000:{:02x}:00.0", number + 0x10);
        let node = spot.node.unwrap_or(7);
        let switch = if spot.nested { "/00.0/00.0" } else { "" };
        let port = format!("0000:{node:02x}:{:02x}.0{switch}", spot.port);
        card(&address, 0, &port).with(|one| one.numa_node = spot.node)
    };
    spots.iter().enumerate().map(one).collect()
}

fn placements() -> impl Strategy<Value = Placement> {
    prop::sample::select(vec![Placement::Address, Placement::Spread, Placement::Pack])
}

fn chosen(host: &Inventory, mapping: &Mapping, held: &BTreeSet<Address>) -> BTreeSet<Address> {
    let held = Held::from([("m".to_owned(), held.clone())]);
    let plan = plan(host, &policy([("m", mapping.clone())]), &held);
    let functions = plan.mappings["m"].functions.iter();
    functions.map(|one| one.address).collect()
}

fn on_nodes(host: &Inventory, chosen: &BTreeSet<Address>) -> BTreeMap<Option<u32>, usize> {
    let mut counts = BTreeMap::new();
    for address in chosen {
        *counts
            .entry(host.get(*address).unwrap().numa_node)
            .or_default() += 1;
    }
    counts
}

proptest! {
    #[test]
    fn any_choice_keeps_its_promises(
        spots in spots(),
        take in 1_u32..8,
        numa in prop::option::of(0_u32..3),
        placement in placements(),
        held in prop::collection::vec(any::<bool>(), 20),
    ) {
        let functions = host(&spots);
        let wanted = preferring(take, numa, placement);
        let plain: Inventory = functions.iter().cloned().collect();
        let held: BTreeSet<_> = functions.iter().zip(held).filter(|(_, held)| *held)
            .map(|(one, _)| one.address).take(usize::try_from(take).unwrap()).collect();
        let got = chosen(&plain, &wanted, &held);
        // As many as are wanted, and all that was held.
        prop_assert_eq!(got.len(), functions.len().min(usize::try_from(take).unwrap()));
        prop_assert!(got.is_superset(&held), "{:?} {:?}", got, held);
        // What is chosen once is chosen again.
        prop_assert_eq!(&chosen(&plain, &wanted, &got), &got);
        // What no selector matches makes no difference.
        let stranger = |number: u8| card(&format!("0000:0{number}:00.0"), 0, "0000:00:00.0")
            .with(|one| { one.id = "10de:2684".parse().unwrap(); one.class = ClassCode::new(0x03_0000); });
        let more: Inventory = functions.iter().cloned().chain((1..4).map(stranger)).collect();
        prop_assert_eq!(&chosen(&more, &wanted, &held), &got);
        if !held.is_empty() {
            return Ok(());
        }
        let counts = on_nodes(&plain, &got);
        let all = on_nodes(&plain, &functions.iter().map(|one| one.address).collect());
        match (numa, placement) {
            (Some(node), _) => {
                let near = all.get(&Some(node)).copied().unwrap_or(0);
                let wanted = near.min(got.len());
                prop_assert_eq!(counts.get(&Some(node)).copied().unwrap_or(0), wanted);
            }
            (None, Placement::Spread) => {
                let most = counts.values().max().unwrap();
                for (node, there) in &all {
                    let here = counts.get(node).copied().unwrap_or(0);
                    prop_assert!(here + 1 >= *most || here == *there, "{:?}", counts);
                }
            }
            (None, Placement::Pack) => {
                let mut sizes: Vec<_> = all.values().copied().collect();
                sizes.sort_unstable_by(|one, other| other.cmp(one));
                let enough = (1..=sizes.len())
                    .find(|count| sizes[..*count].iter().sum::<usize>() >= got.len());
                prop_assert_eq!(counts.len(), enough.unwrap());
            }
            (None, Placement::Address) => {}
        }
    }
}
