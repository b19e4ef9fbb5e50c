//! Network interfaces of a function: whether they carry anything, or are meant
//! to.
//!
//! Owns what is asked of the kernel. `configured` has what the host's
//! configuration says, each kind of it in a file of its own.

mod configured;
mod ifupdown;
mod ini;
mod interface;
mod keyfile;
mod netplan;
mod networkd;
mod yaml;

use std::{cell::OnceCell, collections::BTreeSet, net::IpAddr};

use self::configured::Configured;
use super::{Device, Look, Subject, files::attribute, words};
use crate::{
    kernel::{
        host::Network,
        sysfs::{link_name, text},
    },
    pci::usage::Fact,
};

/// What is read once for all interfaces.
#[derive(Debug, Default)]
pub(super) struct Tables {
    network: OnceCell<Result<Network, String>>,
    configured: OnceCell<Configured>,
}

impl Tables {
    /// Without what the kernel does just now.
    pub(super) fn for_next_write(self) -> Self {
        Self {
            network: OnceCell::new(),
            configured: self.configured,
        }
    }
}

/// What speaks for a use of the function's interfaces.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(driver) = elsewhere(look, subject) {
        facts.push(Fact::Elsewhere { driver });
    }
    for device in subject.of("net") {
        live(look, device, &mut facts);
        facts.extend(configured::facts(look, device));
    }
    for device in subject.of("infiniband") {
        ports(look, device, &mut facts);
    }
    facts
}

/// The driver of a network function whose interface is not seen. An InfiniBand
/// card has one only where the module for IP over InfiniBand makes it.
fn elsewhere(look: Look<'_>, subject: &Subject<'_>) -> Option<String> {
    let is_network = matches!(subject.class.base(), 0x02 | 0x0d);
    let without_ip = subject.class.subclass() == 0x0207
        && subject.of("infiniband").next().is_some()
        && look.sysfs.list("module/ib_ipoib").is_err();
    let unseen = is_network && !without_ip && subject.of("net").next().is_none();
    unseen.then(|| subject.driver.unwrap_or_default().to_owned())
}

/// What the kernel does with an interface now.
fn live(look: Look<'_>, device: &Device, facts: &mut Vec<Fact>) {
    let interface = || device.name.clone();
    let attribute = |name: &str| text(look.sysfs, &format!("{}/{name}", device.place));
    let unchecked = |text: String| Fact::Unchecked { text };
    let flags = attribute("flags");
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok());
    // IFF_UP, include/uapi/linux/if.h.
    let up = flags.map(|flags| flags & 1 != 0);
    match up {
        Some(false) => {}
        Some(true) => facts.push(Fact::LinkUp {
            interface: interface(),
        }),
        None => facts.push(unchecked(format!(
            "{} does not say whether it is up",
            device.name
        ))),
    }
    let master = master(look, device);
    let entries = look.sysfs.list(&device.place).unwrap_or_default();
    for entry in &entries {
        if let Some(upper) = entry.strip_prefix("upper_")
            && master.as_deref() != Some(upper)
        {
            facts.push(Fact::Carries {
                interface: interface(),
                upper: upper.to_owned(),
            });
        }
    }
    if let Some(master) = master {
        facts.push(Fact::PortOf {
            interface: interface(),
            master,
        });
    }
    let index = attribute("ifindex").and_then(|index| index.parse().ok());
    let tables = &look.tables.network;
    let network = tables.network.get_or_init(|| {
        let network = look.host.network();
        network.map_err(|error| format!("addresses and routes cannot be read: {}", words(&error)))
    });
    match (network, index) {
        (Ok(network), Some(index)) => {
            traffic(network, index, up == Some(true), device, facts);
        }
        (Err(text), _) => facts.push(unchecked(text.clone())),
        (_, None) => facts.push(unchecked(format!("{} has no index", device.name))),
    }
}

/// What the interface is a part of. A bridge, bond, team or VRF is its
/// `master`; the other two are said by the bridge and the bond themselves.
fn master(look: Look<'_>, device: &Device) -> Option<String> {
    let link = |name: &str| link_name(look.sysfs, &format!("{}/{name}", device.place));
    let has = |name: &str| look.sysfs.list(&format!("{}/{name}", device.place)).is_ok();
    link("master")
        .or_else(|| link("brport/bridge"))
        .or_else(|| has("brport").then(|| "a bridge".to_owned()))
        .or_else(|| has("bonding_slave").then(|| "a bond".to_owned()))
}

/// Its addresses, and of its routes the one that says most: a router has
/// hundreds of thousands.
fn traffic(network: &Network, index: u32, up: bool, device: &Device, facts: &mut Vec<Fact>) {
    let interface = || device.name.clone();
    // An interface that is up gives them to itself.
    let says_nothing = |address: &IpAddr| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => up && address.is_unicast_link_local(),
    };
    let addresses = network.addresses.iter();
    let addresses = addresses.filter(|(of, address, _)| *of == index && !says_nothing(address));
    facts.extend(addresses.map(|(_, address, prefix)| Fact::HasAddress {
        interface: interface(),
        address: format!("{address}/{prefix}"),
    }));
    let routes = network.routes.iter().filter(|(of, _)| *of == index);
    let routes = routes.map(|(_, destination)| destination);
    // None, the default route, is the least.
    let route = routes
        .filter(|destination| destination.is_none_or(|(address, _)| !says_nothing(&address)))
        .min();
    facts.extend(route.map(|destination| Fact::Routed {
        interface: interface(),
        destination: destination.map_or_else(
            || "default".to_owned(),
            |(address, prefix)| format!("{address}/{prefix}"),
        ),
    }));
}

/// Active ports of an InfiniBand device; an idle one carries nothing
/// (Documentation/ABI/stable/sysfs-class-infiniband, `state`, v6.12).
fn ports(look: Look<'_>, device: &Device, facts: &mut Vec<Fact>) {
    let place = format!("{}/ports", device.place);
    let Ok(ports) = look.sysfs.list(&place) else {
        let text = format!("the ports of {} cannot be listed", device.name);
        facts.push(Fact::Unchecked { text });
        return;
    };
    for port in ports.into_iter().collect::<BTreeSet<_>>() {
        let state = attribute(look.sysfs, &format!("{place}/{port}/state"));
        let port = format!("{}/{port}", device.name);
        let state = state.ok().flatten();
        let number = state.as_deref().and_then(|state| state.split(':').next());
        match number {
            // ACTIVE and ACTIVE_DEFER of `enum ib_port_state`
            // (include/rdma/ib_verbs.h, v6.12).
            Some("4" | "5") => facts.push(Fact::InfinibandActive { port }),
            Some("0" | "1" | "2" | "3") => {}
            _ => facts.push(Fact::Unchecked {
                text: format!("the InfiniBand port {port} does not say its state"),
            }),
        }
    }
}
