//! What VFs are set to: `[[sriov.NAME.vf]]`.

use toml::de::{DeTable, DeValue};

use crate::policy::{
    config::{
        reader::{Reader, Value},
        selector::{accept, indices},
    },
    pattern::VfSet,
    sriov::{LinkState, MacRule, Rate, VfCount, VfRule, Vlan, VlanProtocol},
};

const KEYS: &[&str] = &[
    "index",
    "mac",
    "vlan",
    "rate",
    "spoof_check",
    "link_state",
    "trust",
];

const MAC: &str = "a MAC address like \"52:54:00:12:34:56\", or { base = \"52:54:00:12:34:00\" } to \
                   which each VF's index is added";
const VLAN: &str = "a VLAN from 1 to 4094, 0 for none, or { id = 100, qos = 3, protocol = \
                    \"802.1ad\" }";
const RATE: &str = "the most Mbit/s that it may send, 0 for no limit, or { min = 100, max = 1000 }";

/// The rules, each with what speaks against it beside those before it.
pub(super) fn rules(reader: &mut Reader<'_>, value: &Value<'_>, count: VfCount) -> Vec<VfRule> {
    let DeValue::Array(values) = value.get_ref() else {
        reader.wrong_type("vf", value, "tables, each headed [[sriov.NAME.vf]]");
        return Vec::new();
    };
    let mut rules: Vec<VfRule> = Vec::new();
    for value in values {
        let Some(table) = reader.table(value, "vf") else {
            continue;
        };
        let rule = rule(reader, value, table, count);
        // Of which VFs it is cannot be told, and so nothing else of it.
        if table.contains_key("index") && rule.index.is_none() {
            continue;
        }
        for other in &rules {
            if again(reader, value, &rule, other) {
                break;
            }
        }
        rules.push(rule);
    }
    rules
}

fn rule(reader: &mut Reader<'_>, whole: &Value<'_>, table: &DeTable<'_>, count: VfCount) -> VfRule {
    let mut rule = VfRule::default();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match name {
            "index" => rule.index = index(reader, value, count),
            "mac" => rule.mac = mac(reader, value),
            "vlan" => rule.settings.vlan = vlan(reader, value),
            "rate" => rule.settings.rate = rate(reader, value),
            "spoof_check" => rule.settings.spoof_check = reader.boolean(name, value),
            "trust" => rule.settings.trust = reader.boolean(name, value),
            "link_state" => {
                let known = [LinkState::Auto, LinkState::Enable, LinkState::Disable];
                let known = known.map(|state| (state.as_str(), state));
                rule.settings.link_state = reader.word(name, value, &known);
            }
            _ => reader.unknown_key(key, "in [[sriov.NAME.vf]]", KEYS),
        }
    }
    let sets = KEYS.iter().filter(|key| **key != "index");
    if !sets.clone().any(|key| table.contains_key(*key)) {
        let message = "sets nothing".to_owned();
        let keys: Vec<_> = sets.copied().collect();
        let help = format!("expected at least one of: {}", keys.join(", "));
        reader.error(whole.span(), message, Some(help));
    }
    let is_told = rule.index.is_some() || !table.contains_key("index");
    if let Some(value) = table.get("mac").filter(|_| is_told)
        && !fits(reader, value, &rule, count)
    {
        rule.mac = None;
    }
    rule
}

fn index(reader: &mut Reader<'_>, value: &Value<'_>, count: VfCount) -> Option<VfSet> {
    let set = indices(reader, "index", value)?;
    if let (Some(last), Some(number)) = (set.last(), count.number())
        && last >= number
    {
        let message = format!("`index` has VF {last}, and vfs is {number}");
        let help = match number {
            0 => "there is none then".to_owned(),
            _ => format!("they are numbered from 0 to {}", number - 1),
        };
        reader.error(value.span(), message, Some(help));
    }
    Some(set)
}

