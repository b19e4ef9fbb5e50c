//! How what a helper did with a function ended.

use crate::pci::settings::Settings;

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The helper's own look found a reason against it.
    Refused(String),
    /// The kernel said no at this step, in words.
    Failed {
        /// The step.
        step: String,
        /// What the kernel said.
        text: String,
        /// Whether the function may have been written to.
        touched: bool,
    },
}

/// How a look at whose the nodes of a function are ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// They are as they are to be; these were not before.
    Set(Vec<String>),
    /// No vfio driver has the function, so that there are none.
    Unbound,
    /// They are not: a clause that follows the address.
    Failed(String),
}

/// How a look at the settings of a function ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tuned {
    /// They are as they are to be.
    Set {
        /// Those that were not before.
        changed: Settings,
        /// All that there are.
        found: Settings,
    },
    /// No vfio driver has the function.
    Unbound,
    /// The device does not offer that: a clause that follows the address.
    Refused(String),
    /// They are not: a clause that follows the address.
    Failed(String),
}
