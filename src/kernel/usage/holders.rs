//! Holders: who keeps a driver's remove waiting.
//!
//! A remove takes the devices out of sysfs first and waits then for whoever has
//! them open (sound/core/init.c, `snd_card_free`, and drivers/vfio/vfio_main.c,
//! `vfio_unregister_group_dev`, v6.12), so their numbers are taken down before.
//! The same goes for VFs that go with their PF, or with their number.
//! Reads links, directories and numbers only, which take no device lock.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Look,
    below::{Device, below},
    nodes,
};
use crate::{
    kernel::{
        scan::vfs,
        sysfs::{function_dir, link_name},
    },
    pci::{address::Address, function::is_vfio_driver, usage::Fact},
};

/// By what a function can be held open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handles {
    /// The driver that has it.
    pub driver: Option<String>,
    /// The nodes below it and below its VFs, and vfio's.
    pub nodes: Vec<Handle>,
    /// Its VFs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vfs: Vec<Address>,
    /// Whether it is these alone that go, so that its own nodes are not among them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vfs_only: bool,
}

/// A node that can be open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handle {
    /// What kind of device, as its subsystem in sysfs.
    pub subsystem: String,
    /// The kernel's name for it.
    pub node: String,
    /// Its major and minor number.
    pub device: (u32, u32),
}

impl Handle {
    fn is_block(&self) -> bool {
        self.subsystem == "block"
    }
}

/// By what the function at `address` can be held open now. What cannot be
/// listed is left out: nobody may be kept from an unbind by it.
#[must_use]
pub fn handles(look: Look<'_>, address: Address) -> Handles {
    let dir = function_dir(address);
    let own = below(look.sysfs, &dir).unwrap_or_default();
    *look.tables.below.borrow_mut() = Some((address, own.clone()));
    let mut nodes = nodes_of(look, &dir, own);
    let vfs = vf_handles(look, address);
    nodes.extend(vfs.nodes);
    Handles {
        driver: link_name(look.sysfs, &format!("{dir}/driver")),
        nodes,
        vfs: vfs.vfs,
        vfs_only: false,
    }
}

/// The same of the VFs of the PF at `address`, which stays itself.
#[must_use]
pub fn vf_handles(look: Look<'_>, address: Address) -> Handles {
    let vfs = vfs(look.sysfs, &function_dir(address));
    let nodes = vfs.iter().flat_map(|vf| {
        let dir = function_dir(*vf);
        let own = below(look.sysfs, &dir).unwrap_or_default();
        nodes_of(look, &dir, own)
    });
    Handles {
        driver: None,
        nodes: nodes.collect(),
        vfs,
        vfs_only: true,
    }
}

/// The nodes of the function in `dir` that a remove waits for.
fn nodes_of(look: Look<'_>, dir: &str, below: Vec<Device>) -> Vec<Handle> {
    let below = below.into_iter();
    // No remove waits for those who read an input device, as logind does.
    let below = below.filter(|device| !matches!(device.subsystem.as_str(), "input" | "vfio-dev"));
    let below = below.filter_map(|device| {
        let device_number = nodes::number(look, &device.place)?;
        Some(Handle {
            subsystem: device.subsystem,
            node: device.name,
            device: device_number,
        })
    });
    let vfio = nodes::vfio_nodes(look, dir).into_iter();
    let vfio = vfio.map(|(node, device)| Handle {
        subsystem: "vfio".to_owned(),
        node,
        device,
    });
    below.chain(vfio).collect()
}

/// Who has the function at `address` open, by what was taken down `before` and
/// by what is still there.
#[must_use]
pub fn holders(look: Look<'_>, address: Address, before: &Handles) -> Vec<Fact> {
    found(look, address, before).unwrap_or_else(|unchecked| vec![unchecked])
}

fn found(look: Look<'_>, address: Address, before: &Handles) -> Result<Vec<Fact>, Fact> {
    let now = if before.vfs_only {
        vf_handles(look, address)
    } else {
        handles(look, address)
    };
    let vfs: BTreeSet<_> = before.vfs.iter().chain(&now.vfs).copied().collect();
    let functions = [address].into_iter().chain(vfs.iter().copied());
    let functions: Vec<_> = functions.map(|function| function.to_string()).collect();
    let driver = before.driver.as_ref().or(now.driver.as_ref());
    let mut facts = Vec::new();
    for handle in before.nodes.iter().chain(&now.nodes) {
        if is_given_out_again(look, &functions, handle) {
            continue;
        }
        let nodes = nodes::open(look)?.nodes.iter();
        let nodes =
            nodes.filter(|node| node.block == handle.is_block() && node.device == handle.device);
        facts.extend(nodes.map(|open| Fact::NodeOpen {
            subsystem: handle.subsystem.clone(),
            node: handle.node.clone(),
            process: open.process.clone(),
        }));
    }
    match driver.map(String::as_str) {
        Some("nvidia") => facts.extend(nodes::nvidia(look)?),
        Some(driver) if is_vfio_driver(driver) => {
            facts.extend(without_node(look, &function_dir(address)));
        }
        _ => {}
    }
    for dir in vfs.into_iter().map(function_dir) {
        let driver = link_name(look.sysfs, &format!("{dir}/driver"));
        if driver.is_some_and(|driver| is_vfio_driver(&driver)) {
            facts.extend(without_node(look, &dir));
        }
    }
    facts.sort();
    facts.dedup();
    Ok(facts)
}

/// Those that have the vfio device of the function in `dir` without any node.
fn without_node(look: Look<'_>, dir: &str) -> impl Iterator<Item = Fact> {
    let found = nodes::vfio(look, dir).into_iter();
    found.filter(|fact| match fact {
        Fact::VfioOpen { node, .. } => !node.starts_with('/'),
        _ => true,
    })
}

/// Whether another device has the number by now, as a card that came later.
fn is_given_out_again(look: Look<'_>, functions: &[String], handle: &Handle) -> bool {
    let (major, minor) = handle.device;
    let kind = if handle.is_block() { "block" } else { "char" };
    let link = look.sysfs.read_link(&format!("dev/{kind}/{major}:{minor}"));
    // A group of vfio is below no function.
    handle.subsystem != "vfio"
        && link.is_ok_and(|place| {
            let mut parts = place.split('/');
            !parts.any(|part| functions.iter().any(|function| function == part))
        })
}
