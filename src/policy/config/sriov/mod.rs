//! PFs in a config that are to have VFs: `[sriov.NAME]`; `vf` has `[[sriov.NAME.vf]]`.

mod vf;

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::{
    reader::{Key, Reader, Value},
    selector::pf_selectors,
};
use crate::policy::sriov::{Sriov, VfCount};

const KEYS: &[&str] = &["description", "pf", "vfs", "autoprobe", "vf"];

const COUNT: &str = "a number of VFs, \"max\", or a part of these like \"50%\"";
/// An entry; `None` if it says of no PF, or not how many.
pub(super) fn sriov(
    reader: &mut Reader<'_>,
    name: &Key<'_>,
    value: &Value<'_>,
    others: &BTreeMap<String, Sriov>,
) -> Option<Sriov> {
    let table = reader.table(value, &format!("sriov.{}", name.get_ref()))?;
    for (key, wanted) in [
        ("pf", "pf = { ... } that says which PFs it means"),
        ("vfs", "vfs = 8 or vfs = \"max\""),
    ] {
        if !table.contains_key(key) {
            let message = format!("sriov `{}` has no `{key}`", name.get_ref());
            reader.error(name.span(), message, Some(format!("expected {wanted}")));
        }
    }
    let mut entry = Sriov {
        description: String::new(),
        pf: Vec::new(),
        vfs: VfCount::Max,
        autoprobe: false,
        rules: Vec::new(),
    };
    let mut rules = None;
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match name {
            "description" => {
                if let Some(text) = reader.string(name, value, "a string") {
                    text.clone_into(&mut entry.description);
                }
            }
            "pf" => entry.pf = pf_selectors(reader, name, value),
            "vfs" => entry.vfs = count(reader, value).unwrap_or(entry.vfs),
            "autoprobe" => entry.autoprobe = reader.boolean(name, value).unwrap_or_default(),
            "vf" => rules = Some(value),
            _ => reader.unknown_key(key, "in [sriov]", KEYS),
        }
    }
    if let Some(value) = rules {
        entry.rules = vf::rules(reader, value, entry.vfs);
        unlike(reader, name, &entry, others);
    }
    Some(entry)
}

fn count(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<VfCount> {
    let found = match value.get_ref() {
        DeValue::Integer(number) => {
            let number = u16::from_str_radix(number.as_str(), number.radix()).ok();
            number.map(VfCount::Number)
        }
        DeValue::String(text) if text == "max" => Some(VfCount::Max),
        DeValue::String(text) => {
            let part = text.strip_suffix('%').and_then(|part| part.parse().ok());
            let part = part.filter(|part| (1..=100).contains(part));
            part.map(VfCount::Percent)
        }
        _ => {
            reader.wrong_type("vfs", value, COUNT);
            return None;
        }
    };
    if found.is_none() {
        let shown = match value.get_ref() {
            DeValue::String(text) => format!("\"{text}\""),
            DeValue::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        let message = format!("`vfs` is {shown}; expected {COUNT}");
        reader.error(value.span(), message, None);
    }
    found
}

/// No two VFs may have the same MAC address, as far as is known without the PF.
fn unlike(
    reader: &mut Reader<'_>,
    name: &Key<'_>,
    entry: &Sriov,
    others: &BTreeMap<String, Sriov>,
) {
    let Some(count) = entry.vfs.number() else {
        return;
    };
    if let Some(mac) = entry.doubled(count) {
        let message = format!(
            "two VFs of sriov `{}` get the MAC address {mac}",
            name.get_ref()
        );
        reader.error(name.span(), message, None);
    }
    let macs = |entry: &Sriov, count| {
        let settings = entry.settings(count).into_values();
        settings.filter_map(|one| one.mac).collect::<Vec<_>>()
    };
    let own = macs(entry, count);
    for (other, theirs) in others {
        let Some(count) = theirs.vfs.number() else {
            continue;
        };
        let taken = macs(theirs, count);
        if let Some(mac) = own.iter().find(|mac| taken.contains(mac)) {
            let own = name.get_ref();
            let message = format!("VFs of sriov `{own}` and of sriov `{other}` get {mac}");
            let help = "a MAC address belongs to one VF".to_owned();
            reader.error(name.span(), message, Some(help));
        }
    }
}
