//! What a helper is sent to do.

use std::collections::BTreeMap;

use crate::policy::{knobs::Knobs, ownership::Ownership, plan::Action, sriov::VfSettings};

/// What a helper is doing with a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Inspect,
    Apply(Action),
    /// Give back a function of this IOMMU group.
    Restore {
        group: Option<u32>,
    },
    /// Have the nodes of the function belong to whom a mapping says. Takes no
    /// device lock (`kernel::nodes`).
    Own(Ownership),
    /// Make the settings of the function what they are to be.
    Tune(Knobs),
    /// Have the undo journal forget that it was given back.
    Retake,
    /// Keep native drivers from the VFs of this PF, or let them again. Takes no
    /// device lock (drivers/pci/iov.c, `sriov_drivers_autoprobe_store`, v6.12).
    Withhold(bool),
    /// Have this PF make so many VFs.
    MakeVfs(u16),
    /// Set the VFs of this PF so. Takes no device lock (net/core/rtnetlink.c,
    /// `do_setvfinfo`, v6.12).
    SettleVfs(BTreeMap<u16, VfSettings>),
    /// What a helper of an earlier daemon is still at.
    Former {
        /// What it does, for "does not come back from ...".
        doing: String,
        /// The IOMMU group of the function.
        group: Option<u32>,
        /// Whether it makes VFs.
        makes_vfs: bool,
    },
}

impl Errand {
    /// Whether it may be writing to the function.
    pub(super) const fn writes(&self) -> bool {
        match self {
            Self::Apply(_)
            | Self::Restore { .. }
            | Self::Tune(_)
            | Self::MakeVfs(_)
            | Self::Former { .. } => true,
            Self::Inspect
            | Self::Own(_)
            | Self::Retake
            | Self::Withhold(_)
            | Self::SettleVfs(_) => false,
        }
    }

    /// Whether it is the kernel that it waits for, and so perhaps a process.
    pub(super) const fn is_held_up(&self) -> bool {
        !matches!(
            self,
            Self::Own(_) | Self::Retake | Self::Withhold(_) | Self::SettleVfs(_)
        )
    }

    /// Whether it has a PF make VFs.
    pub(super) const fn makes_vfs(&self) -> bool {
        match self {
            Self::MakeVfs(_) => true,
            Self::Former { makes_vfs, .. } => *makes_vfs,
            _ => false,
        }
    }

    /// What a helper does, for "does not come back from ...".
    pub(super) fn doing(&self) -> String {
        match self {
            Self::Inspect => "reading its driver override and its use".to_owned(),
            Self::Apply(action) => match &action.detach {
                Some(native) => format!("unbinding {native} and binding {}", action.driver),
                None => format!("binding {}", action.driver),
            },
            Self::Restore { .. } => "giving it back".to_owned(),
            Self::Own(_) => "looking whose its nodes are".to_owned(),
            Self::Tune(_) => "making its settings what they are to be".to_owned(),
            Self::Retake => "writing the undo journal".to_owned(),
            Self::Withhold(_) => "setting sriov_drivers_autoprobe".to_owned(),
            Self::MakeVfs(count) => format!("making {count} VFs"),
            Self::SettleVfs(_) => "setting its VFs".to_owned(),
            Self::Former { doing, .. } => doing.clone(),
        }
    }

    /// The IOMMU group that it changes, if it changes one.
    pub(super) fn group(&self) -> Option<u32> {
        match self {
            Self::Apply(action) => Some(action.group),
            Self::Restore { group } | Self::Former { group, .. } => *group,
            Self::Inspect
            | Self::Own(_)
            | Self::Tune(_)
            | Self::Retake
            | Self::Withhold(_)
            | Self::MakeVfs(_)
            | Self::SettleVfs(_) => None,
        }
    }
}
