//! SR-IOV patterns: a PF, which of its VFs, a function's role.

use std::{fmt, str::FromStr};

use super::{AddressPattern, PatternError};
use crate::{
    pci::{address::Address, function::Role},
    policy::glob::Glob,
};

/// A PF by address or by the name of its network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PfPattern {
    /// By address: the value has a `:`.
    Address(AddressPattern),
    /// By network interface: interface names cannot have a `:`
    /// (net/core/dev.c, `dev_valid_name`, v6.12).
    Netdev(Glob),
}

impl PfPattern {
    /// Whether the PF with this address and these interfaces is meant.
    #[must_use]
    pub fn matches(&self, address: Address, netdevs: &[String]) -> bool {
        match self {
            Self::Address(glob) => glob.matches(address),
            Self::Netdev(glob) => netdevs.iter().any(|name| glob.matches(name)),
        }
    }
}

impl FromStr for PfPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.contains(':') {
            return text.parse().map(Self::Address);
        }
        text.parse().map(Self::Netdev).map_err(|error| {
            PatternError(format!(
                "'{text}' is not a PF: {error}; expected its address or network interface, like \
                 '0000:3b:00.0' or 'enp59s0f*'"
            ))
        })
    }
}

impl fmt::Display for PfPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(glob) => glob.fmt(f),
            Self::Netdev(glob) => glob.fmt(f),
        }
    }
}

/// VF indices, as in `0,2-7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfSet(Vec<(u16, u16)>);

impl VfSet {
    /// Whether the set has `index`.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&index))
    }

    /// The first index that both sets have.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<u16> {
        let firsts = |set: &Self| set.0.iter().map(|(first, _)| *first).collect::<Vec<_>>();
        let mut starts = [firsts(self), firsts(other)].concat();
        starts.sort_unstable();
        // Two ranges that meet do so first where one of them begins.
        let mut starts = starts.into_iter();
        starts.find(|index| self.contains(*index) && other.contains(*index))
    }

    /// The least index of the set.
    #[must_use]
    pub fn first(&self) -> Option<u16> {
        self.0.iter().map(|(first, _)| *first).min()
    }

    /// The index, if the set has no other one.
    #[must_use]
    pub fn only(&self) -> Option<u16> {
        self.first().filter(|first| self.last() == Some(*first))
    }

    /// The greatest index of the set.
    #[must_use]
    pub fn last(&self) -> Option<u16> {
        self.0.iter().map(|(_, last)| *last).max()
    }
}

impl FromStr for VfSet {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |why: &str| {
            PatternError(format!(
                "'{text}' is not a list of VF indices: {why}; expected numbers and ranges from 0, \
                 like '0,2-7'"
            ))
        };
        let number = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| wrong(&format!("'{text}' is not a number from 0 to 65535")))
        };
        text.split(',')
            .map(str::trim)
            .map(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let (first, last) = (number(first.trim())?, number(last.trim())?);
                (first <= last)
                    .then_some((first, last))
                    .ok_or_else(|| wrong(&format!("the range '{part}' runs backwards")))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for VfSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// A function's SR-IOV role, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A physical function.
    Pf,
    /// A virtual function.
    Vf,
    /// Neither.
    Plain,
}

impl Kind {
    /// The kind that `role` is.
    #[must_use]
    pub fn of(role: &Role) -> Self {
        match role {
            Role::Plain => Self::Plain,
            Role::Pf { .. } => Self::Pf,
            Role::Vf { .. } => Self::Vf,
        }
    }
}

impl FromStr for Kind {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.to_ascii_lowercase().as_str() {
            "pf" => Ok(Self::Pf),
            "vf" => Ok(Self::Vf),
            "plain" => Ok(Self::Plain),
            _ => Err(PatternError(format!(
                "'{text}' is not a kind of function: expected 'pf', 'vf' or 'plain'"
            ))),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pf => "pf",
            Self::Vf => "vf",
            Self::Plain => "plain",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vf_sets_read_back() {
        let set: VfSet = "0, 2-7,9".parse().unwrap();
        assert_eq!(set.to_string(), "0,2-7,9");
        assert!(set.contains(0) && !set.contains(1) && set.contains(7) && set.contains(9));
        for text in ["", "a", "3-1", "1-", "+1", "70000", "1,,2"] {
            assert!(text.parse::<VfSet>().is_err(), "{text}");
        }
    }
}
