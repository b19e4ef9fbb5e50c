//! Selectors in a config: `{ id = "10de:2684", numa = 1 }`.

use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use super::reader::{Key, Reader, Value};
use crate::policy::{
    config::nearest::nearest,
    glob::Glob,
    pattern::{ClassPattern, NumaPattern, PatternError, VfSet},
    selector::{Selector, Term},
};

/// The keys of a selector.
const KEYS: &[&str] = &[
    "id",
    "subsystem",
    "class",
    "address",
    "path",
    "slot",
    "serial",
    "numa",
    "iommu_group",
    "vf_of",
    "vf",
    "kind",
];

/// The keys of a selector of PFs: these have their native driver, and so may be
/// told by the interface that it makes.
const PF_KEYS: &[&str] = &[
    "id",
    "subsystem",
    "class",
    "address",
    "path",
    "slot",
    "serial",
    "numa",
    "iommu_group",
    "netdev",
];

/// One selector, or a list of them.
pub(super) fn selectors(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Vec<Selector> {
    selectors_of(reader, key, value, KEYS)
}

/// One selector of PFs, or a list of them.
pub(super) fn pf_selectors(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Vec<Selector> {
    selectors_of(reader, key, value, PF_KEYS)
}

fn selectors_of(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Value<'_>,
    keys: &[&str],
) -> Vec<Selector> {
    let mut found = Vec::new();
    for value in reader.each(key, value) {
        match value.get_ref() {
            DeValue::Table(table) => found.extend(selector(reader, value, table, keys)),
            _ => reader.wrong_type(key, value, "a selector like { id = \"10de:2684\" }"),
        }
    }
    found
}

fn selector(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    table: &DeTable<'_>,
    keys: &[&str],
) -> Option<Selector> {
    if table.is_empty() {
        let message = "an empty selector would match every function".to_owned();
        let help = format!("expected at least one of: {}", keys.join(", "));
        reader.error(value.span(), message, Some(help));
    }
    let vfs = vf_set(reader, table);
    let terms = table
        .iter()
        .filter_map(|(key, value)| {
            if keys.contains(&key.get_ref().as_ref()) {
                return term(reader, key, value, vfs.as_ref());
            }
            reader.unknown_key(key, "in a selector", keys);
            None
        })
        .collect();
    Selector::new(terms)
}

/// Which VFs, out of `vf`, which goes with `vf_of` only.
fn vf_set(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Option<VfSet> {
    let (key, value) = table.get_key_value("vf")?;
    if !table.contains_key("vf_of") {
        let message = "`vf` says which VFs, and `vf_of` does not say of which PF".to_owned();
        reader.error(key.span(), message, None);
    }
    indices(reader, "vf", value)
}

/// Indices of VFs.
pub(super) fn indices(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<VfSet> {
    let number = match value.get_ref() {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => {
            reader.wrong_type(key, value, "VF indices like \"0,2-7\"");
            return None;
        }
    };
    accept(reader, value, number.parse())
}

fn term(
    reader: &mut Reader<'_>,
    key: &Key<'_>,
    value: &Value<'_>,
    vfs: Option<&VfSet>,
) -> Option<Term> {
    let name = key.get_ref().as_ref();
    Some(match name {
        "id" => Term::Id(texts(reader, name, value)?),
        "subsystem" => Term::Subsystem(texts(reader, name, value)?),
        "class" => Term::Class(classes(reader, value)?),
        "address" => Term::Address(texts(reader, name, value)?),
        "path" => Term::Path(globs(reader, name, value)?),
        "slot" => Term::Slot(globs(reader, name, value)?),
        "serial" => Term::Serial(globs(reader, name, value)?),
        "numa" => Term::Numa(nodes(reader, value)?),
        "iommu_group" => {
            let values = reader.each(name, value);
            Term::IommuGroup(all(values
                .iter()
                .map(|value| reader.number(name, value, 0)))?)
        }
        "vf_of" => Term::VfOf(texts(reader, name, value)?, vfs.cloned()),
        "kind" => Term::Kind(texts(reader, name, value)?),
        "netdev" => Term::Netdev(globs(reader, name, value)?),
        // Said with `vf_of`.
        _ => return None,
    })
}

/// All of them, or none if one is wrong; each wrong one is noted.
fn all<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let values: Vec<_> = values.collect();
    values.into_iter().collect()
}

/// Values that are written as text and say themselves what is wrong with one.
fn texts<T: FromStr<Err = PatternError>>(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Value<'_>,
) -> Option<Vec<T>> {
    let values = reader.each(key, value);
    all(values.into_iter().map(|value| {
        let text = reader.string(key, value, "a string or a list of strings")?;
        accept(reader, value, text.parse())
    }))
}

pub(super) fn accept<T>(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    parsed: Result<T, PatternError>,
) -> Option<T> {
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            reader.error(value.span(), error.to_string(), None);
            None
        }
    }
}

fn globs(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Vec<Glob>> {
    let values = reader.each(key, value);
    all(values.into_iter().map(|value| {
        let text = reader.string(key, value, "a string or a list of strings")?;
        match text.parse() {
            Ok(glob) => Some(glob),
            Err(error) => {
                let message = format!("`{key}` is not a pattern: {error}");
                reader.error(value.span(), message, None);
                None
            }
        }
    }))
}

fn classes(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<ClassPattern>> {
    let names: Vec<_> = ClassPattern::names().collect();
    let values = reader.each("class", value);
    all(values.into_iter().map(|value| {
        let text = reader.string("class", value, "a string or a list of strings")?;
        match text.parse() {
            Ok(class) => Some(class),
            Err(error) => {
                let near = nearest(text, &names);
                let help = near.map(|near| format!("did you mean \"{near}\"?"));
                reader.error(value.span(), PatternError::to_string(&error), help);
                None
            }
        }
    }))
}

fn nodes(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<NumaPattern>> {
    let values = reader.each("numa", value);
    all(values.into_iter().map(|value| match value.get_ref() {
        DeValue::String(text) if text == "none" => Some(NumaPattern::None),
        DeValue::Integer(number) if number.as_str().starts_with('-') => {
            let message = format!("`numa` is {number}, and no node has that number");
            let help = "functions whose node is not known are numa = \"none\"".to_owned();
            reader.error(value.span(), message, Some(help));
            None
        }
        DeValue::Integer(_) => reader.number("numa", value, 0).map(NumaPattern::Node),
        _ => {
            reader.wrong_type("numa", value, "a node number, \"none\", or a list of these");
            None
        }
    }))
}
