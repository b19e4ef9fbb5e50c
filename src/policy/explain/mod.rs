//! Explain: why a function is, or is not, what a mapping wants, and why a
//! mapping, or an entry of `[sriov]`, has what it has.
//!
//! Pure: says again, in full, what selectors, guards and the plan decided, and
//! decides nothing. The answer is data that crosses D-Bus as JSON; words for a
//! terminal are the client's.

mod function;
mod mapping;
mod sriov;
mod trial;

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    function::{Group, GuardSeen, InMapping, Member, OfFunction, Relation},
    mapping::{CandidateSeen, Count, Excluded, Near, OfMapping},
    sriov::{InSriov, OfSriov, PfSeen},
    trial::{Outcome, TermTrial, Trial},
};
use super::{
    guard::Refusal,
    model::Policy,
    placement::Placed,
    plan::{Action, MappingPlan, Plan, Verdict},
    variant::Pick,
};
use crate::pci::{
    address::{Address, AddressError},
    function::Function,
    id::{ClassCode, PciId},
    inventory::Inventory,
};

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The function at this address.
    Function(Address),
    /// The mapping of this name, or else the entry of `[sriov]`.
    Mapping(String),
}

impl FromStr for Target {
    type Err = AddressError;

    /// No name of a mapping has a ':', and every address has one.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains(':') {
            text.parse().map(Self::Function)
        } else {
            Ok(Self::Mapping(text.to_owned()))
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(address) => address.fmt(f),
            Self::Mapping(name) => name.fmt(f),
        }
    }
}

/// There is no such thing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No mapping has the name.
    #[error("no mapping is named '{name}'; {}", self::known(known))]
    UnknownMapping {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// No function has the address.
    #[error("no PCI function is at {0}")]
    UnknownFunction(Address),
}

/// The names of mappings that there are, as a clause.
#[must_use]
pub fn known<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "none is configured".to_owned();
    }
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    format!("there are: {}", names.join(", "))
}

/// All that can be said of a function or a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Explanation {
    /// Of a function.
    Function(Box<OfFunction>),
    /// Of a mapping.
    Mapping(Box<OfMapping>),
    /// Of an entry of `[sriov]`.
    Sriov(Box<OfSriov>),
}

/// What a running daemon adds: how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The state that it publishes, `None` of a function that no mapping names.
    pub state: Option<String>,
    /// Why, in one clause; empty if there is nothing to say.
    pub reason: String,
}

/// A function in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// Where it is.
    pub address: Address,
    /// Vendor and device ID.
    pub id: PciId,
    /// Class code.
    pub class: ClassCode,
    /// The driver that has it.
    pub driver: Option<String>,
}

impl Brief {
    fn of(function: &Function) -> Self {
        Self {
            address: function.address,
            id: function.id,
            class: function.class,
            driver: function.driver.clone(),
        }
    }
}

/// What became of a function that a mapping matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is bound or may be.
    Chosen,
    /// Policy says no.
    Refused,
    /// Policy says no, and the mapping does without it.
    PassedOver,
    /// Enough others are taken, or none is.
    NotChosen,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chosen => "chosen",
            Self::Refused => "refused",
            Self::PassedOver => "passed over",
            Self::NotChosen => "not chosen",
        })
    }
}

/// What speaks against taking a function for a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Against {
    /// The guard that `allow` would have to name, `None` if nothing lifts it.
    pub guard: Option<String>,
    /// A clause that follows the address.
    pub reason: String,
    /// Whether the mapping's `allow` lifts it.
    pub lifted: bool,
}

/// What would be done to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// The function.
    pub address: Address,
    /// The driver that would get it.
    pub driver: String,
    /// The native driver that would be unbound first.
    pub detach: Option<String>,
    /// The mappings that want it.
    pub mappings: Vec<String>,
}

impl Deed {
    fn of(action: &Action) -> Self {
        Self {
            address: action.address,
            driver: action.driver.clone(),
            detach: action.detach.clone(),
            mappings: action.mappings.clone(),
        }
    }

    fn on(plan: &Plan, address: Address) -> Option<Self> {
        let mut actions = plan.actions.iter();
        actions.find(|one| one.address == address).map(Self::of)
    }
}

