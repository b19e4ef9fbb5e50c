//! Drift: what became of the functions that mappings had bound before this boot.
//!
//! Owns how a function is known again: by its serial number, else by its place,
//! else because there is only one of its kind. Pure: where the former map comes
//! from is the daemon's business.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    model::Policy,
    plan::{MappingPlan, Plan},
};
use crate::pci::{
    address::Address,
    function::{Function, Role},
    id::{ClassCode, PciId},
    inventory::Inventory,
};

/// A function that a mapping had bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it was.
    pub address: Address,
    /// Vendor and device ID.
    pub id: PciId,
    /// Subsystem IDs, `None` where it has none.
    #[serde(default)]
    pub subsystem: Option<PciId>,
    /// Class code.
    pub class: ClassCode,
    /// The PCIe Device Serial Number, `None` where it has none or nobody read
    /// it.
    #[serde(default)]
    pub serial: Option<String>,
    /// Its PF, if it is a VF.
    #[serde(default)]
    pub pf: Option<Address>,
    /// Its topological path.
    pub path: String,
    /// The firmware's slot label, or the hotplug slot's name.
    #[serde(default)]
    pub slot: Option<String>,
}

/// What mappings have bound, by their names.
pub type Map = BTreeMap<String, Vec<Entry>>;

/// What is kept from one boot to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What mappings have bound in this boot; where one has nothing, what it
    /// had before.
    pub map: Map,
    /// What they had when the boot before this one ended.
    pub previous: Map,
    /// Whether this boot's drift was told already.
    pub told: bool,
}

/// A function that is not where a mapping had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The mapping.
    pub mapping: String,
    /// Where the function was.
    pub address: Address,
    /// What became of it, in one sentence that names the mapping.
    pub text: String,
}

impl Entry {
    fn of(function: &Function, memory: &Memory) -> Self {
        Self {
            address: function.address,
            id: function.id,
            subsystem: function.subsystem,
            class: function.class,
            serial: serial(function, memory).map(str::to_owned),
            pf: match function.role {
                Role::Vf { pf, .. } => Some(pf),
                Role::Plain | Role::Pf { .. } => None,
            },
            path: function.path.clone(),
            slot: function
                .slot_label
                .clone()
                .or_else(|| function.slot_name.clone()),
        }
    }

    /// Whether `function` is the same piece of hardware, if it was there all
    /// the time since.
    fn is_still(&self, function: &Function) -> bool {
        self.address == function.address && self.is_like(function) && self.path == function.path
    }

    /// Whether `function` is of the same model.
    fn is_like(&self, function: &Function) -> bool {
        self.id == function.id
            && self.subsystem == function.subsystem
            && self.class == function.class
    }

    /// Whether both serial numbers are known and differ.
    fn contradicts(&self, function: &Function, memory: &Memory) -> bool {
        let now = serial(function, memory);
        now.is_some() && self.serial.is_some() && now != self.serial.as_deref()
    }
}

/// The serial number, if it was read now or earlier in this boot: a function
/// that is bound when the daemon starts is not inspected again.
fn serial<'a>(function: &'a Function, memory: &'a Memory) -> Option<&'a str> {
    let inspection = function.inspection.as_ref();
    inspection
        .and_then(|inspection| inspection.serial.as_deref())
        .or_else(|| {
            let mut entries = memory.map.values().flatten();
            let entry = entries.find(|entry| entry.is_still(function))?;
            entry.serial.as_deref()
        })
}

/// What is to be kept now.
#[must_use]
pub fn remember(policy: &Policy, inventory: &Inventory, plan: &Plan, memory: &Memory) -> Map {
    let entries = |planned: &MappingPlan| -> Vec<Entry> {
        let bound = planned.functions.iter().filter(|one| one.bound);
        bound
            .filter_map(|one| Some(Entry::of(inventory.get(one.address)?, memory)))
            .collect()
    };
    let names = policy.mappings.keys();
    names
        .filter_map(|name| {
            let bound = plan.mappings.get(name).map(entries).unwrap_or_default();
            let kept = if bound.is_empty() {
                let known = memory.map.get(name).or_else(|| memory.previous.get(name));
                known.cloned().unwrap_or_default()
            } else {
                bound
            };
            (!kept.is_empty()).then(|| (name.clone(), kept))
        })
        .collect()
}

/// What of `drift` is still so: a function may come back, or be known better.
#[must_use]
pub fn review(
    drift: &[Drift],
    policy: &Policy,
    inventory: &Inventory,
    plan: &Plan,
    memory: &Memory,
) -> Vec<Drift> {
    if drift.is_empty() {
        return Vec::new();
    }
    let mut now = compare(policy, inventory, plan, memory);
    now.retain(|one| {
        let same = |old: &Drift| old.mapping == one.mapping && old.address == one.address;
        drift.iter().any(same)
    });
    now
}

