//! Selectors: terms that say what a function is.
//!
//! Owns what each term means and whether a function meets it. Never reads a
//! host: what a term needs and nobody read yet makes the answer [`Answer::Unknown`].

use std::fmt;

use super::pattern::{
    AddressPattern, ClassPattern, IdPattern, Kind, NumaPattern, PfPattern, VfSet,
};
use crate::{
    pci::{
        address::Address,
        function::{Function, Role},
        inventory::Inventory,
    },
    policy::glob::Glob,
};

/// One term: any of its alternatives may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Vendor and device ID.
    Id(Vec<IdPattern>),
    /// Subsystem IDs.
    Subsystem(Vec<IdPattern>),
    /// Class code.
    Class(Vec<ClassPattern>),
    /// SR-IOV role.
    Kind(Vec<Kind>),
    /// NUMA node.
    Numa(Vec<NumaPattern>),
    /// IOMMU group.
    IommuGroup(Vec<u32>),
    /// VF of a PF, and which of its VFs.
    VfOf(Vec<PfPattern>, Option<VfSet>),
    /// Address.
    Address(Vec<AddressPattern>),
    /// Topological path.
    Path(Vec<Glob>),
    /// Firmware's slot label or hotplug slot name.
    Slot(Vec<Glob>),
    /// PCIe Device Serial Number.
    Serial(Vec<Glob>),
    /// Name of a network interface. Only where the function keeps its native
    /// driver, for it goes with that.
    Netdev(Vec<Glob>),
}

/// What a selector says of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Every term holds.
    Yes,
    /// This term does not hold.
    No(&'a Term),
    /// Every known term holds; the serial number was not read yet.
    Unknown,
}

/// Terms that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

/// A function with what terms ask of it beside its own facts.
pub struct Candidate<'a> {
    function: &'a Function,
    inventory: &'a Inventory,
    class: String,
}

impl<'a> Candidate<'a> {
    /// `function`, which is one of `inventory`.
    #[must_use]
    pub fn new(function: &'a Function, inventory: &'a Inventory) -> Self {
        Self {
            function,
            inventory,
            class: function.class.to_string(),
        }
    }

    /// The function itself.
    #[must_use]
    pub fn function(&self) -> &'a Function {
        self.function
    }

    /// The network interfaces of the function at `address`.
    pub(crate) fn interfaces(&self, address: Address) -> &'a [String] {
        let function = self.inventory.get(address);
        function.map_or(&[][..], |one| one.netdevs.as_slice())
    }
}

impl Selector {
    /// A selector of these terms; `None` for an empty list, which would match
    /// every function of the host.
    #[must_use]
    pub fn new(mut terms: Vec<Term>) -> Option<Self> {
        // Cheap terms first; the serial last, since only it can be unknown.
        terms.sort_by_key(Term::cost);
        (!terms.is_empty()).then_some(Self { terms })
    }

    /// The terms, cheapest first.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether `candidate` meets every term.
    #[must_use]
    pub fn answer(&self, candidate: &Candidate<'_>) -> Answer<'_> {
        for term in &self.terms {
            match term.holds(candidate) {
                Some(true) => {}
                Some(false) => return Answer::No(term),
                None => return Answer::Unknown,
            }
        }
        Answer::Yes
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

impl Term {
    fn cost(&self) -> u8 {
        match self {
            Self::Id(_) | Self::Numa(_) | Self::IommuGroup(_) | Self::Kind(_) => 0,
            Self::Subsystem(_) | Self::Class(_) => 1,
            Self::Address(_) | Self::Path(_) | Self::Slot(_) | Self::VfOf(..) | Self::Netdev(_) => {
                2
            }
            Self::Serial(_) => 3,
        }
    }

    /// The key in the config.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Id(_) => "id",
            Self::Subsystem(_) => "subsystem",
            Self::Class(_) => "class",
            Self::Kind(_) => "kind",
            Self::Numa(_) => "numa",
            Self::IommuGroup(_) => "iommu_group",
            Self::VfOf(..) => "vf_of",
            Self::Address(_) => "address",
            Self::Path(_) => "path",
            Self::Slot(_) => "slot",
            Self::Serial(_) => "serial",
            Self::Netdev(_) => "netdev",
        }
    }

    /// Whether one of the alternatives holds, `None` if nobody knows yet.
    #[must_use]
    pub fn holds(&self, candidate: &Candidate<'_>) -> Option<bool> {
        let function = candidate.function;
        Some(match self {
            Self::Id(ids) => ids.iter().any(|id| id.matches(function.id)),
            Self::Subsystem(ids) => function
                .subsystem
                .is_some_and(|subsystem| ids.iter().any(|id| id.matches(subsystem))),
            Self::Class(classes) => classes.iter().any(|class| class.matches(&candidate.class)),
            Self::Kind(kinds) => kinds.contains(&Kind::of(&function.role)),
            Self::Numa(nodes) => nodes.iter().any(|node| node.matches(function.numa_node)),
            Self::IommuGroup(groups) => function
                .iommu_group
                .is_some_and(|group| groups.contains(&group)),
            Self::VfOf(pfs, vfs) => is_vf_of(candidate, pfs, vfs.as_ref()),
            Self::Address(globs) => globs.iter().any(|glob| glob.matches(function.address)),
            Self::Path(globs) => globs.iter().any(|glob| glob.matches(&function.path)),
            Self::Slot(globs) => [&function.slot_label, &function.slot_name]
                .into_iter()
                .flatten()
                .any(|text| globs.iter().any(|glob| glob.matches(text))),
            Self::Netdev(globs) => {
                let mut names = function.netdevs.iter();
                names.any(|name| globs.iter().any(|glob| glob.matches(name)))
            }
            Self::Serial(globs) => {
                let serial = function.inspection.as_ref()?.serial.as_deref();
                serial.is_some_and(|serial| globs.iter().any(|glob| glob.matches(serial)))
            }
        })
    }
}

fn is_vf_of(candidate: &Candidate<'_>, pfs: &[PfPattern], vfs: Option<&VfSet>) -> bool {
    let Role::Vf { pf, index } = candidate.function.role else {
        return false;
    };
    let wanted = match (vfs, index) {
        (None, _) => true,
        (Some(vfs), Some(index)) => vfs.contains(index),
        (Some(_), None) => false,
    };
    wanted && {
        let netdevs = candidate.interfaces(pf);
        pfs.iter().any(|pattern| pattern.matches(pf, netdevs))
    }
}

fn alternatives<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    values: &[T],
) -> fmt::Result {
    write!(f, "{name}=")?;
    for (index, value) in values.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{value}")?;
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Id(values) | Self::Subsystem(values) => alternatives(f, name, values),
            Self::Class(values) => alternatives(f, name, values),
            Self::Kind(values) => alternatives(f, name, values),
            Self::Numa(values) => alternatives(f, name, values),
            Self::IommuGroup(values) => alternatives(f, name, values),
            Self::VfOf(values, vfs) => {
                alternatives(f, name, values)?;
                vfs.as_ref().map_or(Ok(()), |vfs| write!(f, " vf={vfs}"))
            }
            Self::Address(values) => alternatives(f, name, values),
            Self::Path(values)
            | Self::Slot(values)
            | Self::Serial(values)
            | Self::Netdev(values) => alternatives(f, name, values),
        }
    }
}
