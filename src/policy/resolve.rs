//! Resolve: which functions each mapping chooses, before anybody asks whether
//! they may be taken.
//!
//! Same inventory, same policy, same answer: in the order of the addresses
//! unless a mapping prefers another one (`placement`), and what a mapping held
//! already stays in it. Never looks at guards, so that the choice does not hang
//! on a passing state of the host.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    guard::is_bridge,
    model::{Extent, GroupRule, Mapping, Policy},
    placement::{self, Placed},
    selector::{Answer, Candidate, Selector},
};
use crate::pci::{address::Address, function::Function, inventory::Inventory};

/// The functions that each mapping held bound when it was last looked at.
pub type Held = BTreeMap<String, BTreeSet<Address>>;

/// What a mapping resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// These functions.
    Chosen(Vec<Choice>),
    /// These functions must be inspected first: their serial numbers decide.
    Unknown(BTreeSet<Address>),
    /// Too few devices match.
    TooFew(String),
    /// Too many devices match.
    TooMany(String),
}

/// One chosen function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where it is.
    pub address: Address,
    /// The selector that chose it, or the function whose slot or IOMMU group it
    /// is in.
    pub why: String,
    /// Why it and not another one that matches as well, where the mapping has a
    /// preference and takes a part.
    pub placed: Option<Placed>,
    /// Whether it is only taken because its IOMMU group is.
    pub companion: bool,
}

/// Resolves every mapping of `policy`.
#[must_use]
pub fn resolve(
    policy: &Policy,
    inventory: &Inventory,
    held: &Held,
) -> BTreeMap<String, Resolution> {
    let candidates: Vec<_> = inventory
        .iter()
        .map(|function| Candidate::new(function, inventory))
        .collect();
    let nothing = BTreeSet::new();
    let mut resolutions = policy
        .mappings
        .iter()
        .map(|(name, mapping)| {
            let held = held.get(name).unwrap_or(&nothing);
            (name.clone(), one(mapping, inventory, &candidates, held))
        })
        .collect();
    add_companions(policy, inventory, &mut resolutions);
    resolutions
}

/// Adds the rest of the IOMMU groups to mappings with `group = "take"`. What a
/// mapping chose for itself stays that mapping's.
fn add_companions(
    policy: &Policy,
    inventory: &Inventory,
    resolutions: &mut BTreeMap<String, Resolution>,
) {
    let groups = inventory.groups();
    let chosen: BTreeSet<_> = resolutions.values().flat_map(addresses).collect();
    for (name, resolution) in resolutions {
        let (Some(mapping), Resolution::Chosen(choices)) = (policy.mappings.get(name), resolution)
        else {
            continue;
        };
        if mapping.group == GroupRule::Refuse {
            continue;
        }
        let mut companions = BTreeMap::new();
        for choice in choices.iter() {
            let function = inventory.get(choice.address);
            let group = function.and_then(|function| function.iommu_group);
            let members = group.and_then(|group| groups.get(&group));
            for address in members.map_or(&[][..], Vec::as_slice) {
                let may_be = |function: &Function| {
                    let candidate = Candidate::new(function, inventory);
                    let left_out = first_match(&mapping.exclude, &candidate);
                    !is_bridge(function) && matches!(left_out, Ok(None))
                };
                let may_be = inventory.get(*address).is_some_and(may_be);
                if may_be && !chosen.contains(address) {
                    companions.entry(*address).or_insert_with(|| Choice {
                        address: *address,
                        why: format!("same IOMMU group as {}", choice.address),
                        placed: None,
                        companion: true,
                    });
                }
            }
        }
        choices.extend(companions.into_values());
        choices.sort_by_key(|choice| choice.address);
    }
}

/// The functions that a resolution chose.
pub(crate) fn addresses(resolution: &Resolution) -> Vec<Address> {
    match resolution {
        Resolution::Chosen(choices) => choices.iter().map(|choice| choice.address).collect(),
        _ => Vec::new(),
    }
}

/// The first of `selectors` that the candidate meets; `Err` if one could still
/// turn out to.
pub(crate) fn first_match<'a>(
    selectors: &'a [Selector],
    candidate: &Candidate<'_>,
) -> Result<Option<&'a Selector>, Unknown> {
    let mut unknown = false;
    for selector in selectors {
        match selector.answer(candidate) {
            Answer::Yes => return Ok(Some(selector)),
            Answer::Unknown => unknown = true,
            Answer::No(_) => {}
        }
    }
    if unknown { Err(Unknown) } else { Ok(None) }
}

/// A selector needs a fact that nobody has read yet.
#[derive(Debug)]
pub(crate) struct Unknown;

