//! The tree as a list, for scripts: each function names what it is behind.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Tree, View, Views, bus_of, parents};
use crate::pci::{address::Address, function::Function, inventory::Inventory, topology::root_port};

/// A function of a tree.
#[derive(Debug, Serialize)]
pub struct Flat<'a> {
    /// Its facts, as a list of functions has them.
    #[serde(flatten)]
    pub function: &'a Function,
    /// What it is directly behind, `None` on a host bridge. Of a VF it is the PF.
    pub parent: Option<Address>,
    /// Domain and bus of its host bridge.
    pub root_bus: String,
    /// The root port that it is behind.
    pub root_port: Option<Address>,
    /// The mappings that name it.
    pub mappings: &'a BTreeSet<String>,
    /// What became of it.
    pub state: Option<&'a str>,
    /// Who has it for themselves.
    pub claimed_by: Option<&'a str>,
    /// The guards that hold it with the host.
    pub guards: &'a BTreeSet<String>,
    /// The guards that would, and that its mappings lift.
    pub lifted: &'a BTreeSet<String>,
}

impl<'a> Flat<'a> {
    /// The functions of `tree`, each before what is behind it; `inventory` is what
    /// the tree is a part of.
    #[must_use]
    pub fn of(tree: &Tree<'a>, inventory: &Inventory, views: &'a Views) -> Vec<Self> {
        static NONE: View = View {
            mappings: BTreeSet::new(),
            state: None,
            claimed_by: None,
            guards: BTreeSet::new(),
            lifted: BTreeSet::new(),
            absolute: false,
        };
        let parents = parents(inventory);
        let functions = tree.functions().into_iter();
        let flat = functions.map(|function| {
            let view = views.get(&function.address).unwrap_or(&NONE);
            Self {
                function,
                parent: parents.get(&function.address).copied(),
                root_bus: bus_of(function),
                root_port: port(inventory, function),
                mappings: &view.mappings,
                state: view.state.as_deref(),
                claimed_by: view.claimed_by.as_deref(),
                guards: &view.guards,
                lifted: &view.lifted,
            }
        });
        flat.collect()
    }
}

/// The root port has the domain and bus in its hop.
fn port(inventory: &Inventory, function: &Function) -> Option<Address> {
    let address = root_port(&function.path)?.parse().ok()?;
    inventory.get(address).map(|port| port.address)
}