fn mac(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<MacRule> {
    match value.get_ref() {
        DeValue::String(text) => accept(reader, value, text.parse()).map(MacRule::Exact),
        DeValue::Table(table) => {
            for (key, _) in table {
                if key.get_ref() != "base" {
                    reader.unknown_key(key, "in `mac`", &["base"]);
                }
            }
            let Some(value) = table.get("base") else {
                reader.error(
                    value.span(),
                    format!("`mac` has no base; expected {MAC}"),
                    None,
                );
                return None;
            };
            let text = reader.string("base", value, "a MAC address")?;
            accept(reader, value, text.parse()).map(MacRule::Base)
        }
        _ => {
            reader.wrong_type("mac", value, MAC);
            None
        }
    }
}

/// Whether an address is of one VF, and a base has room for all of its VFs.
fn fits(reader: &mut Reader<'_>, value: &Value<'_>, rule: &VfRule, count: VfCount) -> bool {
    let last = rule.index.as_ref().map_or_else(
        || count.number().map(|number| number.saturating_sub(1)),
        VfSet::last,
    );
    match rule.mac {
        Some(MacRule::Exact(mac)) if rule.index.as_ref().and_then(VfSet::only).is_none() => {
            let message = format!("`mac` is \"{mac}\", which only one VF can have");
            let help = format!("name that one by index = 0, or set mac = {{ base = \"{mac}\" }}");
            reader.error(value.span(), message, Some(help));
            false
        }
        Some(MacRule::Base(mac)) => match last.filter(|last| mac.plus(*last).is_none()) {
            Some(last) => {
                let message = format!("`mac` begins at {mac}, and ends before VF {last} has one");
                let help = "the last three octets are counted up".to_owned();
                reader.error(value.span(), message, Some(help));
                false
            }
            None => true,
        },
        _ => true,
    }
}

fn vlan(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Vlan> {
    let DeValue::Table(table) = value.get_ref() else {
        let id = vlan_id(reader, "vlan", value)?;
        return Some(Vlan::new(id, 0, VlanProtocol::Customer));
    };
    for (key, _) in table {
        if !matches!(key.get_ref().as_ref(), "id" | "qos" | "protocol") {
            reader.unknown_key(key, "in `vlan`", &["id", "qos", "protocol"]);
        }
    }
    let Some(id) = table.get("id") else {
        reader.error(
            value.span(),
            format!("`vlan` has no id; expected {VLAN}"),
            None,
        );
        return None;
    };
    let id = vlan_id(reader, "id", id)?;
    let qos = match table.get("qos") {
        None => 0,
        Some(value) => {
            let qos = reader.number("qos", value, 0)?;
            match u8::try_from(qos).ok().filter(|qos| *qos <= 7) {
                Some(qos) => qos,
                None => {
                    let message = format!("`qos` is {qos}; expected a priority from 0 to 7");
                    reader.error(value.span(), message, None);
                    return None;
                }
            }
        }
    };
    let known = [
        ("802.1Q", VlanProtocol::Customer),
        ("802.1ad", VlanProtocol::Service),
    ];
    let protocol = match table.get("protocol") {
        None => VlanProtocol::Customer,
        Some(value) => reader.word("protocol", value, &known)?,
    };
    Some(Vlan::new(id, qos, protocol))
}

/// 4095 is reserved (IEEE 802.1Q; net/core/rtnetlink.c, `do_setvfinfo`, has drivers
/// refuse it).
fn vlan_id(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<u16> {
    let DeValue::Integer(_) = value.get_ref() else {
        reader.wrong_type(key, value, VLAN);
        return None;
    };
    let number = reader.number(key, value, 0)?;
    let id = u16::try_from(number).ok().filter(|id| *id <= 4094);
    if id.is_none() {
        let message = format!("`{key}` is {number}; expected {VLAN}");
        reader.error(value.span(), message, None);
    }
    id
}

fn rate(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Rate> {
    let table = match value.get_ref() {
        DeValue::Table(table) => table,
        DeValue::Integer(_) => {
            let max = reader.number("rate", value, 0)?;
            return Some(Rate { min: 0, max });
        }
        _ => {
            reader.wrong_type("rate", value, RATE);
            return None;
        }
    };
    for (key, _) in table {
        if !matches!(key.get_ref().as_ref(), "min" | "max") {
            reader.unknown_key(key, "in `rate`", &["min", "max"]);
        }
    }
    if table.is_empty() {
        reader.error(
            value.span(),
            format!("`rate` is empty; expected {RATE}"),
            None,
        );
        return None;
    }
    let mut bound = |key: &str| match table.get(key) {
        None => Some(0),
        Some(value) => reader.number(key, value, 0),
    };
    let (min, max) = (bound("min")?, bound("max")?);
    if max > 0 && min > max {
        let message = format!("`rate` has min = {min} above max = {max}");
        reader.error(value.span(), message, None);
    }
    Some(Rate { min, max })
}

/// Two rules must not set the same thing of one VF; says whether they do.
fn again(reader: &mut Reader<'_>, value: &Value<'_>, rule: &VfRule, other: &VfRule) -> bool {
    let common = match (&rule.index, &other.index) {
        (Some(one), Some(two)) => one.common(two),
        (Some(one), None) | (None, Some(one)) => one.first(),
        (None, None) => Some(0),
    };
    let theirs = other.keys();
    let twice = rule.keys().into_iter().find(|key| theirs.contains(key));
    let (Some(index), Some(key)) = (common, twice) else {
        return false;
    };
    let message = format!("`{key}` of VF {index} is set twice");
    let help = "another [[sriov.NAME.vf]] before it sets that".to_owned();
    reader.error(value.span(), message, Some(help));
    true
}
