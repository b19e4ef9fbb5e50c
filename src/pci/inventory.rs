//! All functions of a host, in the order of their addresses.
//!
//! Owns the set and the questions that need all of it. Never reads a host.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    address::{Address, Slot},
    function::Function,
};

/// All functions of a host by address. A copy shares them until one changes,
/// and is compared by what is not shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    functions: BTreeMap<Address, Arc<Function>>,
}

impl FromIterator<Function> for Inventory {
    fn from_iter<I: IntoIterator<Item = Function>>(functions: I) -> Self {
        Self {
            functions: functions
                .into_iter()
                .map(|function| (function.address, Arc::new(function)))
                .collect(),
        }
    }
}

impl Inventory {
    /// The function at `address`.
    #[must_use]
    pub fn get(&self, address: Address) -> Option<&Function> {
        self.functions.get(&address).map(Arc::as_ref)
    }

    /// The function at `address`, to be changed.
    pub fn get_mut(&mut self, address: Address) -> Option<&mut Function> {
        self.functions.get_mut(&address).map(Arc::make_mut)
    }

    /// Adds `function`, or replaces what was at its address.
    pub fn insert(&mut self, function: Function) -> Option<Function> {
        let old = self.functions.insert(function.address, Arc::new(function));
        old.map(Arc::unwrap_or_clone)
    }

    /// Takes out what is at `address`.
    pub fn remove(&mut self, address: Address) -> Option<Function> {
        self.functions.remove(&address).map(Arc::unwrap_or_clone)
    }

    /// All functions in the order of their addresses.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Function> {
        self.functions.values().map(Arc::as_ref)
    }

    /// The functions in `slot`, function 0 first.
    pub fn slot(&self, slot: Slot) -> impl Iterator<Item = &Function> {
        let ends = slot.function(0).zip(slot.function(7));
        ends.into_iter()
            .flat_map(|(first, last)| self.functions.range(first..=last))
            .map(|(_, function)| function.as_ref())
    }

    /// The members of each IOMMU group, in the order of their addresses.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<u32, Vec<Address>> {
        let mut groups: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
        for function in self.iter() {
            if let Some(group) = function.iommu_group {
                groups.entry(group).or_default().push(function.address);
            }
        }
        groups
    }

    /// How many functions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is no function at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Whether any function is in an IOMMU group, which is what a working
    /// IOMMU looks like from sysfs.
    #[must_use]
    pub fn has_iommu(&self) -> bool {
        self.iter().any(|function| function.iommu_group.is_some())
    }
}
