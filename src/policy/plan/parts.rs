//! What a plan is made of.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    pci::{address::Address, id::PciId},
    policy::{
        guard::Refusal, knobs::Knobs, ownership::Ownership, placement::Placed, sriov::SriovPlan,
        variant::Pick,
    },
};

/// What is to be done, and what is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What becomes of each mapping.
    pub mappings: BTreeMap<String, MappingPlan>,
    /// What is to be done, in the order of the addresses.
    pub actions: Vec<Action>,
    /// Functions that a helper must inspect before more can be said.
    pub inspect: BTreeSet<Address>,
    /// Functions that mappings held and that none wants any more.
    pub left_over: Vec<Address>,
    /// Whose the nodes of functions are to be once they are bound, where a
    /// mapping says it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<Address, Ownership>,
    /// What is to be done to PFs.
    #[serde(skip_serializing_if = "SriovPlan::is_empty")]
    pub sriov: SriovPlan,
    /// What the settings of functions are to be, where a mapping says it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<Address, Knobs>,
}

/// What becomes of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingPlan {
    /// The verdict.
    pub verdict: Verdict,
    /// One clause why, empty for [`Verdict::Ready`].
    pub reason: String,
    /// The chosen functions that are, or will be, bound.
    pub functions: Vec<Chosen>,
    /// What is refused.
    pub refusals: Vec<Refusal>,
    /// Guards that held and that `allow` lifted.
    pub lifted: Vec<Refusal>,
}

impl MappingPlan {
    /// The addresses that the mapping stands for, without what is bound with them.
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        let wanted = self.functions.iter().filter(|chosen| !chosen.companion);
        wanted.map(|chosen| chosen.address)
    }

    /// How many functions are refused, whatever the number of reasons.
    #[must_use]
    pub fn passed_over(&self) -> usize {
        let refused: BTreeSet<_> = self.refusals.iter().map(|one| one.address).collect();
        refused.len()
    }
}

/// What becomes of a mapping, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All of it is bound or can be.
    Ready,
    /// Something must be inspected first.
    Pending,
    /// Too few functions match.
    Absent,
    /// Policy says no.
    Refused,
    /// The host has some of it back, as somebody asked; none of it is bound.
    Released,
}

impl Verdict {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Absent => "absent",
            Self::Refused => "refused",
            Self::Released => "released",
        }
    }
}

/// A chosen function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Where it is.
    pub address: Address,
    /// What chose it.
    pub why: String,
    /// Why it and not another one that matches as well, where the mapping has a
    /// preference and takes a part of what matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
    /// Whether the wanted driver has it already.
    pub bound: bool,
    /// Which driver, where the mapping leaves that open (`driver = "auto"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Pick>,
    /// Whether it is only taken because its IOMMU group is; nobody hands it to
    /// a virtual machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub companion: bool,
}

/// Bind one function to a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// The function.
    pub address: Address,
    /// Its IDs when it was planned; another device at this address is not meant.
    pub id: PciId,
    /// The wanted driver; with a `module`, the one that is expected.
    pub driver: String,
    /// The module whose driver is wanted, as it calls itself once it is loaded;
    /// vfio-pci is bound if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Why it is vfio-pci although there may be a better driver; a clause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// The native driver that must be unbound first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detach: Option<String>,
    /// The guards that do not hold for this action.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<&'static str>,
    /// Its IOMMU group; one group's actions are applied one after another.
    pub group: u32,
    /// What its settings are to be.
    #[serde(skip_serializing_if = "Knobs::is_empty")]
    pub knobs: Knobs,
    /// The mappings that want it.
    pub mappings: Vec<String>,
    /// What chose it.
    pub why: String,
}

impl MappingPlan {
    /// Whether the mapping chooses the function at `address`, refused or not.
    #[must_use]
    pub fn chooses(&self, address: Address) -> bool {
        let functions = self.functions.iter().map(|one| one.address);
        let refusals = self.refusals.iter().map(|one| one.address);
        functions.chain(refusals).any(|one| one == address)
    }
}
