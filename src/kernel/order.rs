//! Order and outcome: what a helper is asked to bind or to give back, and how
//! that ended.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    pci::{address::Address, id::PciId, settings::Settings},
    policy::{knobs::Knobs, model::VFIO_PCI, plan::Action},
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
    /// The module whose driver is wanted, whatever it is called; vfio-pci is
    /// bound if there is none, or if it does not take the function.
    pub module: Option<String>,
    /// The native driver that may be unbound, if it is still idle.
    pub detach: Option<String>,
    /// Guards that do not hold for this function.
    pub allow: BTreeSet<String>,
    /// What its settings are to be.
    pub knobs: Knobs,
    /// The mappings that want it.
    pub mappings: Vec<String>,
    /// The undo journal's folder, where what the function was is written down
    /// first; `None` if there is no journal.
    pub undo: Option<PathBuf>,
}

impl Order {
    /// The order for `action`, with the undo journal in this folder.
    #[must_use]
    pub fn new(action: &Action, undo: Option<PathBuf>) -> Self {
        Self {
            address: action.address,
            id: action.id,
            driver: action.driver.clone(),
            module: action.module.clone(),
            detach: action.detach.clone(),
            allow: action
                .allow
                .iter()
                .map(|guard| (*guard).to_owned())
                .collect(),
            knobs: action.knobs.clone(),
            mappings: action.mappings.clone(),
            undo,
        }
    }

    /// The same, with what the driver of its module is called.
    pub(super) fn with(&self, driver: String) -> Self {
        Self {
            driver,
            ..self.clone()
        }
    }

    /// The same for vfio-pci.
    pub(super) fn plain(&self) -> Self {
        Self {
            module: None,
            ..self.with(VFIO_PCI.to_owned())
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
        /// The driver.
        driver: String,
        /// Why it is vfio-pci and not the variant driver that was meant, if so:
        /// a clause.
        fallback: Option<String>,
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

/// What a helper is asked to make of the settings of a function that a vfio driver
/// has already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tune {
    /// The function.
    pub address: Address,
    /// Its IDs when it was planned.
    pub id: PciId,
    /// What its settings are to be. Those that were changed for an earlier wish
    /// become what they were.
    pub knobs: Knobs,
    /// The mappings that want it.
    pub mappings: Vec<String>,
    /// The undo journal's folder; `None` if there is no journal.
    pub undo: Option<PathBuf>,
}

/// How that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tuned {
    /// They are as they are to be.
    Set {
        /// Those that were not before.
        changed: Settings,
        /// All that there are.
        found: Settings,
    },
    /// No vfio driver has it, or it is another device by now.
    Unbound,
    /// The device does not offer that, or not under a driver: a clause that
    /// follows the address.
    Refused {
        /// The clause.
        text: String,
    },
    /// They are not: a clause that follows the address.
    Failed {
        /// The clause.
        text: String,
    },
}

/// What a helper is asked to give back to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// The function.
    pub address: Address,
    /// All functions that are given back with it: while a virtual machine uses
    /// one of them, none is.
    pub together: Vec<Address>,
    /// The undo journal's folder.
    pub undo: PathBuf,
}

/// How that ended. `released` says what the journal has then: that nobody is to
/// bind the function again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Returned {
    /// It is what it was: this driver has it, with the override of then.
    Given {
        /// `None` if no driver had it.
        driver: Option<String>,
    },
    /// There is nothing to give back: a clause that follows the address.
    Untaken {
        /// The clause.
        text: String,
    },
    /// It is not there.
    Gone,
    /// Something speaks against it now: a clause that follows the address.
    Refused {
        /// The clause.
        text: String,
        /// What the journal has.
        released: bool,
    },
    /// The kernel or the disk said no.
    Failed {
        /// At this step.
        step: Step,
        /// In words.
        text: String,
        /// What the journal has.
        released: bool,
    },
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Loading the wanted driver's module.
    LoadModule,
    /// Writing down what the function was, for its return.
    Journal,
    /// Looking whether the device offers the wanted settings.
    Offer,
    /// Making its settings what they are to be.
    Tune,
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
    /// Whether the function was written to when it failed here.
    #[must_use]
    pub const fn touches(self) -> bool {
        !matches!(self, Self::LoadModule | Self::Journal | Self::Offer)
    }

    /// The step in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoadModule => "loading the driver",
            Self::Journal => "keeping the undo journal",
            Self::Offer => "looking what it offers",
            Self::Tune => "setting what is wanted of it",
            Self::SetOverride => "setting the driver override",
            Self::Unbind => "unbinding the native driver",
            Self::Bind => "binding",
            Self::Verify => "reading back",
        }
    }
}
