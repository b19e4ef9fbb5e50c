//! Claims: who gets which functions, and when they are free again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vfio_bindd::{
    engine::{
        claims::{Asked, Lifetime, Share, Unclaimed, User, owner_of_vm},
        event::Event,
        report::Report,
        target::Target,
    },
    pci::{address::Address, function::Function},
    policy::{
        model::{Extent, Mapping, Policy},
        placement::{Placement, Preference},
    },
};

use crate::{
    drive::Drive as _,
    host::Host,
    support::{FunctionExt as _, at, by_address, by_id, mapping, nic, policy},
};

fn place(number: usize) -> String {
    format!("0000:{number:02x}:00.0")
}

/// Ten NICs in IOMMU groups of their own, the odd ones on node 1.
fn ten() -> Vec<Function> {
    let one = |number: usize| {
        nic(&place(number)).with(|function| {
            function.iommu_group = Some(u32::try_from(number).unwrap());
            function.numa_node = Some(u32::try_from(number % 2).unwrap());
        })
    };
    (1..=10).map(one).collect()
}

fn all_nics() -> Mapping {
    mapping(vec![by_id("8086:10d3")])
}

fn started(functions: Vec<Function>, policy: &Policy) -> Host {
    let mut host = Host::new(functions);
    host.start(policy);
    host
}

fn ten_nics() -> Host {
    started(ten(), &policy([("m", all_nics())]))
}

fn asked(owner: &str, share: Share) -> Asked {
    Asked {
        mapping: "m".to_owned(),
        owner: owner.to_owned(),
        uid: 0,
        share,
        prefer_numa: None,
        placement: None,
        lifetime: Lifetime::Released,
    }
}

/// Claims, and what came of it: addresses, or why none.
fn claim(host: &mut Host, asked: Asked) -> Result<Vec<String>, Unclaimed> {
    let asker = u64::try_from(host.granted.len()).unwrap();
    host.event(Event::Claim { asker, asked });
    told(host, asker)
}

fn told(host: &Host, asker: u64) -> Result<Vec<String>, Unclaimed> {
    let granted = host.granted.get(&asker).unwrap().clone();
    granted.map(|addresses| addresses.iter().map(Address::to_string).collect())
}

fn some(host: &mut Host, owner: &str, count: u32) -> Result<Vec<String>, Unclaimed> {
    claim(host, asked(owner, Share::Devices(count)))
}

fn release(host: &mut Host, owner: &str, uid: u32) -> Result<(), Unclaimed> {
    let (asker, owner) = (99, owner.to_owned());
    host.event(Event::Release { asker, owner, uid });
    host.freed.remove(&asker).unwrap()
}

