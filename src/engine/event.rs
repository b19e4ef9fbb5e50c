//! Events and effects: all that passes between the engine and the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use super::outcome::{Outcome, Owned, Tuned};
use super::{
    claims::{Asked, Claim, Unclaimed, User},
    nodes::Rules,
    report::Report,
    restore::Returned,
    snapshot::Snapshot,
    sriov::{Made, Settled},
    target::Target,
    undo::Unrestored,
};
use crate::{
    pci::{
        address::Address,
        function::{Function, Inspection},
        id::PciId,
        inventory::Inventory,
    },
    policy::{
        drift::Memory, early::Known, knobs::Knobs, model::Policy, ownership::Ownership,
        plan::Action, sriov::VfSettings,
    },
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
    /// These were vouched for by an earlier daemon of this boot, or by the
    /// former boot and taken early in this one.
    Vouched(Vec<Known>),
    /// udev has been through the devices that were there at boot.
    UdevIdle {
        /// Whether it was before anything was looked at.
        all_along: bool,
    },
    /// The kernel says that a function came or changed.
    Changed(Address),
    /// The kernel says that a network interface of a function came or went, or got
    /// its name.
    Interface(Address),
    /// udev holds back the native driver of a function that came, until
    /// [`Effect::Settled`] says that it need not.
    Arrived(Address),
    /// The kernel says that a function went.
    Removed(Address),
    /// Uevents were lost.
    Overrun,
    /// Everything is to be looked at again, now.
    Rescan,
    /// As [`Event::Rescan`], and what was given back is to be taken again.
    RescanTake,
    /// The undo journal was read, at the start.
    Journal {
        /// Its entries.
        entries: Vec<Noted>,
        /// What of it cannot be read, each a sentence.
        trouble: Vec<String>,
    },
    /// Somebody wants functions given back; answer with [`Effect::Answer`].
    Restore {
        /// Who is answered.
        asker: u64,
        /// Which functions.
        target: Target,
    },
    /// An earlier daemon of this boot keeps native drivers from the VFs of these
    /// PFs.
    Withheld(Vec<Address>),
    /// A helper is done with [`Effect::Withhold`]; whether that changed anything.
    Withholding(Address, Result<bool, String>),
    /// A helper is done with [`Effect::MakeVfs`].
    Made(Address, Made),
    /// A helper is done with [`Effect::SettleVfs`].
    Settled(Address, Settled),
    /// A helper looked whose the nodes of a function are.
    Owned(Address, Owned),
    /// A helper looked what the settings of a function are.
    Tuned(Address, Tuned),
    /// A helper gave a function back, or did not.
    Restored(Address, Returned),
    /// The journal has the function no longer as given back; whether it still
    /// has an entry of it, or why that did not work.
    Retaken(Address, Result<bool, String>),
    /// What was claimed of an earlier daemon of this boot, at the start.
    Claimed(Vec<Claim>),
    /// Somebody wants functions of a mapping; answer with [`Effect::Granted`].
    Claim {
        /// Who is answered.
        asker: u64,
        /// What they want.
        asked: Asked,
    },
    /// Somebody wants what an owner has freed; answer with [`Effect::Freed`].
    Release {
        /// Who is answered.
        asker: u64,
        /// Whose claims.
        owner: String,
        /// The user who asks.
        uid: u32,
    },
    /// It was looked who uses functions, or that could not be found out.
    Users(Result<BTreeMap<Address, User>, String>),
    /// The lifetime of the claim with this serial number is over.
    ClaimOver(u64),
    /// The daemon is on this bus, and these connections are not, or no more: the
    /// bus's id, and their unique names.
    CallersLeft {
        /// The bus.
        bus: String,
        /// Who left.
        names: BTreeSet<String>,
    },
    /// Helpers of an earlier daemon are still at these, at the start.
    Unfinished(Vec<(Address, Unfinished)>),
    /// Such a helper ended.
    Finished(Address),
    /// Who holds a function that is stuck was looked for: a clause each.
    Holders(Address, Vec<String>),
    /// It is time for the slow look at everything that heals what was missed.
    Audit,
    /// Time has passed.
    Tick,
}

impl Event {
    /// Whether it says no more than how far the work on a function is, or that
    /// time has passed.
    pub(super) const fn is_progress(&self) -> bool {
        matches!(
            self,
            Self::Observed(..)
                | Self::Inspected(..)
                | Self::Applied(..)
                | Self::Owned(..)
                | Self::Tuned(..)
                | Self::Changed(_)
                | Self::Interface(_)
                | Self::Arrived(_)
                | Self::Removed(_)
                | Self::Tick
        )
    }
}

