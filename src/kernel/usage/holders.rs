//! Holders: who keeps a driver's remove waiting.
//!
//! A remove takes the devices out of sysfs first and waits then for whoever has
//! them open (sound/core/init.c, `snd_card_free`, and drivers/vfio/vfio_main.c,
//! `vfio_unregister_group_dev`, v6.12), so their numbers are taken down before.
//! Reads links, directories and numbers only, which take no device lock.

use serde::{Deserialize, Serialize};

use super::{Look, below::below, nodes};
use crate::{
    kernel::sysfs::{function_dir, link_name},
    pci::{address::Address, function::is_vfio_driver, usage::Fact},
};

/// By what a function can be held open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handles {
    /// The driver that has it.
    pub driver: Option<String>,
    /// The nodes below it, and vfio's.
    pub nodes: Vec<Handle>,
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
    let below = below(look.sysfs, &dir).unwrap_or_default();
    *look.tables.below.borrow_mut() = Some((address, below.clone()));
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
    let vfio = nodes::vfio_nodes(look, &dir).into_iter();
    let vfio = vfio.map(|(node, device)| Handle {
        subsystem: "vfio".to_owned(),
        node,
        device,
    });
    Handles {
        driver: link_name(look.sysfs, &format!("{dir}/driver")),
        nodes: below.chain(vfio).collect(),
    }
}

/// Who has the function at `address` open, by what was taken down `before` and
/// by what is still there.
#[must_use]
pub fn holders(look: Look<'_>, address: Address, before: &Handles) -> Vec<Fact> {
    found(look, address, before).unwrap_or_else(|unchecked| vec![unchecked])
}

fn found(look: Look<'_>, address: Address, before: &Handles) -> Result<Vec<Fact>, Fact> {
    let now = handles(look, address);
    let driver = before.driver.as_ref().or(now.driver.as_ref());
    let mut facts = Vec::new();
    for handle in before.nodes.iter().chain(&now.nodes) {
        if is_given_out_again(look, address, handle) {
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
            // Those that have the device without any node; the others are in.
            let vfio = nodes::vfio(look, &function_dir(address)).into_iter();
            facts.extend(vfio.filter(|fact| match fact {
                Fact::VfioOpen { node, .. } => !node.starts_with('/'),
                _ => true,
            }));
        }
        _ => {}
    }
    facts.sort();
    facts.dedup();
    Ok(facts)
}

/// Whether another device has the number by now, as a card that came later.
fn is_given_out_again(look: Look<'_>, address: Address, handle: &Handle) -> bool {
    let (major, minor) = handle.device;
    let kind = if handle.is_block() { "block" } else { "char" };
    let link = look.sysfs.read_link(&format!("dev/{kind}/{major}:{minor}"));
    // A group of vfio is below no function.
    handle.subsystem != "vfio"
        && link.is_ok_and(|place| {
            let address = address.to_string();
            !place.split('/').any(|part| part == address)
        })
}