/// What became of the functions that mappings of `policy` had before this boot.
#[must_use]
pub fn compare(policy: &Policy, inventory: &Inventory, plan: &Plan, memory: &Memory) -> Vec<Drift> {
    let look = Look { inventory, memory };
    let mut drifts = Vec::new();
    for (mapping, entries) in &memory.previous {
        let Some(planned) = plan
            .mappings
            .get(mapping)
            .filter(|_| policy.mappings.contains_key(mapping))
        else {
            continue;
        };
        let found: Vec<_> = entries.iter().map(|entry| look.find(entry)).collect();
        let known: BTreeSet<_> = found.iter().flatten().map(|(one, _)| one.address).collect();
        for (entry, found) in entries.iter().zip(found) {
            let from = entry.address;
            let mut texts = Vec::new();
            match found {
                Some((now, _)) if now.address == from => {}
                Some((now, how)) => {
                    texts.push(moved(mapping, planned, from, now.address, &how));
                    // Worse than one that is lost: a stranger in its place.
                    if planned.chooses(from) && !known.contains(&from) {
                        texts.extend(look.instead(mapping, entry));
                    }
                }
                None => texts.extend(look.instead(mapping, entry)),
            }
            drifts.extend(texts.into_iter().map(|text| Drift {
                mapping: mapping.clone(),
                address: from,
                text,
            }));
        }
    }
    drifts
}

fn moved(mapping: &str, planned: &MappingPlan, from: Address, to: Address, how: &str) -> String {
    let lost = if planned.chooses(to) {
        ""
    } else {
        "; the mapping does not choose it there"
    };
    format!("{mapping} moved from {from} to {to} ({how}){lost}")
}

struct Look<'a> {
    inventory: &'a Inventory,
    memory: &'a Memory,
}

impl<'a> Look<'a> {
    /// The function that `entry` was, and by what it is known again.
    fn find(&self, entry: &Entry) -> Option<(&'a Function, String)> {
        if let Some(serial) = entry.serial.as_deref()
            && let Some(found) = self.by_serial(entry, serial)
        {
            return Some((found, "same serial".to_owned()));
        }
        let path = |function: &&Function| function.path == entry.path && !entry.path.is_empty();
        if let Some(found) = one(entry, self.alike(entry).filter(path)) {
            return Some((found, "same path".to_owned()));
        }
        let mut before = self.memory.previous.values().flatten();
        let alone = before.all(|other| other.id != entry.id || other.address == entry.address);
        let mut now = self.inventory.iter().filter(|one| one.id == entry.id);
        let (first, second) = (now.next(), now.next());
        let only = first.filter(|one| alone && second.is_none() && self.may_be(entry, one))?;
        Some((only, format!("the only {}", entry.id)))
    }

    /// All functions of a card may have its serial number.
    fn by_serial(&self, entry: &Entry, wanted: &str) -> Option<&'a Function> {
        let number = entry.address.function();
        let same = |one: &&Function| serial(one, self.memory) == Some(wanted);
        let numbered = |one: &&Function| one.address.function() == number;
        one(entry, self.alike(entry).filter(same).filter(numbered))
    }

    /// Functions of the same model that are not known to be others.
    fn alike(&self, entry: &Entry) -> impl Iterator<Item = &'a Function> {
        let functions = self.inventory.iter();
        functions.filter(move |one| self.may_be(entry, one))
    }

    fn may_be(&self, entry: &Entry, function: &Function) -> bool {
        entry.is_like(function) && !entry.contradicts(function, self.memory)
    }

    /// What is there now instead of `entry`, which is not.
    fn instead(&self, mapping: &str, entry: &Entry) -> Option<String> {
        let address = entry.address;
        let Some(now) = self.inventory.get(address) else {
            // VFs are there when somebody has made them, which may be later.
            let gone = || format!("{mapping}: {address} is gone");
            return entry.pf.is_none().then(gone);
        };
        let subsystem = |id: Option<PciId>| id.map_or("none".to_owned(), |id| id.to_string());
        let (was, is) = if entry.id != now.id {
            (entry.id.to_string(), now.id.to_string())
        } else if entry.subsystem != now.subsystem {
            let was = format!("subsystem {}", subsystem(entry.subsystem));
            (was, subsystem(now.subsystem))
        } else if entry.class != now.class {
            (format!("class {}", entry.class), now.class.to_string())
        } else if entry.contradicts(now, self.memory) {
            let was = format!("serial {}", entry.serial.as_deref().unwrap_or_default());
            let is = serial(now, self.memory).unwrap_or_default();
            (was, is.to_owned())
        } else if entry.path == now.path {
            return None;
        } else {
            (format!("path {}", entry.path), now.path.clone())
        };
        Some(format!(
            "{mapping}: {address} is now another device (was {was}, is {is})"
        ))
    }
}

/// The one that is where `entry` was, or the only one there is.
fn one<'a>(entry: &Entry, functions: impl Iterator<Item = &'a Function>) -> Option<&'a Function> {
    let functions: Vec<_> = functions.collect();
    let stayed = functions.iter().find(|one| one.address == entry.address);
    match (stayed, functions.as_slice()) {
        (Some(stayed), _) => Some(stayed),
        (None, [only]) => Some(only),
        _ => None,
    }
}
