//! Tree: how the functions of a host hang together, from NUMA nodes down to
//! functions.
//!
//! Pure. Owns the relation and nothing of how it looks; `views` has what a
//! function is for, in a word.

mod flat;
mod views;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    flat::Flat,
    views::{View, Views, add_guards, of_plan},
};
use crate::pci::{
    address::Address,
    function::{Function, Role},
    inventory::Inventory,
    topology::{behind, root_bus},
};

/// All that a host has, or a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree<'a> {
    /// NUMA nodes by number; what is on none comes last.
    pub nodes: Vec<Node<'a>>,
}

/// A NUMA node, or what is on none that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Its number.
    pub number: Option<u32>,
    /// Its host bridges, in the order of their buses.
    pub roots: Vec<Root<'a>>,
}

/// A host bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root<'a> {
    /// Domain and bus.
    pub bus: String,
    /// What sits on it, in the order of the addresses.
    pub branches: Vec<Branch<'a>>,
}

/// A function and what is behind it; virtual functions are behind their PF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch<'a> {
    /// The function.
    pub function: &'a Function,
    /// What is behind it, in the order of the addresses.
    pub below: Vec<Branch<'a>>,
}

/// Which part of a tree is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These functions, and what they are behind.
    Functions(BTreeSet<Address>),
    /// This one, what it is behind, and what is behind it.
    Around(Address),
}

/// The function that each one is directly behind; those on a host bridge are
/// left out.
#[must_use]
pub fn parents(inventory: &Inventory) -> BTreeMap<Address, Address> {
    let physical = || inventory.iter().filter(|one| !is_virtual(one));
    let by_path: BTreeMap<&str, Address> = physical()
        .filter(|one| !one.path.is_empty())
        .map(|one| (one.path.as_str(), one.address))
        .collect();
    let parent = |function: &Function| {
        // Beside its PF by the kernel's links, and on another bus at times.
        if let Role::Vf { pf, .. } = &function.role
            && inventory.get(*pf).is_some_and(|pf| !is_virtual(pf))
        {
            return Some(*pf);
        }
        let mut above = behind(&function.path);
        while let Some(path) = above {
            if let Some(found) = by_path.get(path) {
                return Some(*found);
            }
            above = behind(path);
        }
        None
    };
    let functions = inventory.iter();
    functions
        .filter_map(|one| Some((one.address, parent(one)?)))
        .collect()
}

fn is_virtual(function: &Function) -> bool {
    matches!(function.role, Role::Vf { .. })
}

/// The domain and bus of the host bridge that a function is below.
fn bus_of(function: &Function) -> String {
    match root_bus(&function.path) {
        "" => {
            let slot = function.address.slot().to_string();
            let bus = slot.rsplit_once(':').map(|(bus, _)| bus);
            bus.unwrap_or_default().to_owned()
        }
        bus => bus.to_owned(),
    }
}

impl<'a> Tree<'a> {
    /// The tree of a host.
    #[must_use]
    pub fn of(inventory: &'a Inventory) -> Self {
        let parents = parents(inventory);
        let mut below: BTreeMap<Option<Address>, Vec<&Function>> = BTreeMap::new();
        for function in inventory.iter() {
            let parent = parents.get(&function.address).copied();
            below.entry(parent).or_default().push(function);
        }
        // Numbers first, and what has none last.
        let mut nodes: BTreeMap<(bool, Option<u32>), Vec<Root<'a>>> = BTreeMap::new();
        for function in below.remove(&None).unwrap_or_default() {
            let branch = grow(function, &mut below);
            let node = (function.numa_node.is_none(), function.numa_node);
            let roots = nodes.entry(node).or_default();
            let bus = bus_of(function);
            match roots.iter_mut().find(|root| root.bus == bus) {
                Some(root) => root.branches.push(branch),
                None => roots.push(Root {
                    bus,
                    branches: vec![branch],
                }),
            }
        }
        let nodes = nodes.into_iter();
        Self {
            nodes: nodes
                .map(|((_, number), roots)| Node { number, roots })
                .collect(),
        }
    }

    /// The part that is wanted, with what leads to it.
    #[must_use]
    pub fn only(mut self, part: &Part) -> Self {
        for node in &mut self.nodes {
            for root in &mut node.roots {
                prune(&mut root.branches, part);
            }
            node.roots.retain(|root| !root.branches.is_empty());
        }
        self.nodes.retain(|node| !node.roots.is_empty());
        self
    }

    /// Its functions, each before what is behind it.
    #[must_use]
    pub fn functions(&self) -> Vec<&'a Function> {
        let roots = self.nodes.iter().flat_map(|node| &node.roots);
        let mut found = Vec::new();
        for branch in roots.flat_map(|root| &root.branches) {
            collect(branch, &mut found);
        }
        found
    }
}

fn grow<'a>(
    function: &'a Function,
    below: &mut BTreeMap<Option<Address>, Vec<&'a Function>>,
) -> Branch<'a> {
    let behind = below.remove(&Some(function.address)).unwrap_or_default();
    Branch {
        function,
        below: behind.into_iter().map(|one| grow(one, below)).collect(),
    }
}

fn prune(branches: &mut Vec<Branch<'_>>, part: &Part) {
    branches.retain_mut(|branch| {
        let address = branch.function.address;
        let is_wanted = match part {
            Part::Functions(wanted) => wanted.contains(&address),
            // All that is behind it stays.
            Part::Around(wanted) if *wanted == address => return true,
            Part::Around(_) => false,
        };
        prune(&mut branch.below, part);
        is_wanted || !branch.below.is_empty()
    });
}

fn collect<'a>(branch: &Branch<'a>, found: &mut Vec<&'a Function>) {
    found.push(branch.function);
    for one in &branch.below {
        collect(one, found);
    }
}
