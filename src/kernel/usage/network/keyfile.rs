//! Interfaces in NetworkManager's keyfiles.
//!
//! Source: nm-settings-keyfile(5), NetworkManager.conf(5) of version 1.42. A
//! connection that says nothing of where it belongs fits any interface, and
//! names none.

use super::{
    ini::{Entry, entries},
    interface::{Fit, Interface, any},
};
use crate::kernel::usage::files::Files;

const DIRECTORIES: &[&str] = &[
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
];

/// A connection.
#[derive(Debug)]
pub(super) struct Keyfile {
    pub(super) path: String,
    entries: Vec<Entry>,
}

/// All connections.
pub(super) fn read(files: &mut Files<'_>) -> Vec<Keyfile> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        for (_, path) in files.entries(directory) {
            let entries = entries(&files.read(&path));
            found.push(Keyfile { path, entries });
        }
    }
    found
}

impl Keyfile {
    /// Whether it is for `interface`, or for one that is made of it.
    pub(super) fn names(&self, interface: &Interface) -> bool {
        // A parent may be a hardware address, too.
        let parents = self.entries.iter().filter(|entry| entry.key == "parent");
        let parent = parents.map(|entry| {
            let parent = entry.value.as_str();
            let is_address = parent.contains(':') && interface.has_permanent(&[parent]) == Fit::Yes;
            Fit::of(interface.is(parent) || is_address)
        });
        let own = self
            .entries
            .iter()
            .filter_map(|entry| demand(entry, interface));
        own.min().max(parent.max()) > Some(Fit::No)
    }
}

/// Whether the interface does what the entry demands, `None` if it is no demand.
fn demand(entry: &Entry, interface: &Interface) -> Option<Fit> {
    let words: Vec<_> = entry
        .value
        .split([';', ',', ' '])
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return None;
    }
    Some(match (entry.section.as_str(), entry.key.as_str()) {
        ("connection", "interface-name") => Fit::of(interface.is(&entry.value)),
        (_, "mac-address") => interface.has_permanent(&words),
        ("match", "interface-name") => chosen(&words, |glob| interface.fits_name(&[glob])),
        ("match", "path") => chosen(&words, |glob| known(glob, interface.path.as_deref())),
        ("match", "driver") => chosen(&words, |glob| known(glob, interface.driver.as_deref())),
        _ => return None,
    })
}

fn known(glob: &str, value: Option<&str>) -> Fit {
    any(&[glob], value.as_slice())
}

/// A list of the section `match`: `!` inverts an element, what is inverted or
/// has a `&` must hold, and of the others one.
fn chosen(words: &[&str], fits: impl Fn(&str) -> Fit) -> Fit {
    let mut must = Fit::Yes;
    let mut may: Option<Fit> = None;
    for word in words {
        let bare = word.trim_start_matches(['|', '&', '!']);
        let sign = word.get(..word.len() - bare.len()).unwrap_or_default();
        let inverted = sign.contains('!');
        let fit = if inverted {
            fits(bare).not()
        } else {
            fits(bare)
        };
        if sign.contains('&') || inverted && !sign.contains('|') {
            must = must.min(fit);
        } else {
            may = may.max(Some(fit));
        }
    }
    must.min(may.unwrap_or(Fit::Yes))
}
