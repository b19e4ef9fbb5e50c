//! Units: what of a mapping can be claimed only together, and which of it is
//! taken.
//!
//! Pure. vfio gives a whole IOMMU group to one user, and a slot's functions
//! are one device.

use std::collections::BTreeSet;

use crate::pci::{address::Address, function::Function};

/// Functions that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// In the order of their addresses.
    pub(super) addresses: BTreeSet<Address>,
    /// How many devices of the mapping they are.
    pub(super) devices: usize,
    /// The NUMA nodes that they are on.
    nodes: BTreeSet<u32>,
}

impl Unit {
    /// Whether some of it is on this NUMA node.
    pub(super) fn is_on(&self, node: u32) -> bool {
        self.nodes.contains(&node)
    }
}

/// A function of a mapping, and whether it counts as one of its devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) function: &'a Function,
    /// It came with its IOMMU group only.
    pub(super) companion: bool,
}

/// The units of a mapping, in the order of their first addresses. With
/// `by_slot`, a slot is one device.
pub(super) fn units(members: &[Member<'_>], by_slot: bool) -> Vec<Unit> {
    let mut sets: Vec<Vec<Member<'_>>> = Vec::new();
    for member in members {
        let joins =
            |set: &[Member<'_>]| set.iter().any(|other| go_together(member, other, by_slot));
        let (joined, mut rest): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|set| joins(set.as_slice()));
        let mut set: Vec<_> = joined.into_iter().flatten().collect();
        set.push(*member);
        rest.push(set);
        sets = rest;
    }
    let mut units: Vec<_> = sets.iter().map(|set| unit(set, by_slot)).collect();
    units.sort_by_key(|unit| unit.addresses.first().copied());
    units
}

fn go_together(one: &Member<'_>, other: &Member<'_>, by_slot: bool) -> bool {
    let (one, other) = (one.function, other.function);
    (by_slot && one.address.slot() == other.address.slot())
        || (one.iommu_group.is_some() && one.iommu_group == other.iommu_group)
}

fn unit(members: &[Member<'_>], by_slot: bool) -> Unit {
    let functions = members.iter().map(|member| member.function);
    let counted = members.iter().filter(|member| !member.companion);
    let devices = if by_slot {
        let slots: BTreeSet<_> = counted.map(|one| one.function.address.slot()).collect();
        slots.len()
    } else {
        counted.count()
    };
    Unit {
        addresses: functions.clone().map(|one| one.address).collect(),
        devices,
        nodes: functions.filter_map(|one| one.numa_node).collect(),
    }
}

/// Of these units, in this order, `count` devices. A unit is never split: where
/// none fits what is left to take, the smallest that has as many is taken whole.
/// `None` if they have too few.
pub(super) fn choose(units: &[Unit], count: usize) -> Option<BTreeSet<Address>> {
    let mut chosen = BTreeSet::new();
    let mut left = count;
    let mut rest = Vec::new();
    for unit in units {
        if unit.devices <= left && unit.devices > 0 {
            left -= unit.devices;
            chosen.extend(unit.addresses.iter().copied());
        } else {
            rest.push(unit);
        }
    }
    if left > 0 {
        let more = rest.into_iter().filter(|unit| unit.devices >= left);
        let more = more.min_by_key(|unit| unit.devices)?;
        chosen.extend(more.addresses.iter().copied());
    }
    Some(chosen)
}
