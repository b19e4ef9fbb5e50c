//! Config: from the text of files to a validated policy.
//!
//! Owns the grammar of the config and the words about what is wrong with one.
//! Reads no file: text comes in with the name to call it by. Every mistake of
//! every file is found in one go.

mod diagnostic;
mod knobs;
mod mapping;
mod nearest;
mod ownership;
mod reader;
mod selector;
mod sriov;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use toml::de::DeTable;

pub use self::diagnostic::Diagnostic;
use self::{
    diagnostic::File,
    reader::{Key, Reader, Value},
};
use super::model::{Mapping, Policy, Replace};

/// One config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What to call it in messages: its path.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// A config that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it means.
    pub policy: Policy,
}

/// Everything that is wrong with a config; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Diagnostic>);

impl ConfigErrors {
    /// The mistakes, file by file in the order of the lines.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads a config out of its files, in their order.
///
/// # Errors
/// With everything that is wrong in any of them.
pub fn parse(sources: &[Source]) -> Result<Config, ConfigErrors> {
    let mut policy = Policy::default();
    let mut errors = Vec::new();
    // Where each entry was defined first.
    let mut defined = BTreeMap::new();
    for source in sources {
        let file = File::new(&source.name, &source.text);
        let (table, syntax) = DeTable::parse_recoverable(&source.text);
        let mut reader = Reader::new(&file);
        document(&mut reader, table.get_ref(), &mut policy, &mut defined);
        reader.syntax(&syntax);
        errors.extend(reader.finish());
    }
    if errors.is_empty() {
        Ok(Config { policy })
    } else {
        Err(ConfigErrors(errors))
    }
}

fn document(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    policy: &mut Policy,
    defined: &mut BTreeMap<(&'static str, String), String>,
) {
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "mapping" => {
                let Some(mappings) = reader.table(value, "mapping") else {
                    continue;
                };
                for (name, value) in mappings {
                    named(reader, "mapping", name, defined);
                    if let Some(mapping) = mapping::mapping(reader, name, value) {
                        paired(reader, &mapping, name, policy);
                        policy.mappings.insert(name.get_ref().to_string(), mapping);
                    }
                }
            }
            "sriov" => {
                let Some(entries) = reader.table(value, "sriov") else {
                    continue;
                };
                for (name, value) in entries {
                    named(reader, "sriov", name, defined);
                    if let Some(entry) = sriov::sriov(reader, name, value, &policy.sriov) {
                        policy.sriov.insert(name.get_ref().to_string(), entry);
                    }
                }
            }
            "protect" => protect(reader, value, policy),
            "proxmox" => proxmox(reader, value, policy),
            _ => reader.unknown_key(
                key,
                "at the top level",
                &["mapping", "sriov", "protect", "proxmox"],
            ),
        }
    }
}

/// Checks the name of an entry, which no file may have twice.
fn named(
    reader: &mut Reader<'_>,
    kind: &'static str,
    name: &Key<'_>,
    defined: &mut BTreeMap<(&'static str, String), String>,
) {
    let whose = match kind {
        "mapping" => "a mapping",
        _ => "an entry of [sriov]",
    };
    mapping::name(reader, whose, name);
    let text = name.get_ref().to_string();
    let place = reader.place(name.span());
    let message = format!("{kind} `{text}` is defined twice");
    match defined.entry((kind, text)) {
        Entry::Occupied(first) => {
            let help = format!("it is defined at {} already", first.get());
            reader.error(name.span(), message, Some(help));
        }
        Entry::Vacant(first) => {
            first.insert(place);
        }
    }
}

/// A resource mapping of Proxmox VE that is kept in step with two would go back and
/// forth.
fn paired(reader: &mut Reader<'_>, mapping: &Mapping, name: &Key<'_>, policy: &Policy) {
    let id = mapping.proxmox.as_ref();
    let mut others = policy.mappings.iter();
    let other = others.find(|(other, one)| {
        id.is_some() && one.proxmox.as_ref() == id && other.as_str() != name.get_ref().as_ref()
    });
    if let (Some(id), Some((other, _))) = (id, other) {
        let message = format!("mapping `{}` has `proxmox = \"{id}\"`", name.get_ref());
        let help = format!("mapping `{other}` has it already; a resource mapping belongs to one");
        reader.error(name.span(), message, Some(help));
    }
}

fn proxmox(reader: &mut Reader<'_>, value: &Value<'_>, policy: &mut Policy) {
    let Some(table) = reader.table(value, "proxmox") else {
        return;
    };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "sync" => policy.proxmox.sync = reader.boolean("sync", value).unwrap_or_default(),
            "replace" => {
                let known = [("own", Replace::Own), ("node", Replace::Node)];
                policy.proxmox.replace = reader.word("replace", value, &known).unwrap_or_default();
            }
            _ => reader.unknown_key(key, "in [proxmox]", &["sync", "replace"]),
        }
    }
}

fn protect(reader: &mut Reader<'_>, value: &Value<'_>, policy: &mut Policy) {
    let Some(table) = reader.table(value, "protect") else {
        return;
    };
    for (key, value) in table {
        if key.get_ref() == "match" {
            policy
                .protect
                .extend(selector::selectors(reader, "match", value));
        } else {
            reader.unknown_key(key, "in [protect]", &["match"]);
        }
    }
}
