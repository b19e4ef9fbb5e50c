//! How what a helper did to a PF, or to its VFs, ended.

use std::collections::BTreeMap;

use crate::policy::sriov::VfSettings;

/// How an order to make VFs ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The PF has VFs now.
    Has {
        /// How many there were.
        before: u16,
        /// How many there are.
        now: u16,
    },
    /// It is not there.
    Gone,
    /// The helper's own look found a reason against it: a clause that follows the
    /// address.
    Refused(String),
    /// The kernel said no: a clause that follows the address.
    Failed(String),
    /// The kernel said no to that number, and the PF has as many VFs as it had.
    Back {
        /// How many these are.
        now: u16,
        /// What the kernel said, a clause that follows the address.
        text: String,
    },
}

/// How an order to set VFs ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was gone through.
    Done {
        /// What was changed, by the VF's index.
        changed: BTreeMap<u16, VfSettings>,
        /// What is not as it is to be, a clause that follows the VF.
        wrong: BTreeMap<u16, String>,
        /// What is set when nobody uses the VF any more, such a clause.
        waiting: BTreeMap<u16, String>,
    },
    /// The PF is not there.
    Gone,
    /// Nothing can be set: a clause that follows the address.
    Failed(String),
}
