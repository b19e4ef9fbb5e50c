//! Placement: in which order devices are chosen where there are more than are
//! wanted.
//!
//! The one order that `take` and claims go by. Pure: same devices, same answer,
//! whatever else the host has. What is held already comes first, then what is on
//! the preferred node; among these the placement decides.

mod board;
mod take;
mod words;

pub use self::{board::arrange, words::Placed};
pub(crate) use self::{take::take, words::words};
use crate::pci::function::Function;

/// How devices are chosen among equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// In the order of their addresses.
    #[default]
    Address,
    /// As far from one another as can be: NUMA nodes in turn, then host bridges,
    /// root ports, switches, cards.
    Spread,
    /// As near to one another as can be.
    Pack,
}

impl Placement {
    /// All of them, by their names in the config and on D-Bus.
    pub const ALL: [(&str, Self); 3] = [
        ("address", Self::Address),
        ("spread", Self::Spread),
        ("pack", Self::Pack),
    ];

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Spread => "spread",
            Self::Pack => "pack",
        }
    }
}

/// What of several devices is rather chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// What is on this NUMA node.
    pub numa: Option<u32>,
    /// And, among equals, by this.
    pub placement: Placement,
}

impl Preference {
    /// Whether the order is that of the addresses.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Functions that are chosen together or not at all.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// In the order of their addresses.
    pub functions: Vec<&'a Function>,
    /// How many devices they count as.
    pub devices: usize,
    /// Whose it is.
    pub hand: Hand,
}

/// Whose devices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Theirs who choose: these come first.
    Own,
    /// Nobody's.
    Free,
    /// Somebody else's: they cannot be chosen, and tell which places are busy.
    Others,
}

impl Piece<'_> {
    /// Whether some of it is on this NUMA node.
    fn is_on(&self, node: u32) -> bool {
        let mut functions = self.functions.iter();
        functions.any(|one| one.numa_node == Some(node))
    }
}

/// Which of `functions`, by their places in it, go together: those that share an
/// IOMMU group, which vfio gives to one user only, and with `by_slot` those that
/// share a slot. In the order of their first ones.
#[must_use]
pub fn together(functions: &[&Function], by_slot: bool) -> Vec<Vec<usize>> {
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for (place, function) in functions.iter().enumerate() {
        let goes = |other: &usize| {
            let other = functions.get(*other);
            other.is_some_and(|other| go_together(function, other, by_slot))
        };
        let (joined, mut rest): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|set| set.iter().any(goes));
        let mut set: Vec<_> = joined.into_iter().flatten().collect();
        set.push(place);
        set.sort_unstable();
        rest.push(set);
        sets = rest;
    }
    sets.sort_unstable();
    sets
}

fn go_together(one: &Function, other: &Function, by_slot: bool) -> bool {
    (by_slot && one.address.slot() == other.address.slot())
        || (one.iommu_group.is_some() && one.iommu_group == other.iommu_group)
}
