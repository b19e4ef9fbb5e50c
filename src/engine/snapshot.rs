//! Snapshot: what the daemon publishes, as one immutable value.
//!
//! Owns the public states and their names. Everything that D-Bus, the map file
//! and `systemctl status` show comes from here and from nowhere else.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

use super::claims::Claim;
use crate::{
    pci::{address::Address, function::Function, inventory::Inventory},
    policy::{drift::Drift, model::Policy, plan::Plan},
};

macro_rules! states {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// The name on D-Bus and in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

states! {
    /// The state of the daemon.
    DaemonState {
        /// The first pass is not over.
        Starting "starting",
        /// Every mapping is bound.
        Ready "ready",
        /// The first pass is over, and some mapping is not bound.
        Degraded "degraded",
        /// There is no valid config; nothing is bound.
        Failed "failed",
    }
}

states! {
    /// The state of a mapping.
    MappingState {
        /// All of it is bound.
        Bound "bound",
        /// Work on it is under way.
        Pending "pending",
        /// Too few functions match.
        Absent "absent",
        /// Policy says no.
        Refused "refused",
        /// A write or a read that concerns it does not come back.
        Stuck "stuck",
        /// The kernel said no; it is tried again.
        Failed "failed",
        /// The host has some of it back, as somebody asked.
        Released "released",
    }
}

states! {
    /// The state of a function that a mapping names.
    FunctionState {
        /// Bound to the wanted driver.
        Bound "bound",
        /// Work on it is under way or waits for its mapping.
        Pending "pending",
        /// Policy says no.
        Refused "refused",
        /// A write or a read does not come back.
        Stuck "stuck",
        /// The kernel said no.
        Failed "failed",
        /// The host has it back, as somebody asked.
        Released "released",
    }
}

states! {
    /// The state of a PF that is to have VFs.
    PfState {
        /// It has its VFs, and they are set as they are to be.
        Ready "ready",
        /// Work on it is under way, or something has to come first.
        Pending "pending",
        /// Policy says no.
        Refused "refused",
        /// A write does not come back.
        Stuck "stuck",
        /// The kernel said no.
        Failed "failed",
    }
}

/// Everything that is published, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Grows by one with each snapshot that differs from the one before.
    pub generation: u64,
    /// The daemon's state.
    pub state: DaemonState,
    /// One sentence why, empty if there is nothing to say.
    pub reason: String,
    /// Whether the host has a working IOMMU.
    pub iommu: bool,
    /// Mappings by name.
    pub mappings: BTreeMap<String, MappingView>,
    /// PFs that are to have VFs.
    pub pfs: BTreeMap<Address, PfView>,
    /// The functions that mappings name, and left-over ones.
    pub functions: BTreeMap<Address, FunctionView>,
    /// Functions that are still bound and that no mapping wants any more.
    pub left_over: Vec<Address>,
    /// What became of functions that mappings had before this boot.
    pub drift: Vec<Drift>,
    /// Who has functions of mappings for themselves.
    pub claims: Vec<Claim>,
    /// The whole plan.
    pub plan: Plan,
    /// What the plan was made of, `None` before there was one.
    #[serde(skip)]
    pub basis: Option<Basis>,
}

/// What a plan was made of, for whoever asks why. Shared with the engine, so
/// that neither a copy nor a comparison of two snapshots goes through it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The functions of the host.
    pub inventory: Inventory,
    /// The config.
    pub policy: Arc<Policy>,
}

/// A mapping as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingView {
    /// The config's description.
    pub description: String,
    /// Its state.
    pub state: MappingState,
    /// One clause why, empty if there is nothing to say.
    pub reason: String,
    /// The chosen functions in the order of their addresses. Only a state of
    /// [`MappingState::Bound`] says that they can be used.
    pub addresses: Vec<Address>,
    /// Functions that it means, or needs, and does not hand out: those that policy
    /// refuses, and companions of the others.
    pub beside: Vec<Address>,
    /// Who has which of them for themselves, whatever mapping they claimed it of.
    pub claims: BTreeMap<Address, String>,
    /// The ID of Proxmox VE's resource mapping that is kept in step with it.
    pub proxmox: Option<String>,
}

/// A PF that is to have VFs, as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PfView {
    /// The entry of the config.
    pub name: String,
    /// Its state.
    pub state: PfState,
    /// One clause why, empty if there is nothing to say.
    pub reason: String,
    /// The driver that has it.
    pub driver: Option<String>,
    /// How many VFs it is to have.
    pub wanted: u16,
    /// How many it can have.
    pub total: u16,
    /// Those that it has, in the order of their index.
    pub vfs: Vec<Address>,
    /// What VFs are to be set to, by index.
    pub settings: BTreeMap<u16, String>,
}

/// A function as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionView {
    /// Its facts.
    pub function: Function,
    /// The mappings that name it.
    pub mappings: Vec<String>,
    /// Its state.
    pub state: FunctionState,
    /// One clause why, empty if there is nothing to say.
    pub reason: String,
}

impl Snapshot {
    /// What is published before the first pass.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            generation: 0,
            state: DaemonState::Starting,
            reason: String::new(),
            iommu: false,
            mappings: BTreeMap::new(),
            pfs: BTreeMap::new(),
            functions: BTreeMap::new(),
            left_over: Vec::new(),
            drift: Vec::new(),
            claims: Vec::new(),
            plan: Plan::default(),
            basis: None,
        }
    }

    /// The addresses of each mapping that is bound, and so safe to hand out.
    pub fn bound(&self) -> impl Iterator<Item = (&str, &[Address])> {
        self.mappings
            .iter()
            .filter(|(_, mapping)| mapping.state == MappingState::Bound)
            .map(|(name, mapping)| (name.as_str(), mapping.addresses.as_slice()))
    }
}