/// What a helper is at that may outlive this daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What it does, for "does not come back from ...".
    pub doing: String,
    /// The IOMMU group that it changes, `None` if it changes none.
    pub group: Option<u32>,
    /// Whether it has a PF make VFs, so that those that there are may go.
    pub makes_vfs: bool,
    /// Whether it is past its deadline.
    pub late: bool,
}

/// What the undo journal says of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The function.
    pub address: Address,
    /// The mappings that it was taken for.
    pub mappings: Vec<String>,
    /// How far its return is.
    pub standing: Standing,
    /// Whether settings of it were changed.
    pub tuned: bool,
}

/// How far the return of a taken function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody asked for it.
    Taken,
    /// It was begun.
    Returning,
    /// The host has it back.
    Released,
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
        /// It is needed which variant driver is for it.
        variant: bool,
        /// Its settings are needed.
        settings: bool,
    },
    /// Have a helper apply an action; answer with [`Event::Applied`].
    Apply(Action),
    /// Have a helper give a function back; answer with [`Event::Restored`].
    Restore {
        /// The function.
        address: Address,
        /// All that are given back together.
        together: Vec<Address>,
    },
    /// Have a helper keep native drivers from the VFs of a PF, or let them again;
    /// answer with [`Event::Withholding`].
    Withhold {
        /// The PF.
        pf: Address,
        /// Whether drivers are kept from them.
        withhold: bool,
    },
    /// Have a helper see to it that a PF has so many VFs; answer with
    /// [`Event::Made`].
    MakeVfs {
        /// The PF.
        pf: Address,
        /// Its IDs.
        id: PciId,
        /// So many.
        count: u16,
        /// Whether native drivers may have them.
        autoprobe: bool,
    },
    /// Have a helper set the VFs of a PF; answer with [`Event::Settled`].
    SettleVfs {
        /// The PF.
        pf: Address,
        /// Its IDs.
        id: PciId,
        /// By the VF's index.
        settings: BTreeMap<u16, VfSettings>,
        /// Which of them were set so before, and it is looked whether they still are.
        again: BTreeSet<u16>,
    },
    /// Have the undo journal forget that the function was given back; answer
    /// with [`Event::Retaken`].
    Retake(Address),
    /// A helper writes to the function, or is late: keep that for the next
    /// daemon of this boot, should this one end first.
    Unfinished(Address, Unfinished),
    /// What was kept of the function by [`Effect::Unfinished`] is over.
    Finished(Address),
    /// Nothing is to be done to this function, or it was done: its native driver
    /// may come.
    Settled(Address),
    /// Have a helper look who holds a function that is stuck; answer with
    /// [`Event::Holders`].
    FindHolders(Address),
    /// Tell this to the one who asked for a restore.
    Answer {
        /// Who asked.
        asker: u64,
        /// That it is done, or why not.
        result: Result<(), Unrestored>,
    },
    /// Leave this for udev, and nothing else: whose the nodes of IOMMU groups and
    /// of functions are to be.
    KeepNodes(Rules),
    /// Have a helper see to it that the nodes of a bound function are so; answer
    /// with [`Event::Owned`].
    Own(Address, Ownership),
    /// Have a helper make the settings of a bound function what they are to be;
    /// answer with [`Event::Tuned`].
    Tune {
        /// The function.
        address: Address,
        /// Its IDs.
        id: PciId,
        /// What they are to be.
        knobs: Knobs,
        /// The mappings that have it.
        mappings: Vec<String>,
    },
    /// Look who uses these; answer with [`Event::Users`].
    FindUsers(Vec<Address>),
    /// Keep the claims for the next daemon of this boot.
    KeepClaims(Vec<Claim>),
    /// Say when the claim's lifetime is over, with [`Event::ClaimOver`].
    Watch(Claim),
    /// Tell this to the one who claimed.
    Granted {
        /// Who asked.
        asker: u64,
        /// The functions, or why there are none.
        result: Result<Vec<Address>, Unclaimed>,
    },
    /// Tell this to the one who released.
    Freed {
        /// Who asked.
        asker: u64,
        /// That it is done, or why not.
        result: Result<(), Unclaimed>,
    },
    /// Keep this for the next boot.
    Remember(Memory),
    /// Keep this for the early stage of the next boot: the first pass is over,
    /// and these are bound and were found idle before.
    Vouch(Vec<Known>),
    /// Publish this.
    Publish(Arc<Snapshot>),
    /// Tell this.
    Report(Report),
}
