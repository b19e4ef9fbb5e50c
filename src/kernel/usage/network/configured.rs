//! Whether the host's network configuration names an interface.
//!
//! Read once for all interfaces. It says what the administrator means, whether
//! or not the program that the files are for runs just now: after a boot it may
//! come later than we do.

use super::{
    ifupdown::Ifupdown,
    interface::Interface,
    keyfile::{self, Keyfile},
    netplan::{self, Netplan},
    networkd::Networkd,
};
use crate::{
    kernel::usage::{Device, Look, files::Files},
    pci::usage::Fact,
};

/// All that the host's files say.
#[derive(Debug)]
pub(super) struct Configured {
    ifupdown: Ifupdown,
    networkd: Networkd,
    keyfiles: Vec<Keyfile>,
    netplan: Vec<Netplan>,
    /// What could not be read, as clauses.
    troubles: Vec<String>,
}

impl Configured {
    fn read(look: Look<'_>) -> Self {
        let mut files = Files::new(look.host);
        Self {
            ifupdown: Ifupdown::read(&mut files),
            networkd: Networkd::read(&mut files),
            keyfiles: keyfile::read(&mut files),
            netplan: netplan::read(&mut files),
            troubles: files.troubles,
        }
    }
}

/// The files that name the interface, and those that may.
pub(super) fn facts(look: Look<'_>, device: &Device) -> Vec<Fact> {
    let tables = &look.tables.network;
    let configured = tables.configured.get_or_init(|| Configured::read(look));
    let mut files = Files::new(look.host);
    let interface = Interface::read(look, device, &mut files);
    let keyfiles = configured.keyfiles.iter();
    let keyfiles = keyfiles.filter(|one| one.names(&interface));
    let netplan = configured.netplan.iter();
    let netplan = netplan.filter(|one| one.names(&interface));
    let naming = configured
        .ifupdown
        .naming(&interface)
        .into_iter()
        .chain(configured.networkd.naming(&interface))
        .chain(keyfiles.map(|one| one.path.as_str()))
        .chain(netplan.map(|one| one.path.as_str()));
    let mut facts: Vec<_> = naming
        .map(|file| Fact::Configured {
            interface: device.name.clone(),
            file: file.to_owned(),
        })
        .collect();
    let troubles = configured.troubles.iter().chain(&files.troubles);
    facts.extend(troubles.map(|text| Fact::Unchecked { text: text.clone() }));
    facts
}
