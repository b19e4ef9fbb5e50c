//! Order and outcome: what a helper is asked to bind, and how that ended.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    pci::{address::Address, id::PciId},
    policy::plan::Action,
};

/// What a helper is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The function.
    pub address: Address,
    /// Its IDs when it was planned.
    pub id: PciId,
    /// The wanted driver.
    pub driver: String,
    /// The native driver that may be unbound, if it is still idle.
    pub detach: Option<String>,
    /// Guards that do not hold for this function.
    pub allow: BTreeSet<String>,
}

impl From<&Action> for Order {
    fn from(action: &Action) -> Self {
        Self {
            address: action.address,
            id: action.id,
            driver: action.driver.to_owned(),
            detach: action.detach.clone(),
            allow: action
                .allow
                .iter()
                .map(|guard| (*guard).to_owned())
                .collect(),
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The wanted driver has it now.
    Bound {
        /// The driver that had it before.
        from: Option<String>,
    },
    /// The wanted driver had it already.
    AlreadyBound,
    /// It is not there.
    Gone,
    /// Something speaks against it now: a clause that follows the address.
    Refused {
        /// The clause.
        text: String,
    },
    /// The kernel said no.
    Failed {
        /// At this step.
        step: Step,
        /// In words.
        text: String,
    },
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Loading the wanted driver's module.
    LoadModule,
    /// Setting the driver override.
    SetOverride,
    /// Unbinding the native driver.
    Unbind,
    /// Binding the wanted driver.
    Bind,
    /// Reading back which driver has it.
    Verify,
}

impl Step {
    /// The step in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoadModule => "loading the driver",
            Self::SetOverride => "setting the driver override",
            Self::Unbind => "unbinding the native driver",
            Self::Bind => "binding",
            Self::Verify => "reading back",
        }
    }
}
