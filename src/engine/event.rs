//! Events and effects: all that passes between the engine and the world.

use std::sync::Arc;

use super::{report::Report, snapshot::Snapshot};
use crate::{
    pci::{
        address::Address,
        function::{Function, Inspection},
        inventory::Inventory,
    },
    policy::{drift::Memory, model::Policy, plan::Action},
};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A config was read, or could not be.
    Config(Result<Policy, String>),
    /// All functions were scanned, or could not be listed.
    Scanned(Result<Inventory, String>),
    /// One function was looked at; `None` if it is not there.
    Observed(Address, Option<Box<Function>>),
    /// A helper inspected a function; `None` if it is not there.
    Inspected(Address, Result<Option<Inspection>, String>),
    /// A helper finished an action.
    Applied(Address, Outcome),
    /// What was kept from earlier boots was read.
    Recalled(Memory),
    /// The kernel says that a function came or changed.
    Changed(Address),
    /// The kernel says that a function went.
    Removed(Address),
    /// Uevents were lost.
    Overrun,
    /// Everything is to be looked at again, now.
    Rescan,
    /// It is time for the slow look at everything that heals what was missed.
    Audit,
    /// Time has passed.
    Tick,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The wanted driver has it now; it had this one before.
    Bound(Option<String>),
    /// The wanted driver had it already.
    AlreadyBound,
    /// It is not there.
    Gone,
    /// The helper's own look found a reason against it.
    Refused(String),
    /// The kernel said no at this step, in words.
    Failed {
        /// The step.
        step: String,
        /// What the kernel said.
        text: String,
    },
}

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Scan all functions; answer with [`Event::Scanned`].
    Scan,
    /// Look at one function; answer with [`Event::Observed`].
    Observe(Address),
    /// Have a helper inspect a function; answer with [`Event::Inspected`].
    Inspect {
        /// The function.
        address: Address,
        /// Its serial number was read already and need not be again.
        serial_known: bool,
    },
    /// Have a helper apply an action; answer with [`Event::Applied`].
    Apply(Action),
    /// Keep this for the next boot.
    Remember(Memory),
    /// Publish this.
    Publish(Arc<Snapshot>),
    /// Tell this.
    Report(Report),
}
