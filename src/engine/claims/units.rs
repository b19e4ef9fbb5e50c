//! Units: what of a mapping can be claimed only together, and which of it is
//! taken.
//!
//! Pure. vfio gives a whole IOMMU group to one user, and a slot's functions
//! are one device.

use std::collections::BTreeSet;

use crate::{
    pci::{address::Address, function::Function},
    policy::placement::together,
};

/// Functions that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit<'a> {
    /// In the order of their addresses.
    pub(super) addresses: BTreeSet<Address>,
    /// How many devices of the mapping they are.
    pub(super) devices: usize,
    /// The functions themselves, in the same order.
    pub(super) functions: Vec<&'a Function>,
}

/// A function of a mapping, and whether it counts as one of its devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) function: &'a Function,
    /// It came with its IOMMU group only.
    pub(super) companion: bool,
}

/// The units of a mapping, in the order of their first addresses, for members in
/// that order. With `by_slot`, a slot is one device.
pub(super) fn units<'a>(members: &[Member<'a>], by_slot: bool) -> Vec<Unit<'a>> {
    let functions: Vec<_> = members.iter().map(|member| member.function).collect();
    let sets = together(&functions, by_slot).into_iter();
    let units = sets.map(|set| {
        let of = set.into_iter().filter_map(|at| members.get(at));
        unit(&of.copied().collect::<Vec<_>>(), by_slot)
    });
    units.collect()
}

fn unit<'a>(members: &[Member<'a>], by_slot: bool) -> Unit<'a> {
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
        functions: functions.collect(),
    }
}

/// Of these units, in this order, `count` devices. A unit is never split: where
/// none fits what is left to take, the smallest that has as many is taken whole.
/// `None` if they have too few.
pub(super) fn choose(units: &[&Unit<'_>], count: usize) -> Option<BTreeSet<Address>> {
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
