//! Usage: what the host does with a function through its native driver, as
//! facts. `policy::guard` says what each of them speaks against.
//!
//! Says [`Fact::Unchecked`] wherever it cannot prove idleness. Runs in helpers
//! only: opening a dead disk can block.

mod below;
mod display;
mod network;
mod nodes;
mod storage;
mod system;
mod usb;

use std::cell::OnceCell;

use self::below::{Device, below};
use super::{
    host::Host,
    sysfs::{Sysfs, function_dir, link_name, text},
};
use crate::pci::{address::Address, function::is_vfio_driver, id::ClassCode, usage::Fact};

/// What is read once for many functions. Made anew before each write.
#[derive(Debug, Default)]
pub struct Tables {
    nodes: OnceCell<nodes::Nodes>,
    storage: storage::Tables,
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
    class: ClassCode,
    /// The native driver.
    driver: &'a str,
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
/// cannot use it; what a vfio driver has, a virtual machine may use.
#[must_use]
pub fn usage(look: Look<'_>, address: Address) -> Vec<Fact> {
    let dir = function_dir(address);
    let Some(driver) = link_name(look.sysfs, &format!("{dir}/driver")) else {
        return Vec::new();
    };
    if driver == "pci-stub" {
        return Vec::new();
    }
    if is_vfio_driver(&driver) {
        return nodes::vfio(look, &dir);
    }
    for _ in 0..LOOKS {
        let found = below(look.sysfs, &dir).and_then(|devices| {
            let facts = facts(look, &dir, &driver, &devices);
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

fn unchecked(text: String) -> Vec<Fact> {
    vec![Fact::Unchecked { text }]
}

fn facts(look: Look<'_>, dir: &str, driver: &str, devices: &[Device]) -> Vec<Fact> {
    let class = text(look.sysfs, &format!("{dir}/class"));
    let class = class.and_then(|text| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    let Some(class) = class else {
        return unchecked("its class cannot be read".to_owned());
    };
    let subject = Subject {
        class: ClassCode::new(class),
        driver,
        devices,
    };
    let mut facts = Vec::new();
    if !is_provable(subject.class) {
        facts.extend(unchecked(format!(
            "{driver} holds it, and nobody can tell whether the host needs it"
        )));
    }
    facts.extend(storage::facts(look, &subject));
    facts.extend(network::facts(look, &subject));
    facts.extend(display::facts(look, &subject));
    facts.extend(usb::facts(look, &subject));
    facts.extend(system::facts(look, &subject));
    facts.extend(nodes::facts(look, &subject));
    facts
}

/// Whether what such a function does for the host can all be seen from outside
/// the kernel. A crypto engine, a DMA channel or a management interface works
/// for the kernel itself, and nothing in sysfs says whether it does.
fn is_provable(class: ClassCode) -> bool {
    matches!(class.base(), 0x01 | 0x02 | 0x03 | 0x04 | 0x0d | 0x12)
        || matches!(class.subclass(), 0x0700 | 0x0701 | 0x0c03)
}

/// An error in words without its number.
pub(super) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
