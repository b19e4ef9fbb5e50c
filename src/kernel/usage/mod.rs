//! Usage: what the host does with a function through its native driver, as
//! facts. `policy::guard` says what each of them speaks against.
//!
//! Says [`Fact::Unchecked`] wherever it cannot prove idleness. Runs in helpers
//! only: opening a dead disk can block.

mod below;
mod display;
mod files;
mod holders;
mod hung_task;
mod network;
mod nodes;
mod provable;
mod storage;
mod system;
mod usb;

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use self::below::{Device, below};
pub use self::holders::{Handle, Handles, handles, holders, vf_handles};
use super::{
    host::Host,
    reservations,
    sysfs::{Sysfs, function_dir, link_name, text},
    variant,
};
use crate::{
    pci::{address::Address, function::is_vfio_driver, id::ClassCode, usage::Fact},
    policy::guard,
};

/// What is read once for many functions.
#[derive(Debug, Default)]
pub struct Tables {
    nodes: nodes::Tables,
    network: network::Tables,
    display: display::Tables,
    system: system::Tables,
    storage: storage::Tables,
    /// The devices below the function that is written to next, as they were taken
    /// down for whoever asks who holds it.
    below: RefCell<Option<(Address, Vec<Device>)>>,
    pub(super) variants: variant::Tables,
}

impl Tables {
    /// What serves another write soon after this one: what is known not to have
    /// changed, and the network's configuration, which is not about this moment.
    /// All else is to be read anew.
    #[must_use]
    pub fn for_next_write(self) -> Self {
        Self {
            nodes: self.nodes.for_next_write(),
            network: self.network.for_next_write(),
            ..Self::default()
        }
    }
}

/// One look at the host's use of its functions.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The host's sysfs.
    pub sysfs: &'a dyn Sysfs,
    /// The rest of it.
    pub host: &'a dyn Host,
    /// What was read already.
    pub tables: &'a Tables,
}

/// A function and what hangs below it, at one moment.
struct Subject<'a> {
    address: Address,
    /// Its directory in sysfs.
    dir: &'a str,
    class: ClassCode,
    /// The native driver.
    driver: Option<&'a str>,
    /// The devices below it.
    devices: &'a [Device],
}

impl Subject<'_> {
    fn of<'s>(&'s self, subsystem: &'s str) -> impl Iterator<Item = &'s Device> {
        let devices = self.devices.iter();
        devices.filter(move |device| device.subsystem == subsystem)
    }
}

/// How often it is looked again if something changed meanwhile.
const LOOKS: u32 = 5;

/// What the host does with the function at `address`. Without a driver it
/// cannot use it, but for a display, on which the kernel draws without one;
/// what a vfio driver has, a virtual machine may use.
#[must_use]
pub fn usage(look: Look<'_>, address: Address) -> Vec<Fact> {
    let dir = function_dir(address);
    let driver = link_name(look.sysfs, &format!("{dir}/driver"));
    match driver.as_deref() {
        Some("pci-stub") => return Vec::new(),
        Some(driver) if is_vfio_driver(driver) => return nodes::vfio(look, &dir),
        _ => {}
    }
    let Some(class) = class(look, &dir) else {
        return unchecked("its class cannot be read".to_owned());
    };
    if driver.is_none() && class.base() != 0x03 {
        return Vec::new();
    }
    let mut known = look.tables.below.take();
    for _ in 0..LOOKS {
        let devices = match known.take() {
            Some((of, devices)) if of == address => Ok(devices),
            _ => below(look.sysfs, &dir),
        };
        let found = devices.and_then(|devices| {
            let facts = facts(
                look,
                &Subject {
                    address,
                    dir: &dir,
                    class,
                    driver: driver.as_deref(),
                    devices: &devices,
                },
            );
            Ok((facts, devices == below(look.sysfs, &dir)?))
        });
        match found {
            Ok((mut facts, true)) => {
                facts.sort();
                facts.dedup();
                return facts;
            }
            // udev gives a new interface its name just now.
            Ok((_, false)) => {}
            Err(error) => {
                let error = words(&error);
                return unchecked(format!("what hangs below it cannot be listed: {error}"));
            }
        }
    }
    unchecked("what hangs below it changes all the time".to_owned())
}

/// Who uses a function that vfio has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// A clause about the function.
    pub clause: String,
    /// The virtual machine of Proxmox VE that has it reserved, if that is all, or that
    /// runs with it.
    pub vm: Option<u64>,
}

/// Who uses which of the functions that vfio has. What cannot be told counts as
/// used.
#[must_use]
pub fn users(look: Look<'_>, addresses: &[Address]) -> BTreeMap<Address, User> {
    let user = |address: &Address| {
        let dir = function_dir(*address);
        let open = if nodes::is_vfio_idle(look, &dir) {
            Vec::new()
        } else {
            nodes::vfio(look, &dir)
        };
        let reserved = reservations::reserved(look.host, &[*address]);
        let user = match (open.first(), reserved) {
            // Open as it is while that machine runs: PVE gives it to no other.
            (Some(fact), reserved) => User {
                clause: format!("is in use: {}", guard::judge(fact).1),
                vm: reserved.filter(|one| one.runs).and_then(|one| one.vm),
            },
            (None, reserved) => reserved.map(|one| User {
                clause: one.text,
                vm: one.vm,
            })?,
        };
        Some((*address, user))
    };
    addresses.iter().filter_map(user).collect()
}

fn unchecked(text: String) -> Vec<Fact> {
    vec![Fact::Unchecked { text }]
}

fn class(look: Look<'_>, dir: &str) -> Option<ClassCode> {
    let class = text(look.sysfs, &format!("{dir}/class"))?;
    let class = u32::from_str_radix(class.strip_prefix("0x")?, 16).ok()?;
    Some(ClassCode::new(class))
}

fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if subject.driver.is_some() {
        facts.extend(provable::facts(look, subject));
        facts.extend(storage::facts(look, subject));
        facts.extend(network::facts(look, subject));
        facts.extend(display::facts(look, subject));
        facts.extend(usb::facts(look, subject));
        facts.extend(system::facts(look, subject));
        facts.extend(hung_task::fact(look));
    } else {
        facts.extend(display::facts_without_driver(look, subject));
    }
    facts.extend(nodes::facts(look, subject));
    facts
}

/// An error in words without its number.
pub(super) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
