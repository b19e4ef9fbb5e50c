//! Pin: the terms that find a mapping's functions again after their addresses
//! have changed.
//!
//! `proposal` has the terms; here each is put to all functions of the host by
//! the selector itself before it is made. Pure.

mod proposal;

use std::collections::BTreeSet;

use serde::Serialize;

use self::proposal::proposals;
use super::{
    explain::known,
    model::{Extent, Mapping, Policy},
    plan::Plan,
    selector::{Answer, Candidate},
};
use crate::pci::{address::Address, function::Function, id::PciId, inventory::Inventory};

/// The terms for all functions that a mapping chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pins {
    /// The mapping.
    pub mapping: String,
    /// One for each function, in the order of their addresses.
    pub pins: Vec<Pin>,
    /// What else the mapping needs then, as a sentence.
    pub note: Option<String>,
}

/// The terms for one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// Where the function is now.
    pub address: Address,
    /// Vendor and device ID.
    pub id: PciId,
    /// A selector as TOML.
    pub selector: String,
    /// What the selector goes by.
    pub by: By,
    /// What it takes for the selector to go on meaning this function.
    pub holds: String,
    /// Other functions that the selector matches, or may match.
    pub also: Vec<Address>,
}

/// What a selector knows a function by, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Its serial number: the card itself.
    Serial,
    /// The slot that it is in.
    Slot,
    /// The bridges that it is behind.
    Path,
    /// Its PF, and its number there.
    Pf,
}

/// There is nothing to pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No mapping has the name.
    #[error("no mapping is named '{name}'; {}", self::known(known))]
    UnknownMapping {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The mapping chooses no function.
    #[error("mapping '{name}' chooses no function: {reason}")]
    Nothing {
        /// The mapping.
        name: String,
        /// Why, as a clause.
        reason: String,
    },
}

/// The functions whose serial numbers must be known to pin mapping `name`: what
/// it chooses, and whatever could be taken for one of those.
#[must_use]
pub fn to_inspect(inventory: &Inventory, plan: &Plan, name: &str) -> BTreeSet<Address> {
    let chosen = chosen(plan, name);
    let of = |address: &Address| inventory.get(*address).map(|one| one.id);
    let ids: BTreeSet<_> = chosen.iter().filter_map(of).collect();
    let like = inventory.iter().filter(|one| ids.contains(&one.id));
    like.filter(|one| one.inspection.is_none())
        .map(|one| one.address)
        .collect()
}

fn chosen(plan: &Plan, name: &str) -> BTreeSet<Address> {
    let Some(planned) = plan.mappings.get(name) else {
        return BTreeSet::new();
    };
    let functions = planned.functions.iter().map(|one| one.address);
    let refusals = planned.refusals.iter().map(|one| one.address);
    functions.chain(refusals).collect()
}

/// Proposes terms for each function that mapping `name` chooses.
///
/// # Errors
/// If there is no such mapping, or it chooses none.
pub fn pin(
    inventory: &Inventory,
    policy: &Policy,
    plan: &Plan,
    name: &str,
) -> Result<Pins, PinError> {
    let found = policy.mappings.get(name).zip(plan.mappings.get(name));
    let (mapping, planned) = found.ok_or_else(|| PinError::UnknownMapping {
        name: name.to_owned(),
        known: policy.mappings.keys().cloned().collect(),
    })?;
    let functions = chosen(plan, name);
    if functions.is_empty() {
        let reason = if planned.reason.is_empty() {
            "none matches".to_owned()
        } else {
            planned.reason.clone()
        };
        let name = name.to_owned();
        return Err(PinError::Nothing { name, reason });
    }
    let functions: Vec<_> = functions
        .iter()
        .filter_map(|address| inventory.get(*address))
        .collect();
    Ok(Pins {
        mapping: name.to_owned(),
        note: note(mapping, &functions),
        pins: functions
            .into_iter()
            .filter_map(|function| one(inventory, function))
            .collect(),
    })
}

/// With `take` more may have been counted on than are left now.
fn note(mapping: &Mapping, functions: &[&Function]) -> Option<String> {
    let slots: BTreeSet<_> = functions.iter().map(|one| one.address.slot()).collect();
    let count = match mapping.extent {
        Extent::Matched => functions.len(),
        Extent::Slot => slots.len(),
    };
    let enough = u32::try_from(count).unwrap_or(u32::MAX) >= mapping.expect.min;
    (!enough).then(|| {
        let expected = mapping.expect;
        format!("'expect' is {expected}, and {count} will match: it has to become {count}")
    })
}

/// The strongest proposal that means this function and no other, else the
/// weakest with what else it means.
fn one(inventory: &Inventory, function: &Function) -> Option<Pin> {
    let mut last = None;
    for proposal in proposals(function, inventory) {
        let Some(selector) = proposal.selector() else {
            continue;
        };
        let matches = |one: &&Function| {
            let answer = selector.answer(&Candidate::new(one, inventory));
            !matches!(answer, Answer::No(_))
        };
        let (own, also): (Vec<_>, Vec<_>) = inventory
            .iter()
            .filter(matches)
            .map(|one| one.address)
            .partition(|address| *address == function.address);
        if own.is_empty() {
            continue;
        }
        let exact = also.is_empty();
        last = Some(Pin {
            address: function.address,
            id: function.id,
            selector: proposal.toml(),
            by: proposal.by,
            holds: proposal.holds,
            also,
        });
        if exact {
            break;
        }
    }
    last
}
