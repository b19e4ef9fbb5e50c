//! Interfaces in the files of systemd-networkd and of udev's links.
//!
//! Source: systemd.network(5), systemd.netdev(5), systemd.link(5) of systemd
//! 252 and 257. Whether networkd runs is not asked: the files are what the
//! administrator means.

use std::collections::BTreeMap;

use super::{
    ini::{Entry, entries},
    interface::{Fit, Interface, any},
};
use crate::kernel::usage::files::Files;

/// Where the files are; a name in an earlier one hides those in later ones.
const DIRECTORIES: &[&str] = &[
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    VENDOR,
];

/// What is here came with the system and was written for no machine in
/// particular: files for containers and virtual machines, the default link
/// policy. It counts only where it names this very interface, or every idle NIC
/// of a fresh install would be in use.
const VENDOR: &str = "/usr/lib/systemd/network";

/// All files, each kind in the order of the names.
#[derive(Debug, Default)]
pub(super) struct Networkd {
    units: Vec<Unit>,
}

#[derive(Debug)]
struct Unit {
    path: String,
    kind: Kind,
    /// All of it came with the system.
    vendor: bool,
    /// With those of its drop-ins.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Network,
    Device,
    Link,
}

impl Networkd {
    pub(super) fn read(files: &mut Files<'_>) -> Self {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut additions: BTreeMap<(String, String), String> = BTreeMap::new();
        for directory in DIRECTORIES {
            for (name, path) in files.entries(directory) {
                if let Some(unit) = name.strip_suffix(".d").filter(|unit| kind(unit).is_some()) {
                    for (name, path) in files.entries(&path) {
                        if name.ends_with(".conf") {
                            additions.entry((unit.to_owned(), name)).or_insert(path);
                        }
                    }
                } else if kind(&name).is_some() {
                    found.entry(name).or_insert(path);
                }
            }
        }
        let mut units = Vec::new();
        for (name, path) in found {
            let text = files.read(&path);
            // Empty, or a link to /dev/null, it is masked.
            let Some(kind) = kind(&name).filter(|_| !text.trim().is_empty()) else {
                continue;
            };
            let mut unit = Unit {
                vendor: path.starts_with(VENDOR),
                kind,
                entries: entries(&text),
                path,
            };
            for ((_, _), path) in additions.iter().filter(|((of, _), _)| *of == name) {
                unit.vendor &= path.starts_with(VENDOR);
                unit.entries.extend(entries(&files.read(path)));
            }
            units.push(unit);
        }
        Self { units }
    }

    /// The files that speak of `interface`.
    pub(super) fn naming(&self, interface: &Interface) -> Vec<&str> {
        let mut naming = Vec::new();
        let mut decided = false;
        for unit in &self.units {
            let names = match unit.kind {
                Kind::Network if decided => false,
                Kind::Network => {
                    let fit = unit.fits(interface);
                    let unmanaged = unit.is_unmanaged();
                    let counts = !unit.vendor || unit.is_for_it_alone(interface);
                    // The first that matches is taken, and no other.
                    decided |= fit == Fit::Yes && counts;
                    fit > Fit::No && counts && !unmanaged
                }
                // A link that any interface may match sets a policy for all.
                Kind::Link => {
                    unit.is_particular()
                        && unit.fits(interface) > Fit::No
                        && (!unit.vendor || unit.is_for_it_alone(interface))
                }
                Kind::Device => unit.mentions(interface),
            };
            if names {
                naming.push(unit.path.as_str());
            }
        }
        naming
    }
}

fn kind(name: &str) -> Option<Kind> {
    match name.rsplit_once('.')?.1 {
        "network" => Some(Kind::Network),
        "netdev" => Some(Kind::Device),
        "link" => Some(Kind::Link),
        _ => None,
    }
}

impl Unit {
    /// The conditions: key and all words of it. An empty value forgets those
    /// before it.
    fn conditions(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.section == "Match") {
            let words = found.entry(&entry.key).or_default();
            if entry.value.is_empty() {
                words.clear();
            }
            words.extend(
                entry
                    .value
                    .split_whitespace()
                    .map(|word| word.trim_matches('"')),
            );
        }
        found.retain(|_, words| !words.is_empty());
        found
    }

    /// All conditions must hold; without any, all interfaces match.
    fn fits(&self, interface: &Interface) -> Fit {
        let conditions = self.conditions();
        let fits = conditions.iter().map(|(key, words)| match *key {
            "Name" | "OriginalName" => negatable(words, |globs| interface.fits_name(globs)),
            "MACAddress" => interface.has_address(words),
            "PermanentMACAddress" => interface.has_permanent(words),
            "Path" => negatable(words, |globs| known(globs, interface.path.as_deref())),
            "Driver" => negatable(words, |globs| known(globs, interface.driver.as_deref())),
            "Type" => negatable(words, |globs| known(globs, interface.kind.as_deref())),
            // Of the machine, or of what only a running networkd knows.
            _ => Fit::Maybe,
        });
        fits.min().unwrap_or(Fit::Yes)
    }

    /// Whether it tells interfaces apart by more than what they are.
    fn is_particular(&self) -> bool {
        self.conditions().iter().any(|(key, words)| match *key {
            "Name" | "OriginalName" | "Path" => words.iter().any(|word| *word != "*"),
            "MACAddress" | "PermanentMACAddress" => true,
            _ => false,
        })
    }

    /// Whether it has the interface's name or address as such.
    fn is_for_it_alone(&self, interface: &Interface) -> bool {
        self.conditions().iter().any(|(key, words)| match *key {
            "Name" | "OriginalName" => words.iter().any(|word| interface.is(word)),
            "MACAddress" => interface.has_address(words) == Fit::Yes,
            "PermanentMACAddress" => interface.has_permanent(words) == Fit::Yes,
            _ => false,
        })
    }

    fn is_unmanaged(&self) -> bool {
        let mut settings = self.entries.iter().rev();
        let last = settings.find(|entry| entry.section == "Link" && entry.key == "Unmanaged");
        // parse_boolean of systemd, which knows case as little.
        last.is_some_and(|entry| {
            let value = entry.value.to_ascii_lowercase();
            matches!(value.as_str(), "1" | "yes" | "y" | "true" | "t" | "on")
        })
    }

    fn mentions(&self, interface: &Interface) -> bool {
        let mut words = self
            .entries
            .iter()
            .flat_map(|entry| entry.value.split_whitespace());
        words.any(|word| interface.is(word))
    }
}

/// A list that begins with `!` holds for what is not in it.
fn negatable(words: &[&str], fits: impl Fn(&[&str]) -> Fit) -> Fit {
    match words {
        [first, rest @ ..] if first.starts_with('!') => {
            let first = first.trim_start_matches('!');
            let words: Vec<_> = std::iter::once(first)
                .chain(rest.iter().copied())
                .filter(|word| !word.is_empty())
                .collect();
            fits(&words).not()
        }
        words => fits(words),
    }
}

fn known(globs: &[&str], value: Option<&str>) -> Fit {
    any(globs, value.as_slice())
}
