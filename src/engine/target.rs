//! Target: which functions somebody means who wants something given back.
//!
//! Pure. Owns what a name stands for once the config has changed.

use super::undo::{Undo, Unrestored};
use crate::{
    pci::address::Address,
    policy::{model::Policy, plan::Plan},
};

/// What somebody wants given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One function.
    Function(Address),
    /// What a mapping took.
    Mapping(String),
    /// All that was taken.
    All,
}

/// The taken functions that `target` means.
pub(super) fn meant(
    target: &Target,
    undo: &Undo,
    plan: &Plan,
    policy: Option<&Policy>,
) -> Result<Vec<Address>, Unrestored> {
    let taken = &undo.taken;
    match target {
        Target::All => Ok(taken.keys().copied().collect()),
        Target::Function(address) if taken.contains_key(address) => Ok(vec![*address]),
        Target::Function(address) => Err(Unrestored::NothingTaken(format!(
            "{address} was never taken since the host booted: there is nothing to give back"
        ))),
        Target::Mapping(name) => {
            let all: Vec<_> = taken
                .iter()
                .filter(|(address, taken)| {
                    // Left over from it, or from a mapping that is no more.
                    let left = || taken.mappings.contains(name) && !is_chosen(plan, **address);
                    chooses(plan, name, **address) || left()
                })
                .map(|(address, _)| *address)
                .collect();
            if all.is_empty() {
                Err(nothing_of(name, policy))
            } else {
                Ok(all)
            }
        }
    }
}

fn chooses(plan: &Plan, name: &str, address: Address) -> bool {
    let mapping = plan.mappings.get(name);
    let mut chosen = mapping.iter().flat_map(|mapping| &mapping.functions);
    chosen.any(|chosen| chosen.address == address)
}

fn is_chosen(plan: &Plan, address: Address) -> bool {
    let mut names = plan.mappings.keys();
    names.any(|name| chooses(plan, name, address))
}

fn nothing_of(name: &str, policy: Option<&Policy>) -> Unrestored {
    if policy.is_some_and(|policy| policy.mappings.contains_key(name)) {
        return Unrestored::NothingTaken(format!(
            "mapping '{name}' has taken nothing since the host booted: there is nothing to give \
             back"
        ));
    }
    Unrestored::Unknown(format!(
        "no mapping is named '{name}', and nothing was taken for one of that name"
    ))
}
