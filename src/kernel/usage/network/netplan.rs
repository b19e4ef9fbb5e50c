//! Interfaces in netplan's files, whatever renders them.
//!
//! Source: netplan(5) of version 0.106.

use super::{
    interface::{Fit, Interface, any},
    yaml::{Node, parse},
};
use crate::kernel::usage::files::Files;

const DIRECTORIES: &[&str] = &["/etc/netplan", "/run/netplan", "/lib/netplan"];

/// A file of netplan's.
#[derive(Debug)]
pub(super) struct Netplan {
    pub(super) path: String,
    network: Node,
}

/// All files. One that is not understood is trouble.
pub(super) fn read(files: &mut Files<'_>) -> Vec<Netplan> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        for (name, path) in files.entries(directory) {
            if !name.ends_with(".yaml") {
                continue;
            }
            match parse(&files.read(&path)).and_then(|document| network(&document)) {
                Ok(network) => found.push(Netplan { path, network }),
                Err(why) => {
                    let text = format!("{path} is not understood: {why}");
                    files.troubles.push(text);
                }
            }
        }
    }
    found
}

/// The part that names interfaces, of the shape that it must have.
fn network(document: &Node) -> Result<Node, String> {
    let network = match document {
        Node::Nothing => &Node::Nothing,
        Node::Map(_) => document.get("network").unwrap_or(&Node::Nothing),
        _ => return Err("it is no map".to_owned()),
    };
    for (section, definitions) in network.map() {
        if matches!(definitions, Node::List(_)) {
            return Err(format!("network.{section} is a list"));
        }
    }
    match network {
        Node::Nothing | Node::Map(_) => Ok(network.clone()),
        _ => Err("network is no map".to_owned()),
    }
}

/// The sections whose names are of hardware.
const PHYSICAL: &[&str] = &["ethernets", "wifis", "modems"];

impl Netplan {
    /// Whether it defines `interface`, or something that is made of it.
    pub(super) fn names(&self, interface: &Interface) -> bool {
        self.network.map().iter().any(|(section, definitions)| {
            let physical = PHYSICAL.contains(&section.as_str());
            definitions.map().iter().any(|(id, definition)| {
                let parts = ["interfaces", "link"].map(|key| definition.get(key));
                let mut parts = parts.into_iter().flatten().flat_map(Node::scalars);
                parts.any(|name| interface.is(name))
                    || physical && is_definition_of(id, definition, interface)
            })
        })
    }
}

/// Whether a definition is of `interface`: by its `match`, without one by its
/// name.
fn is_definition_of(id: &str, definition: &Node, interface: &Interface) -> bool {
    let renamed = definition.get("set-name").is_some_and(|name| {
        let names = name.scalars();
        names.iter().any(|name| interface.is(name))
    });
    let matches = definition.get("match").map_or_else(
        || Fit::of(interface.is(id)),
        |conditions| {
            let fits = conditions.map().iter().map(|(key, value)| {
                let globs = value.scalars();
                match key.as_str() {
                    "name" => interface.fits_name(&globs),
                    "macaddress" => interface
                        .has_permanent(&globs)
                        .max(interface.has_address(&globs)),
                    "driver" => any(&globs, interface.driver.as_deref().as_slice()),
                    _ => Fit::Maybe,
                }
            });
            // Empty it fits all.
            fits.min().unwrap_or(Fit::Yes)
        },
    );
    renamed || matches > Fit::No
}
