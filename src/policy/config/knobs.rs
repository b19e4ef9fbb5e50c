//! What settings of functions are to be, in a config: `reset_method`, `d3cold`,
//! `power` and `resize_bar`.
//!
//! Owns what is a wrong word for any device. What this one offers, only its own
//! kernel knows.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::reader::{Reader, Value};
use crate::{
    pci::settings::{BarSize, Power},
    policy::knobs::{BARS, Knobs, ResetMethod},
};

const RESIZE: &str = "a table of BARs and their sizes, like { \"0\" = \"8G\" }";

const SIZE: &str = "a size like \"256M\" or \"8G\"";

/// One of them.
pub(super) fn setting(reader: &mut Reader<'_>, knobs: &mut Knobs, key: &str, value: &Value<'_>) {
    match key {
        "reset_method" => knobs.reset_method = reset_method(reader, value),
        "d3cold" => knobs.d3cold = reader.boolean(key, value),
        "power" => {
            let known = [Power::On, Power::Auto].map(|one| (one.as_str(), one));
            knobs.power = reader.word(key, value, &known);
        }
        _ => knobs.resize_bar = resize_bar(reader, value),
    }
}

/// A method, or several in the order in which they are to be tried.
fn reset_method(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<ResetMethod> {
    let known = ResetMethod::ALL.map(|one| (one.as_str(), one));
    let values = match value.get_ref() {
        DeValue::Array(values) if values.is_empty() => {
            let message = "`reset_method` is an empty list, and a function that cannot be reset \
                           is as the last guest left it";
            reader.error(value.span(), message.to_owned(), None);
            return Vec::new();
        }
        DeValue::Array(values) => values.iter().collect(),
        _ => vec![value],
    };
    let mut methods = Vec::new();
    for value in values {
        let Some(method) = reader.word("reset_method", value, &known) else {
            continue;
        };
        if methods.contains(&method) {
            let message = format!("`reset_method` has \"{}\" twice", method.as_str());
            reader.error(value.span(), message, None);
        } else {
            methods.push(method);
        }
    }
    methods
}

fn resize_bar(reader: &mut Reader<'_>, value: &Value<'_>) -> BTreeMap<u8, BarSize> {
    let mut sizes = BTreeMap::new();
    let DeValue::Table(table) = value.get_ref() else {
        reader.wrong_type("resize_bar", value, RESIZE);
        return sizes;
    };
    if table.is_empty() {
        let message = format!("`resize_bar` is empty; expected {RESIZE}");
        reader.error(value.span(), message, None);
    }
    for (key, value) in table {
        let name = key.get_ref();
        // As sysfs names them, so that no BAR has two names.
        let bar = (0..BARS).find(|bar| *name == bar.to_string());
        if bar.is_none() {
            let message = format!("`resize_bar` has no BAR \"{name}\"; expected \"0\" to \"5\"");
            reader.error(key.span(), message, None);
        }
        let Some(text) = reader.string(&format!("resize_bar.{name}"), value, SIZE) else {
            continue;
        };
        match text.parse() {
            Ok(size) => sizes.extend(bar.map(|bar| (bar, size))),
            Err(error) => {
                let help = Some(format!("{error}"));
                let message = format!("`resize_bar.{name}` is \"{text}\"; expected {SIZE}");
                reader.error(value.span(), message, help);
            }
        }
    }
    sizes
}
