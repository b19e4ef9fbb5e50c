//! Locality: what a guest is to be pinned by, and the link of a card.
//!
//! Read when somebody asks and never by a scan: config space is read for links,
//! which wakes a device that has no power. Takes no device lock (Linux 6.12
//! drivers/pci/pci-sysfs.c: `local_cpulist_show`, `power_state_show`,
//! `current_link_speed_show`, `max_link_speed_show`).

use serde::Serialize;

use super::sysfs::{Sysfs, function_dir, link_name, target, text};
use crate::pci::address::Address;

/// Where a function is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Locality {
    /// The CPUs next to it, as `0-15,32-47`.
    pub local_cpus: Option<String>,
    /// The root port that it is behind.
    pub root_port: Option<Address>,
    /// Its link, or that of its PF.
    pub link: Option<Link>,
}

/// A PCI Express link.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Link {
    /// Billions of transfers a second, and a lane.
    pub speed: Option<f64>,
    /// Lanes.
    pub width: Option<u32>,
    /// The most that the card can.
    pub max_speed: Option<f64>,
    /// The most lanes that the card has.
    pub max_width: Option<u32>,
}

/// What is known of where the function at `address` is.
#[must_use]
pub fn locality(sysfs: &(impl Sysfs + ?Sized), address: Address) -> Locality {
    let dir = function_dir(address);
    // A VF shows none of its own: it shares its PF's.
    let physical = link_name(sysfs, &format!("{dir}/physfn"));
    let card = physical
        .and_then(|name| name.parse().ok())
        .unwrap_or(address);
    let above = above(&sysfs.read_link(&function_dir(card)).unwrap_or_default());
    Locality {
        local_cpus: text(sysfs, &format!("{dir}/local_cpulist")).filter(|list| !list.is_empty()),
        root_port: above.first().copied(),
        link: above.last().and_then(|port| link(sysfs, card, *port)),
    }
}

/// The CPUs of a NUMA node.
#[must_use]
pub fn cpus(sysfs: &(impl Sysfs + ?Sized), node: u32) -> Option<String> {
    let list = text(sysfs, &format!("devices/system/node/node{node}/cpulist"));
    list.filter(|list| !list.is_empty())
}

/// How the link between `card` and `port` is, and what the card could do.
///
/// How it is, is read at the port: both ends say the same, and the card, which may
/// sleep while no guest has it, is not touched. To read a port that sleeps without
/// power would wake it (drivers/pci/pci.c, `pci_config_pm_runtime_get`, v6.12).
fn link(sysfs: &(impl Sysfs + ?Sized), card: Address, port: Address) -> Option<Link> {
    let read = |address: Address, name: &str| {
        let dir = function_dir(address);
        text(sysfs, &format!("{dir}/{name}"))
    };
    let answers = |address: Address| {
        let state = read(address, "power_state");
        // Where a kernel does not tell, nothing is woken on a guess.
        state.is_some_and(|state| matches!(state.as_str(), "D0" | "D1" | "D2" | "D3hot"))
    };
    let at = |address: Address, name: &str| read(address, name).filter(|_| answers(address));
    let link = Link {
        speed: at(port, "current_link_speed").and_then(|text| speed(&text)),
        width: at(port, "current_link_width").and_then(|text| width(&text)),
        max_speed: at(card, "max_link_speed").and_then(|text| speed(&text)),
        max_width: at(card, "max_link_width").and_then(|text| width(&text)),
    };
    (link != Link::default()).then_some(link)
}

/// `16.0 GT/s PCIe`; `Unknown` is none.
fn speed(text: &str) -> Option<f64> {
    let (number, _) = text.split_once(" GT/s")?;
    number.parse().ok()
}

/// No link has 0 lanes, and 255 is what a card says that is not there.
fn width(text: &str) -> Option<u32> {
    let lanes = text.parse().ok();
    lanes.filter(|lanes| (1..=32).contains(lanes))
}

/// The bridges above a function in its own domain, the root port first, out of the
/// link to it.
fn above(link: &str) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    for part in target(link).split('/') {
        match part.parse() {
            Ok(address) => found.push(address),
            Err(_) if part.starts_with("pci") => found.clear(),
            Err(_) => {}
        }
    }
    found.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_say_what_they_are() {
        assert_eq!(speed("16.0 GT/s PCIe"), Some(16.0));
        assert_eq!(speed("2.5 GT/s"), Some(2.5));
        assert_eq!(speed("Unknown"), None);
        assert_eq!(
            (width("16"), width("0"), width("255")),
            (Some(16), None, None)
        );
    }

    #[test]
    fn the_bridges_above_are_those_of_the_same_domain() {
        let texts = |link| {
            above(link)
                .iter()
                .map(Address::to_string)
                .collect::<Vec<_>>()
        };
        let switched = "../../../devices/pci0000:00/0000:00:01.1/0000:3b:00.0/0000:3c:04.0";
        assert_eq!(texts(switched), ["0000:00:01.1", "0000:3b:00.0"]);
        let vmd =
            "../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0";
        assert_eq!(texts(vmd), ["10000:e0:06.0"]);
        assert_eq!(texts("../../../devices/pci0000:00/0000:00:02.0"), [""; 0]);
        assert_eq!(texts(""), [""; 0]);
    }
}