fn one(
    mapping: &Mapping,
    inventory: &Inventory,
    candidates: &[Candidate<'_>],
    held: &BTreeSet<Address>,
) -> Resolution {
    let mut unknown = BTreeSet::new();
    let mut matched = Vec::new();
    for candidate in candidates {
        let address = candidate.function().address;
        match wanted(mapping, candidate) {
            Ok(Some(selector)) => matched.push((address, selector)),
            Ok(None) => {}
            Err(Unknown) => {
                unknown.insert(address);
            }
        }
    }
    if !unknown.is_empty() {
        return Resolution::Unknown(unknown);
    }
    let mut devices = match devices(mapping, inventory, &matched) {
        Ok(devices) => devices,
        Err(unknown) => return Resolution::Unknown(unknown),
    };
    let count = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    if let Some(wrong) = unexpected(mapping, count) {
        return wrong;
    }
    if let Some(take) = mapping.take {
        let take = usize::try_from(take).unwrap_or(usize::MAX);
        let holds = |device: &Vec<Choice>| device.iter().any(|one| held.contains(&one.address));
        if mapping.preference.is_none() {
            // A stable sort: held devices first, each part in address order.
            devices.sort_by_key(|device| !holds(device));
            devices.truncate(take);
        } else if devices.len() > take {
            devices = preferred(mapping, inventory, &devices, holds, take);
        }
    }
    let mut chosen: Vec<_> = devices.into_iter().flatten().collect();
    chosen.sort_by_key(|choice| choice.address);
    Resolution::Chosen(chosen)
}

/// The `take` devices that the mapping prefers.
fn preferred(
    mapping: &Mapping,
    inventory: &Inventory,
    devices: &[Vec<Choice>],
    holds: impl Fn(&Vec<Choice>) -> bool,
    take: usize,
) -> Vec<Vec<Choice>> {
    let of = |device: &Vec<Choice>| {
        let functions = device.iter().filter_map(|one| inventory.get(one.address));
        functions.collect::<Vec<_>>()
    };
    let places = devices.iter().map(|device| (of(device), holds(device)));
    let places: Vec<_> = places.collect();
    let taken = placement::take(&places, mapping.preference, take);
    let chosen = taken.into_iter().filter_map(|at| devices.get(at).cloned());
    let mut chosen: Vec<_> = chosen.collect();
    let all: Vec<_> = places.into_iter().flat_map(|(device, _)| device).collect();
    let addresses = chosen.iter().flatten().map(|one| one.address).collect();
    for choice in chosen.iter_mut().flatten() {
        let function = inventory.get(choice.address);
        choice.placed = function
            .map(|function| placement::words(mapping.preference, function, &all, &addresses));
    }
    chosen
}

/// The selector of `mapping` that chooses the candidate, unless one excludes
/// it; `Err` if that is not known yet.
pub(crate) fn wanted<'a>(
    mapping: &'a Mapping,
    candidate: &Candidate<'_>,
) -> Result<Option<&'a Selector>, Unknown> {
    let found = first_match(&mapping.matches, candidate);
    // Excluded functions need no answer to what is still unknown of them.
    if matches!(found, Ok(None)) || first_match(&mapping.exclude, candidate)?.is_some() {
        return Ok(None);
    }
    found
}

fn unexpected(mapping: &Mapping, count: u32) -> Option<Resolution> {
    let expect = mapping.expect;
    let what = match mapping.extent {
        Extent::Matched => "function",
        Extent::Slot => "slot",
    };
    let found = match count {
        0 => format!("no {what} matches, {expect} expected"),
        1 => format!("1 {what} matches, {expect} expected"),
        count => format!("{count} {what}s match, {expect} expected"),
    };
    if count < expect.min {
        Some(Resolution::TooFew(found))
    } else {
        expect
            .max
            .is_some_and(|max| count > max)
            .then_some(Resolution::TooMany(found))
    }
}

/// What `expect` and `take` count: functions, or slots with all that is in
/// them but what `exclude` leaves out; `Err` with the functions of a slot of
/// which that is not known yet.
fn devices(
    mapping: &Mapping,
    inventory: &Inventory,
    matched: &[(Address, &Selector)],
) -> Result<Vec<Vec<Choice>>, BTreeSet<Address>> {
    let choice = |(address, selector): &(Address, &Selector)| Choice {
        address: *address,
        why: selector.to_string(),
        placed: None,
        companion: false,
    };
    if mapping.extent == Extent::Matched {
        return Ok(matched.iter().map(|one| vec![choice(one)]).collect());
    }
    let mut slots: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in matched {
        slots.entry(one.0.slot()).or_default().push(one);
    }
    let mut unknown = BTreeSet::new();
    let mut devices = Vec::new();
    for (slot, matched) in slots {
        let mut device = Vec::new();
        for function in inventory.slot(slot) {
            let address = function.address;
            if let Some(one) = matched.iter().find(|one| one.0 == address) {
                device.push(choice(one));
                continue;
            }
            match first_match(&mapping.exclude, &Candidate::new(function, inventory)) {
                Ok(Some(_)) => {}
                Ok(None) => device.push(Choice {
                    address,
                    why: format!("same slot as {}", first(&matched, address)),
                    placed: None,
                    companion: false,
                }),
                Err(Unknown) => {
                    unknown.insert(address);
                }
            }
        }
        devices.push(device);
    }
    if unknown.is_empty() {
        Ok(devices)
    } else {
        Err(unknown)
    }
}

fn first(matched: &[&(Address, &Selector)], otherwise: Address) -> Address {
    matched.first().map_or(otherwise, |one| one.0)
}
