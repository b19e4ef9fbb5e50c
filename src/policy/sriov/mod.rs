//! SR-IOV: how many VFs a PF is to have, and what each of them is set to.
//!
//! Owns what `[sriov.NAME]` means; `plan` says what of it is to be done to a
//! host, `settings` what a VF can be set to, and `mac` which addresses. Pure.

mod mac;
mod plan;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub(crate) use self::plan::plan;
pub use self::{
    mac::{Mac, MacRule},
    plan::{PfPlan, SriovPlan, Standing},
    settings::{LinkState, Rate, Setting, VfRule, VfSettings, Vlan, VlanProtocol},
};
use super::selector::Selector;

/// A named entry of the config that has VFs made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sriov {
    /// What a person says of it; may be empty.
    pub description: String,
    /// Any of these selectors may match a PF.
    pub pf: Vec<Selector>,
    /// How many VFs each of them is to have.
    pub vfs: VfCount,
    /// Whether the kernel gives new VFs to native drivers.
    pub autoprobe: bool,
    /// What VFs are set to. No two of them set the same thing of one VF.
    pub rules: Vec<VfRule>,
}

/// How many VFs a PF is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VfCount {
    /// So many (`vfs = 8`).
    Number(u16),
    /// All that it can have (`vfs = "max"`).
    Max,
    /// A part of these, in percent from 1 to 100 (`vfs = "50%"`).
    Percent(u8),
}

impl VfCount {
    /// The number for a PF that can have `total`, at least one where that is a part
    /// of them; `None` if it cannot have so many, or none at all.
    #[must_use]
    pub fn of(self, total: u16) -> Option<u16> {
        match self {
            Self::Number(number) => (number <= total).then_some(number),
            Self::Max | Self::Percent(_) if total == 0 => None,
            Self::Max => Some(total),
            Self::Percent(part) => {
                let count = u32::from(total) * u32::from(part) / 100;
                u16::try_from(count).ok().map(|count| count.max(1))
            }
        }
    }

    /// The number, where it is the same for every PF.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self {
            Self::Number(number) => Some(number),
            Self::Max | Self::Percent(_) => None,
        }
    }
}

impl fmt::Display for VfCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Max => f.write_str("max"),
            Self::Percent(part) => write!(f, "{part}%"),
        }
    }
}

impl Sriov {
    /// What the first `count` VFs of a PF are set to; those of which nothing is said
    /// are left out.
    #[must_use]
    pub fn settings(&self, count: u16) -> BTreeMap<u16, VfSettings> {
        let mut all: BTreeMap<u16, VfSettings> = BTreeMap::new();
        for rule in &self.rules {
            for index in (0..count).filter(|index| rule.is_of(*index)) {
                all.entry(index).or_default().add(rule.at(index));
            }
        }
        all
    }

    /// The first MAC address that two of the first `count` VFs would have.
    #[must_use]
    pub fn doubled(&self, count: u16) -> Option<Mac> {
        let mut seen = BTreeSet::new();
        let all = self.settings(count).into_values();
        all.filter_map(|one| one.mac).find(|mac| !seen.insert(*mac))
    }

    /// The first of the first `count` VFs that is to have a MAC address which its base
    /// does not reach.
    #[must_use]
    pub fn beyond(&self, count: u16) -> Option<u16> {
        let lacks = |rule: &VfRule, index| {
            rule.is_of(index) && rule.mac.is_some() && rule.at(index).mac.is_none()
        };
        (0..count).find(|index| self.rules.iter().any(|rule| lacks(rule, *index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_parts_of_what_there_can_be() {
        for (count, total, wanted) in [
            (VfCount::Number(8), 8, Some(8)),
            (VfCount::Number(9), 8, None),
            (VfCount::Number(0), 8, Some(0)),
            (VfCount::Max, 63, Some(63)),
            (VfCount::Percent(50), 7, Some(3)),
            (VfCount::Percent(1), 7, Some(1)),
            (VfCount::Percent(100), 65535, Some(65535)),
            (VfCount::Percent(50), 0, None),
            (VfCount::Max, 0, None),
            (VfCount::Number(0), 0, Some(0)),
        ] {
            assert_eq!(count.of(total), wanted, "{count} of {total}");
        }
    }
}
