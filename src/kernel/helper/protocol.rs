//! What a helper is asked and what it answers: one JSON document a line. The
//! first one says which [`super::process::Process`] it is.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{
        inspect::Wanted,
        nodes::Owned,
        order::{Order, Outcome, Return, Returned, Tune, Tuned},
        sriov::{Made, MakeVfs, SettleVfs, Settled},
        usage::{Handles, User},
    },
    pci::{address::Address, function::Inspection, usage::Fact},
    policy::ownership::Ownership,
};

/// A question to a helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Read what can block.
    Inspect {
        /// The function.
        address: Address,
        /// What it is looked at for besides.
        wanted: Wanted,
    },
    /// Bind a function.
    Apply(Order),
    /// Give a function back to the host.
    Restore(Return),
    /// Make the settings of a bound function what they are to be.
    Tune(Tune),
    /// Keep native drivers from the VFs of a PF, or let them again.
    Withhold {
        /// The PF.
        pf: Address,
        /// Whether drivers are kept from them.
        withhold: bool,
        /// The undo journal's folder.
        undo: PathBuf,
    },
    /// Have a PF make VFs, or take them away.
    MakeVfs(MakeVfs),
    /// Set VFs as they are to be.
    SettleVfs(SettleVfs),
    /// Say who holds a function that the kernel does not come back from. Takes
    /// no lock of it.
    Holders {
        /// The function.
        address: Address,
        /// What was taken down before.
        before: Handles,
    },
    /// Say who uses functions that vfio has. Takes no lock of theirs.
    Users {
        /// The functions.
        addresses: Vec<Address>,
    },
    /// Have the nodes of a bound function belong to somebody.
    Own {
        /// The function.
        address: Address,
        /// To whom.
        ownership: Ownership,
    },
    /// Say what is wrong with the IOMMU.
    Survey,
}

impl Request {
    /// The function that it is about.
    #[must_use]
    pub const fn address(&self) -> Option<Address> {
        match self {
            Self::Inspect { address, .. }
            | Self::Holders { address, .. }
            | Self::Own { address, .. } => Some(*address),
            Self::Apply(order) => Some(order.address),
            Self::Restore(order) => Some(order.address),
            Self::Tune(order) => Some(order.address),
            Self::Withhold { pf, .. } => Some(*pf),
            Self::MakeVfs(order) => Some(order.pf.address),
            Self::SettleVfs(order) => Some(order.pf.address),
            Self::Survey | Self::Users { .. } => None,
        }
    }

    /// The function from which a driver may be unbound for it.
    #[must_use]
    pub fn unbinds(&self) -> Option<Address> {
        match self {
            Self::Apply(order) => order.detach.as_ref().map(|_| order.address),
            Self::Restore(order) => Some(order.address),
            Self::Inspect { .. }
            | Self::Tune(_)
            | Self::Withhold { .. }
            | Self::MakeVfs(_)
            | Self::SettleVfs(_)
            | Self::Holders { .. }
            | Self::Own { .. }
            | Self::Users { .. }
            | Self::Survey => None,
        }
    }
}

/// A helper's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Inspect`]; `None` if the function is not there.
    Inspected(Option<Inspection>),
    /// To [`Request::Apply`].
    Applied(Outcome),
    /// To [`Request::Restore`].
    Restored(Returned),
    /// To [`Request::Tune`].
    Tuned(Tuned),
    /// To [`Request::Withhold`]: whether anything was changed, or why not.
    Withholding(Result<bool, String>),
    /// To [`Request::MakeVfs`].
    Made(Made),
    /// To [`Request::SettleVfs`].
    Settled(Settled),
    /// Before the answer to a request that [`Request::unbinds`]: by what the
    /// function can be held, which an unbind takes out of sysfs.
    Handles(Handles),
    /// To [`Request::Holders`]: what is open, and what could not be looked at.
    Holders(Vec<Fact>),
    /// To [`Request::Own`].
    Owned(Owned),
    /// To [`Request::Users`]: who uses which.
    Users(BTreeMap<Address, User>),
    /// To [`Request::Survey`]: a sentence each.
    Surveyed(Vec<String>),
}
