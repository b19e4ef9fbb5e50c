//! Whose the nodes are to be, in a config: `owner`, `group` and `mode`.
//!
//! `group` has two things to say: what becomes of companions in the IOMMU group,
//! for which there are two words, and which users may open the node.

use toml::de::DeValue;

use super::{
    nearest::nearest,
    reader::{Reader, Value},
};
use crate::policy::{
    model::{GroupRule, Mapping},
    ownership::{Account, Mode},
};

const RULES: [(&str, GroupRule); 2] = [("refuse", GroupRule::Refuse), ("take", GroupRule::Take)];

const USER: &str = "the name or number of a user, like \"microvm\" or 107";

const GROUP: &str = "\"refuse\" or \"take\" for companions in its IOMMU group, the name or number \
                     of a group of users like \"kvm\", or a list with one of each";

const MODE: &str = "octal digits for read (4) and write (2) in quotes, like \"0660\"";

/// `owner`.
pub(super) fn owner(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Account> {
    account(reader, "owner", value, USER)
}

/// `group`: a rule, a group of users, or a list of both.
pub(super) fn group(reader: &mut Reader<'_>, mapping: &mut Mapping, value: &Value<'_>) {
    let values = match value.get_ref() {
        DeValue::Array(values) if values.is_empty() => {
            let message = format!("`group` is an empty list; expected {GROUP}");
            reader.error(value.span(), message, None);
            return;
        }
        DeValue::Array(values) => values.iter().collect(),
        _ => vec![value],
    };
    let mut rule = None;
    for value in values {
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        };
        let words = RULES.map(|(word, _)| word);
        let twice = if let Some(text) = text
            && (words.contains(&text) || nearest(text, &words).is_some())
        {
            // A word that is nearly one of them is no group's name: what was meant
            // for the one would silently become the other.
            reader
                .word("group", value, &RULES)
                .is_some_and(|found| rule.replace(found).is_some())
        } else {
            account(reader, "group", value, GROUP)
                .is_some_and(|found| mapping.ownership.group.replace(found).is_some())
        };
        if twice {
            let message = format!("`group` says that twice; expected {GROUP}");
            reader.error(value.span(), message, None);
        }
    }
    mapping.group = rule.unwrap_or_default();
}

fn account(reader: &mut Reader<'_>, key: &str, value: &Value<'_>, wanted: &str) -> Option<Account> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        _ => {
            reader.wrong_type(key, value, wanted);
            return None;
        }
    };
    match text.parse() {
        Ok(account) => Some(account),
        Err(error) => {
            let help = Some(format!("{error}"));
            let message = format!("`{key}` is {}; expected {wanted}", shown(value, &text));
            reader.error(value.span(), message, help);
            None
        }
    }
}

/// `mode`. A number is none: 660 is 01224 in octal, and 0660 no TOML.
pub(super) fn mode(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Mode> {
    let number = match value.get_ref() {
        DeValue::String(text) => {
            let mode = text.parse().ok();
            if mode.is_none() {
                let message = format!("`mode` is \"{text}\"; expected {MODE}");
                reader.error(value.span(), message, None);
            }
            return mode;
        }
        DeValue::Integer(number) => number,
        _ => {
            reader.wrong_type("mode", value, MODE);
            return None;
        }
    };
    // What was meant is clear where the digits are those of a mode.
    let meant = number.as_str().parse::<Mode>();
    let help = meant.map(|mode| format!("write mode = \"{mode}\"")).ok();
    let message = format!("`mode` is the number {number}; expected {MODE}");
    reader.error(value.span(), message, help);
    None
}

fn shown(value: &Value<'_>, text: &str) -> String {
    match value.get_ref() {
        DeValue::String(_) => format!("\"{text}\""),
        _ => text.to_owned(),
    }
}
