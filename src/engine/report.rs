//! Reports: what happened that a person may want to read, one per kind.
//!
//! Data only; `daemon::journal` words them and gives them their message IDs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::snapshot::MappingState,
    pci::{address::Address, settings::Settings},
    policy::{ownership::Ownership, sriov::VfSettings},
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A function was bound.
    Bound {
        /// The function.
        address: Address,
        /// The driver that has it now.
        driver: String,
        /// The mappings that want it.
        mappings: Vec<String>,
        /// What chose it.
        why: String,
        /// The driver that it had before.
        from: Option<String>,
    },
    /// A function gets vfio-pci, and not the variant driver that is made for it.
    FellBack {
        /// The function.
        address: Address,
        /// The driver that it gets.
        driver: String,
        /// The mappings that want it.
        mappings: Vec<String>,
        /// Why, in words.
        text: String,
    },
    /// Binding a function did not work; it is tried again.
    NotBound {
        /// The function.
        address: Address,
        /// The mappings that want it.
        mappings: Vec<String>,
        /// The step that failed.
        step: String,
        /// What the kernel said, in words.
        text: String,
        /// Seconds until it is tried again.
        retry_in_secs: u64,
    },
    /// Nodes of a bound function belong to whom a mapping says from now on.
    Owned {
        /// The function.
        address: Address,
        /// The nodes.
        nodes: Vec<String>,
        /// To whom.
        ownership: Ownership,
    },
    /// They do not, and it is tried again.
    NotOwned {
        /// The function.
        address: Address,
        /// To whom they are to belong.
        ownership: Ownership,
        /// Why, in words.
        text: String,
        /// Seconds until it is tried again.
        retry_in_secs: u64,
    },
    /// Settings of a bound function are what they are to be from now on.
    Tuned {
        /// The function.
        address: Address,
        /// Those that were not before.
        changed: Settings,
    },
    /// They are not.
    NotTuned {
        /// The function.
        address: Address,
        /// Why, a clause that follows the address.
        text: String,
        /// Seconds until it is tried again, if it is.
        retry_in_secs: Option<u64>,
    },
    /// An owner has functions of a mapping.
    Claimed {
        /// The mapping.
        mapping: String,
        /// Who has them.
        owner: String,
        /// The functions.
        addresses: BTreeSet<Address>,
    },
    /// An owner has them no more.
    Unclaimed {
        /// The mapping.
        mapping: String,
        /// Who had them.
        owner: String,
        /// The functions.
        addresses: BTreeSet<Address>,
    },
    /// The host has a function back as it was.
    Restored {
        /// The function.
        address: Address,
        /// The mappings that it was taken for.
        mappings: Vec<String>,
        /// The driver that has it again, `None` if none had it.
        driver: Option<String>,
    },
    /// A function was not given back.
    NotRestored {
        /// The function.
        address: Address,
        /// The mappings that it was taken for.
        mappings: Vec<String>,
        /// The step that failed.
        step: String,
        /// Why, in words.
        text: String,
    },
    /// A daemon that starts leaves a function to the host, which got it back
    /// before.
    Released {
        /// The function.
        address: Address,
        /// The mappings that it was taken for.
        mappings: Vec<String>,
    },
    /// The undo journal, or an entry of it, cannot be used.
    JournalTrouble {
        /// Which file, what is wrong, and what to do.
        text: String,
    },
    /// Native drivers are kept from the VFs of a PF from now on, or no longer.
    Withholding {
        /// The PF.
        pf: Address,
        /// Whether they are kept from them.
        withhold: bool,
    },
    /// That could not be changed.
    NotWithholding {
        /// The PF.
        pf: Address,
        /// Why, in words.
        text: String,
    },
    /// A PF has made VFs, or less than it was asked for.
    VfsMade {
        /// The PF.
        pf: Address,
        /// The entry of the config.
        name: String,
        /// How many it had.
        before: u16,
        /// How many it has.
        now: u16,
        /// How many it was asked for.
        wanted: u16,
    },
    /// A PF does not have the VFs that it is to have.
    VfsNotMade {
        /// The PF.
        pf: Address,
        /// The entry of the config.
        name: String,
        /// Why: a clause that follows the address.
        text: String,
        /// Seconds until it is tried again, `None` if something has to change first.
        retry_in_secs: Option<u64>,
    },
    /// No PF matches an entry of the config.
    NoPf {
        /// The entry.
        name: String,
    },
    /// VFs were set.
    VfsSet {
        /// Their PF.
        pf: Address,
        /// The entry of the config.
        name: String,
        /// What was changed, by their index.
        changed: BTreeMap<u16, VfSettings>,
    },
    /// VFs are not set as they are to be.
    VfsNotSet {
        /// Their PF.
        pf: Address,
        /// The entry of the config.
        name: String,
        /// Why: a clause that follows the address.
        text: String,
        /// Seconds until it is tried again.
        retry_in_secs: u64,
    },
    /// A helper is past its deadline.
    Stuck {
        /// The function.
        address: Address,
        /// What the helper was doing.
        doing: String,
    },
    /// A helper that was past its deadline came back.
    CameBack {
        /// The function.
        address: Address,
    },
    /// A mapping's state or its reason changed.
    Mapping {
        /// Its name.
        name: String,
        /// Its state.
        state: MappingState,
        /// Why.
        reason: String,
        /// Its functions.
        addresses: Vec<Address>,
    },
    /// A guard held and `allow` lifted it.
    Lifted {
        /// The mapping with the `allow`.
        mapping: String,
        /// The function.
        address: Address,
        /// The guard.
        guard: String,
        /// What the guard saw.
        text: String,
    },
    /// A function is not where a mapping had it before this boot.
    Drifted {
        /// The mapping.
        mapping: String,
        /// Where the function was.
        address: Address,
        /// What became of it, in one sentence.
        text: String,
    },
    /// A config is in force.
    ConfigLoaded {
        /// How many mappings it has.
        mappings: usize,
        /// How many entries of `[sriov]`.
        sriov: usize,
    },
    /// A config was not taken.
    ConfigRejected {
        /// All that is wrong with it.
        text: String,
        /// Whether an older config goes on.
        old_goes_on: bool,
    },
    /// The host's functions could not be listed; what was known goes on.
    ScanFailed {
        /// What went wrong.
        text: String,
    },
    /// Uevents were lost; everything is looked at again.
    Overrun,
}