/// Explains `target` out of what `plan` was made of, and the plan itself.
///
/// # Errors
/// If the target is not there.
pub fn explain(
    inventory: &Inventory,
    policy: &Policy,
    plan: &Plan,
    target: &Target,
) -> Result<Explanation, ExplainError> {
    match target {
        Target::Function(address) => {
            let missing = ExplainError::UnknownFunction(*address);
            let function = inventory.get(*address).ok_or(missing)?;
            let told = function::explain(inventory, policy, plan, function);
            Ok(Explanation::Function(Box::new(told)))
        }
        Target::Mapping(name) => {
            if let Some((mapping, planned)) = policy.mappings.get(name).zip(plan.mappings.get(name))
            {
                let told = mapping::explain(inventory, plan, name, mapping, planned);
                return Ok(Explanation::Mapping(Box::new(told)));
            }
            let Some(entry) = policy.sriov.get(name) else {
                let mappings = policy.mappings.keys().cloned();
                let entries = policy.sriov.keys().map(|name| format!("sriov {name}"));
                return Err(ExplainError::UnknownMapping {
                    name: name.clone(),
                    known: mappings.chain(entries).collect(),
                });
            };
            let told = sriov::explain_entry(inventory, plan, name, entry);
            Ok(Explanation::Sriov(Box::new(told)))
        }
    }
}

impl Explanation {
    /// Adds what only a running daemon knows.
    pub fn add(&mut self, live: Live) {
        match self {
            Self::Function(told) => told.live = Some(live),
            Self::Mapping(told) => told.live = Some(live),
            Self::Sriov(told) => told.live = Some(live),
        }
    }

    /// The IDs of all functions in it, whose names a reader may want.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<PciId> {
        match self {
            Self::Function(told) => {
                let members = told.group.iter().flat_map(|group| &group.members);
                let others = members.map(|member| member.function.id);
                others.chain([told.function.id]).collect()
            }
            Self::Mapping(told) => {
                let near = told.near.iter().map(|one| one.function.id);
                let excluded = told.excluded.iter().map(|one| one.function.id);
                let candidates = told.candidates.iter().map(|one| one.function.id);
                candidates.chain(near).chain(excluded).collect()
            }
            Self::Sriov(told) => {
                let near = told.near.iter().map(|one| one.function.id);
                let pfs = told.pfs.iter().map(|one| one.function.id);
                pfs.chain(near).collect()
            }
        }
    }
}

/// What became of the function at `address` in a mapping that matches it, and
/// why if that is not said by what speaks against it.
fn standing(planned: &MappingPlan, address: Address) -> (Standing, String) {
    if planned.functions.iter().any(|one| one.address == address) {
        return (Standing::Chosen, String::new());
    }
    let chooses = !planned.functions.is_empty() || !planned.refusals.is_empty();
    match planned.verdict {
        _ if !chooses => (Standing::NotChosen, planned.reason.clone()),
        _ if !planned.chooses(address) => {
            let placed = planned.functions.iter().any(|one| one.placed.is_some());
            let others = if placed {
                ", and others are preferred"
            } else {
                ""
            };
            let why = format!("'take' is reached without it{others}");
            (Standing::NotChosen, why)
        }
        Verdict::Refused => (Standing::Refused, String::new()),
        _ => (Standing::PassedOver, String::new()),
    }
}

/// Which driver the function at `address` gets in a mapping that leaves it open.
fn picked(planned: &MappingPlan, address: Address) -> Option<Pick> {
    let mut chosen = planned.functions.iter();
    chosen.find(|one| one.address == address)?.driver.clone()
}

/// Why the function at `address` was preferred to others in a mapping that takes a
/// part of what matches.
fn placed(planned: &MappingPlan, address: Address) -> Option<Placed> {
    let mut chosen = planned.functions.iter();
    chosen.find(|one| one.address == address)?.placed.clone()
}

/// What speaks, or spoke, against the function at `address` in a mapping.
fn against(planned: &MappingPlan, address: Address) -> Vec<Against> {
    let said = |lifted: bool| {
        move |one: &Refusal| Against {
            guard: one.guard.map(str::to_owned),
            reason: one.reason.clone(),
            lifted,
        }
    };
    let here = |one: &&Refusal| one.address == address;
    let refusals = planned.refusals.iter().filter(here).map(said(false));
    let lifted = planned.lifted.iter().filter(here).map(said(true));
    refusals.chain(lifted).collect()
}
