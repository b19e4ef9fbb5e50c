//! Mappings in a config: `[mapping.NAME]`.

use std::{collections::BTreeSet, iter};

use toml::de::{DeTable, DeValue};

use super::{
    knobs, ownership,
    reader::{Key, Reader, Value},
    selector::selectors,
};
use crate::policy::{
    guard::Guard,
    knobs::Knobs,
    model::{Detach, DriverChoice, Expect, Extent, GroupRule, Mapping, VFIO_DRIVERS},
    ownership::Ownership,
    placement::{Placement, Preference},
};

/// The keys of a mapping.
const KEYS: &[&str] = &[
    "description",
    "match",
    "exclude",
    "functions",
    "expect",
    "take",
    "prefer_numa",
    "placement",
    "driver",
    "detach",
    "group",
    "allow",
    "partial",
    "owner",
    "mode",
    "reset_method",
    "d3cold",
    "power",
    "resize_bar",
    "proxmox",
];

/// Checks the name of a mapping, or of whatever `whose` says, by Proxmox's rule
/// (pve-configid).
pub(super) fn name(reader: &mut Reader<'_>, whose: &str, key: &Key<'_>) {
    let name = key.get_ref();
    let mut rest = name.chars();
    let first = rest.next().is_some_and(|c| c.is_ascii_lowercase());
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !first || name.len() < 2 || !rest.all(fits) {
        let message = format!("`{name}` is no name for {whose}");
        let help = "expected a lower-case letter, then at least one more of a-z, 0-9, _ and -";
        reader.error(key.span(), message, Some(help.to_owned()));
    }
}

/// A mapping; `None` if it has no selector to go by.
pub(super) fn mapping(
    reader: &mut Reader<'_>,
    name: &Key<'_>,
    value: &Value<'_>,
) -> Option<Mapping> {
    let table = reader.table(value, &format!("mapping.{}", name.get_ref()))?;
    if !table.contains_key("match") {
        let message = format!("mapping `{}` has no `match`", name.get_ref());
        let help = "expected match = { ... } that says which functions it means".to_owned();
        reader.error(name.span(), message, Some(help));
    }
    let mut mapping = Mapping {
        description: String::new(),
        matches: Vec::new(),
        exclude: Vec::new(),
        extent: Extent::default(),
        expect: Expect::default(),
        take: None,
        preference: Preference::default(),
        driver: DriverChoice::default(),
        detach: Detach::default(),
        group: GroupRule::default(),
        allow: BTreeSet::new(),
        partial: false,
        ownership: Ownership::default(),
        knobs: Knobs::default(),
        proxmox: None,
    };
    for (key, value) in table {
        setting(reader, &mut mapping, key, value);
    }
    Some(mapping)
}

fn setting(reader: &mut Reader<'_>, mapping: &mut Mapping, key: &Key<'_>, value: &Value<'_>) {
    let name = key.get_ref().as_ref();
    match name {
        "description" => {
            if let Some(text) = reader.string(name, value, "a string") {
                text.clone_into(&mut mapping.description);
            }
        }
        "match" => mapping.matches = selectors(reader, name, value),
        "exclude" => mapping.exclude = selectors(reader, name, value),
        "functions" => {
            let known = [("matched", Extent::Matched), ("slot", Extent::Slot)];
            mapping.extent = reader.word(name, value, &known).unwrap_or_default();
        }
        "expect" => mapping.expect = expect(reader, value).unwrap_or_default(),
        "take" => mapping.take = take(reader, value),
        "prefer_numa" => mapping.preference.numa = reader.number(name, value, 0),
        "placement" => {
            let placement = reader.word(name, value, &Placement::ALL);
            mapping.preference.placement = placement.unwrap_or_default();
        }
        "driver" => mapping.driver = driver(reader, value).unwrap_or_default(),
        "detach" => {
            let known = [("idle", Detach::Idle), ("never", Detach::Never)];
            mapping.detach = reader.word(name, value, &known).unwrap_or_default();
        }
        "group" => ownership::group(reader, mapping, value),
        "owner" => mapping.ownership.owner = ownership::owner(reader, value),
        "mode" => mapping.ownership.mode = ownership::mode(reader, value),
        "reset_method" | "d3cold" | "power" | "resize_bar" => {
            knobs::setting(reader, &mut mapping.knobs, name, value);
        }
        "allow" => mapping.allow = allow(reader, value),
        "partial" => mapping.partial = reader.boolean(name, value).unwrap_or_default(),
        "proxmox" => mapping.proxmox = proxmox(reader, value),
        _ => reader.unknown_key(key, "in a mapping", KEYS),
    }
}

/// The ID of a resource mapping, by Proxmox's rule (pve-configid).
fn proxmox(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<String> {
    let wanted = "the ID of a resource mapping of Proxmox VE: a letter, then at least one more \
                  letter, digit, _ or -";
    let id = reader.string("proxmox", value, wanted)?.to_owned();
    let mut rest = id.chars();
    let first = rest.next().is_some_and(|c| c.is_ascii_alphabetic());
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if first && id.len() > 1 && rest.all(fits) {
        return Some(id);
    }
    let message = format!("`proxmox` is \"{id}\"; expected {wanted}");
    reader.error(value.span(), message, None);
    None
}

fn driver(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<DriverChoice> {
    let named = VFIO_DRIVERS.map(|name| (name, DriverChoice::named(name)));
    let known: Vec<_> = iter::once(("auto", DriverChoice::Auto))
        .chain(named)
        .collect();
    reader.word("driver", value, &known)
}

fn expect(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Expect> {
    let DeValue::Table(table) = value.get_ref() else {
        let count = reader.number("expect", value, 1)?;
        return Some(Expect {
            min: count,
            max: Some(count),
        });
    };
    if table.is_empty() {
        let message = "`expect` is empty; expected a number, or { min = 1, max = 4 }".to_owned();
        reader.error(value.span(), message, None);
    }
    for (key, _) in table {
        if !matches!(key.get_ref().as_ref(), "min" | "max") {
            reader.unknown_key(key, "in `expect`", &["min", "max"]);
        }
    }
    let min = bound(reader, table, "min", 0).unwrap_or(1);
    let max = bound(reader, table, "max", 1);
    if let Some(max) = max.filter(|max| *max < min) {
        let message = format!("`expect` has min = {min} above max = {max}");
        reader.error(value.span(), message, None);
    }
    Some(Expect { min, max })
}

fn bound(reader: &mut Reader<'_>, table: &DeTable<'_>, key: &str, least: u32) -> Option<u32> {
    let value = table.get(key)?;
    reader.number(key, value, least)
}

fn take(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<u32> {
    match value.get_ref() {
        DeValue::String(text) if text == "all" => None,
        DeValue::Integer(_) => reader.number("take", value, 1),
        DeValue::String(text) => {
            let message = format!("`take` is \"{text}\"; expected \"all\" or a number from 1 on");
            reader.error(value.span(), message, None);
            None
        }
        _ => {
            reader.wrong_type("take", value, "\"all\" or a number from 1 on");
            None
        }
    }
}

fn allow(reader: &mut Reader<'_>, value: &Value<'_>) -> BTreeSet<Guard> {
    let known: Vec<_> = Guard::ALL
        .iter()
        .map(|guard| (guard.name(), *guard))
        .collect();
    let values = match value.get_ref() {
        DeValue::Array(values) => values.iter().collect(),
        _ => vec![value],
    };
    let mut allowed = BTreeSet::new();
    for value in values {
        allowed.extend(reader.word("allow", value, &known));
    }
    allowed
}