fn text(result: Result<Vec<String>, Unclaimed>) -> String {
    match result {
        Err(Unclaimed::NoneFree(text) | Unclaimed::Refused(text) | Unclaimed::Unknown(text)) => {
            text
        }
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn functions_have_one_owner_until_they_are_released() {
    let mut host = ten_nics();
    assert_eq!(some(&mut host, "a", 2), Ok(vec![place(1), place(2)]));
    assert_eq!(some(&mut host, "b", 1), Ok(vec![place(3)]));
    let claims = &host.snapshot().mappings["m"].claims;
    let owners: Vec<_> = claims.values().map(String::as_str).collect();
    assert_eq!(owners, ["a", "a", "b"]);
    assert_eq!(release(&mut host, "a", 0), Ok(()));
    assert_eq!(some(&mut host, "c", 1), Ok(vec![place(1)]));
    // That it is bound is told once, whoever has it.
    let told = host.reports.iter();
    let told = told.filter(|report| matches!(report, Report::Mapping { .. }));
    assert_eq!(told.count(), 2, "pending and bound");
    // Nobody has anything by that name, which is what was wanted.
    assert_eq!(release(&mut host, "a", 0), Ok(()));
    assert_eq!(host.snapshot().claims, host.claims);
}

#[test]
fn who_claims_again_keeps_what_they_have() {
    let mut host = ten_nics();
    some(&mut host, "other", 1).unwrap();
    let first = some(&mut host, "a", 2);
    release(&mut host, "other", 0).unwrap();
    let watched = host.watched.len();
    assert_eq!(some(&mut host, "a", 2), first);
    assert_eq!(host.watched.len(), watched, "nothing new");
    // More, and less.
    let more = some(&mut host, "a", 3).unwrap();
    assert_eq!(more, [place(1), place(2), place(3)]);
    assert_eq!(some(&mut host, "a", 1), Ok(vec![place(1)]));
    assert_eq!(some(&mut host, "b", 9).unwrap().len(), 9);
}

#[test]
fn all_is_all_or_nothing() {
    let mut host = ten_nics();
    some(&mut host, "a", 1).unwrap();
    let none = claim(&mut host, asked("b", Share::All));
    let wanted = "of mapping 'm' 9 are free, and 10 were asked for: \
                  0000:01:00.0 is claimed by 'a'";
    assert_eq!(none, Err(Unclaimed::NoneFree(wanted.to_owned())));
    assert_eq!(claim(&mut host, asked("a", Share::All)).unwrap().len(), 10);
}

#[test]
fn more_than_there_is_can_never_be() {
    let mut host = ten_nics();
    for count in [11, u32::MAX] {
        let no = some(&mut host, "a", count);
        assert!(matches!(no, Err(Unclaimed::Refused(_))), "{no:?}");
    }
    assert!(host.claims.is_empty());
}

#[test]
fn what_is_in_use_is_not_free() {
    let mut host = ten_nics();
    let used = |number: usize, clause: &str, owner: Option<&str>| {
        let user = User {
            clause: clause.to_owned(),
            owner: owner.map(str::to_owned),
        };
        Ok(BTreeMap::from([(at(&place(number)), user)]))
    };
    host.users = used(1, "is in use: qemu (pid 7)", None);
    assert_eq!(some(&mut host, "a", 1), Ok(vec![place(2)]));
    let none = text(some(&mut host, "b", 9));
    assert!(none.starts_with("of mapping 'm' 8 are free, and 9 were asked for: "));
    assert!(
        none.contains("0000:01:00.0 is in use: qemu (pid 7) (and 1 more)"),
        "{none}"
    );
    // Its own owner may go on.
    host.users = used(2, "is in use: qemu (pid 8)", None);
    assert_eq!(some(&mut host, "a", 1), Ok(vec![place(2)]));
    // So may the one that it is reserved for.
    host.users = used(1, "is reserved by Proxmox VE for VM 100", Some("pve-100"));
    assert_eq!(some(&mut host, "pve-101", 1), Ok(vec![place(3)]));
    let pretender = Asked {
        uid: 1000,
        ..asked(&owner_of_vm(100), Share::Devices(1))
    };
    assert_eq!(claim(&mut host, pretender), Ok(vec![place(4)]));
    release(&mut host, &owner_of_vm(100), 0).unwrap();
    assert_eq!(some(&mut host, &owner_of_vm(100), 1), Ok(vec![place(1)]));
    host.users = Err("who uses it cannot be found out: no".to_owned());
    let unknown = Unclaimed::Unknown("who uses it cannot be found out: no".to_owned());
    assert_eq!(some(&mut host, "c", 1), Err(unknown));
}

#[test]
fn a_node_is_preferred_and_not_insisted_on() {
    let mut host = ten_nics();
    let near = Asked {
        prefer_numa: Some(1),
        ..asked("a", Share::Devices(4))
    };
    let got = claim(&mut host, near).unwrap();
    assert_eq!(got, [1, 3, 5, 7].map(place));
    let rest = Asked {
        prefer_numa: Some(1),
        ..asked("b", Share::Devices(2))
    };
    assert_eq!(claim(&mut host, rest), Ok(vec![place(2), place(9)]));
}

/// The mapping's own preference holds where a claim says nothing.
#[test]
fn a_claim_is_spread_or_packed_as_it_or_its_mapping_says() {
    let preference = Preference {
        numa: Some(0),
        placement: Placement::Spread,
    };
    let mapping = Mapping {
        preference,
        ..all_nics()
    };
    let mut host = started(ten(), &policy([("m", mapping)]));
    let with = |owner: &str, numa, placement| Asked {
        prefer_numa: numa,
        placement,
        ..asked(owner, Share::Devices(2))
    };
    assert_eq!(
        claim(&mut host, with("a", None, None)),
        Ok(vec![place(2), place(4)])
    );
    assert_eq!(
        claim(&mut host, with("b", Some(1), None)),
        Ok(vec![place(1), place(3)])
    );
    // Three are left on each node: who has some gets the rest beside it.
    let packed = Some(Placement::Pack);
    assert_eq!(
        claim(&mut host, with("c", Some(1), packed)),
        Ok(vec![place(5), place(7)])
    );
    let more = Asked {
        share: Share::Devices(3),
        ..with("c", Some(1), packed)
    };
    assert_eq!(
        claim(&mut host, more),
        Ok(vec![place(5), place(7), place(9)])
    );
    let mut host = ten_nics();
    let spread = |owner| with(owner, None, Some(Placement::Spread));
    assert_eq!(claim(&mut host, spread("a")), Ok(vec![place(1), place(2)]));
    let one = |owner| Asked {
        share: Share::Devices(1),
        ..spread(owner)
    };
    // Where others have the fewest.
    assert_eq!(claim(&mut host, one("b")), Ok(vec![place(3)]));
    assert_eq!(claim(&mut host, one("c")), Ok(vec![place(4)]));
}

#[test]
fn named_functions_are_had_or_refused_by_name() {
    let mut host = ten_nics();
    let these = |numbers: &[usize]| {
        let addresses = numbers.iter().map(|number| at(&place(*number)));
        Share::These(addresses.collect())
    };
    let got = claim(&mut host, asked("a", these(&[4, 6])));
    assert_eq!(got, Ok(vec![place(4), place(6)]));
    let none = text(claim(&mut host, asked("b", these(&[3, 4]))));
    assert_eq!(none, "0000:04:00.0 is claimed by 'a'");
    let no = text(claim(&mut host, asked("b", these(&[3, 30]))));
    assert_eq!(no, "0000:1e:00.0 is no function of mapping 'm'");
    assert_eq!(host.claims.len(), 1);
}

/// Slots of two functions; the two of the second and the third slot are in one
/// IOMMU group.
#[test]
fn slots_and_iommu_groups_are_not_split() {
    let function = |slot: u32, number: u32| {
        nic(&format!("0000:{slot:02x}:00.{number}")).with(|function| {
            function.iommu_group = Some(slot.min(2));
        })
    };
    let functions: Vec<_> = (1..=4)
        .flat_map(|slot| [function(slot, 0), function(slot, 1)])
        .map(|one| match one.address.slot().to_string().as_str() {
            "0000:04:00" => one.with(|function| function.iommu_group = Some(4)),
            _ => one,
        })
        .collect();
    let slots = Mapping {
        extent: Extent::Slot,
        ..all_nics()
    };
    let mut host = started(functions, &policy([("m", slots)]));
    let one = some(&mut host, "a", 1).unwrap();
    assert_eq!(one, ["0000:01:00.0", "0000:01:00.1"]);
    let two = some(&mut host, "b", 2).unwrap();
    assert_eq!(two.len(), 4, "{two:?}");
    assert!(two[0].starts_with("0000:02") && two[3].starts_with("0000:03"));
    let last = some(&mut host, "c", 1).unwrap();
    assert_eq!(last, ["0000:04:00.0", "0000:04:00.1"]);
    release(&mut host, "a", 0).unwrap();
    release(&mut host, "c", 0).unwrap();
    release(&mut host, "b", 0).unwrap();
    // Whoever wants one device gets a slot of its own while there is one.
    assert_eq!(some(&mut host, "a", 1), Ok(one));
    assert_eq!(some(&mut host, "c", 1), Ok(last));
    assert_eq!(some(&mut host, "d", 1), Ok(two));
}

#[test]
fn a_function_in_two_mappings_is_claimed_in_both() {
    let both = policy([
        ("m", all_nics()),
        ("n", mapping(vec![by_address("0000:01:00.*")])),
    ]);
    let mut host = started(ten(), &both);
    some(&mut host, "a", 1).unwrap();
    let of_n = Asked {
        mapping: "n".to_owned(),
        ..asked("b", Share::All)
    };
    let none = text(claim(&mut host, of_n));
    assert!(none.ends_with("0000:01:00.0 is claimed by 'a'"), "{none}");
    assert_eq!(host.snapshot().mappings["n"].claims[&at(&place(1))], "a");
    // Its own owner may have it by either name, as after a mapping was renamed.
    let of_n = Asked {
        mapping: "n".to_owned(),
        ..asked("a", Share::All)
    };
    assert_eq!(claim(&mut host, of_n), Ok(vec![place(1)]));
    assert_eq!(host.claims.len(), 1);
    assert_eq!(host.claims[0].mapping, "n");
}

#[test]
fn only_bound_mappings_can_be_claimed() {
    let mut host = Host::new(ten());
    host.fail.insert(at(&place(3)));
    host.start(&policy([("m", all_nics())]));
    assert_eq!(some(&mut host, "a", 1), Err(Unclaimed::NotBound));
    let nothing = Asked {
        mapping: "gone".to_owned(),
        ..asked("a", Share::All)
    };
    assert_eq!(claim(&mut host, nothing), Err(Unclaimed::NotBound));
}

#[test]
fn a_claim_ends_with_what_it_was_tied_to() {
    let mut host = ten_nics();
    let caller = |name: &str, bus: &str| Lifetime::Caller {
        name: name.to_owned(),
        bus: bus.to_owned(),
    };
    for (owner, lifetime) in [
        ("process", Lifetime::Process { pid: 5, started: 9 }),
        ("left", caller(":1.5", "this")),
        ("stays", caller(":1.6", "this")),
        ("before", caller(":1.6", "the bus of before")),
    ] {
        let tied = Asked {
            lifetime,
            ..asked(owner, Share::Devices(1))
        };
        claim(&mut host, tied).unwrap();
    }
    let owners = |host: &Host| {
        let claims = host.claims.iter();
        claims.map(|claim| claim.owner.clone()).collect::<Vec<_>>()
    };
    let serial = host.watched.iter().find(|claim| claim.owner == "process");
    let serial = serial.unwrap().serial;
    // It has another one by now, which is not over.
    some(&mut host, "process", 2).unwrap();
    host.event(Event::ClaimOver(serial));
    assert_eq!(owners(&host), ["left", "stays", "before", "process"]);
    host.event(Event::CallersLeft {
        bus: "this".to_owned(),
        names: BTreeSet::from([":1.5".to_owned()]),
    });
    assert_eq!(owners(&host), ["stays", "process"]);
}

#[test]
fn others_may_not_release_what_somebody_claimed() {
    let mut host = ten_nics();
    let mine = Asked {
        uid: 1000,
        ..asked("a", Share::Devices(1))
    };
    claim(&mut host, mine.clone()).unwrap();
    let no = release(&mut host, "a", 1001);
    assert!(matches!(no, Err(Unclaimed::Refused(_))), "{no:?}");
    assert_eq!(host.claims.len(), 1);
    // Nor take it by its name.
    let theirs = Asked { uid: 1001, ..mine };
    let no = claim(&mut host, theirs);
    assert!(matches!(no, Err(Unclaimed::Refused(_))), "{no:?}");
    assert_eq!(release(&mut host, "a", 1000), Ok(()));
    assert!(host.claims.is_empty());
}

#[test]
fn what_is_claimed_is_not_given_back() {
    let mut host = ten_nics();
    some(&mut host, "vm 1", 1).unwrap();
    host.event(Event::Restore {
        asker: 1,
        target: Target::Function(at(&place(1))),
    });
    let function = &host.snapshot().functions[&at(&place(1))];
    assert_eq!(function.function.driver.as_deref(), Some("vfio-pci"));
    assert_eq!(host.claims.len(), 1);
}

#[test]
fn a_function_that_goes_is_nobodys() {
    let mut host = ten_nics();
    some(&mut host, "a", 2).unwrap();
    let gone = host.inventory.remove(at(&place(1))).unwrap();
    host.event(Event::Removed(at(&place(1))));
    assert_eq!(host.claims[0].addresses, BTreeSet::from([at(&place(2))]));
    host.inventory.insert(Function {
        driver: None,
        ..gone
    });
    host.event(Event::Changed(at(&place(1))));
    host.wait(std::time::Duration::from_secs(5));
    assert_eq!(some(&mut host, "b", 1), Ok(vec![place(1)]));
}

#[test]
fn claims_outlive_the_daemon() {
    let mut host = ten_nics();
    some(&mut host, "a", 2).unwrap();
    let claims = host.claims.clone();
    let functions = host.inventory.iter().cloned().collect::<Vec<_>>();
    let mut next = Host::new(functions);
    next.event(Event::Claimed(claims.clone()));
    next.start(&policy([("m", all_nics())]));
    assert_eq!(next.snapshot().claims, claims);
    assert_eq!(next.watched, claims);
    assert_eq!(some(&mut next, "b", 1), Ok(vec![place(3)]));
    // A later claim is not taken for an earlier one.
    assert!(next.watched[1].serial > claims[0].serial);
    // What is not there any more was nobody's.
    let mut fewer = Host::new(ten().into_iter().skip(1));
    fewer.event(Event::Claimed(claims));
    fewer.start(&policy([("m", all_nics())]));
    assert_eq!(fewer.claims[0].addresses, BTreeSet::from([at(&place(2))]));
}

#[test]
fn one_look_serves_all_who_asked_before_it() {
    let mut host = ten_nics();
    host.looks = Some(Vec::new());
    for asker in 0..200 {
        let asked = asked(&format!("vm{asker}"), Share::Devices(1));
        host.event(Event::Claim { asker, asked });
    }
    assert_eq!(host.looks.as_ref().unwrap().len(), 1, "one at a time");
    assert!(host.granted.is_empty());
    // Whoever asked after it began waits for the next one.
    host.event(Event::Users(Ok(BTreeMap::new())));
    assert_eq!(host.granted.len(), 1);
    assert_eq!(host.looks.as_ref().unwrap().len(), 2);
    host.event(Event::Users(Ok(BTreeMap::new())));
    assert_eq!(host.granted.len(), 200);
    let got: Vec<_> = host.granted.values().flatten().flatten().collect();
    let distinct: BTreeSet<_> = got.iter().collect();
    assert_eq!((got.len(), distinct.len()), (10, 10));
    let none = host.granted.values().filter(|one| one.is_err());
    assert_eq!(none.count(), 190);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_asked_no_function_has_two_owners_and_none_is_lost(
        steps in prop::collection::vec((0..6_usize, 0..12_u32, any::<bool>()), 1..60)
    ) {
        let mut host = ten_nics();
        for (owner, count, frees) in steps {
            let owner = format!("vm{owner}");
            if frees {
                release(&mut host, &owner, 0).unwrap();
                prop_assert!(host.claims.iter().all(|claim| claim.owner != owner));
            } else {
                let before = host.claims.clone();
                let got = some(&mut host, &owner, count);
                match got {
                    Ok(got) => prop_assert_eq!(got.len(), usize::try_from(count).unwrap()),
                    Err(_) => prop_assert_eq!(&before, &host.claims),
                }
            }
            let all: Vec<_> = host.claims.iter().flat_map(|claim| &claim.addresses).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            prop_assert_eq!(all.len(), distinct.len());
            prop_assert_eq!(&host.snapshot().claims, &host.claims);
        }
    }
}
