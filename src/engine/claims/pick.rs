//! Pick: which of a mapping's free functions somebody gets, or why none.

use std::collections::BTreeSet;

use super::{
    Asked, Share, Unclaimed,
    units::{Unit, choose},
};
use crate::pci::address::Address;

/// The functions that somebody gets. What they have already they keep first;
/// `taken` says of a unit why it is not to be had.
pub(super) fn pick(
    asked: &Asked,
    units: &[Unit],
    is_own: impl Fn(&Address) -> bool,
    taken: impl Fn(&Unit) -> Option<String>,
) -> Result<BTreeSet<Address>, Unclaimed> {
    let mapping = &asked.mapping;
    let devices: usize = units.iter().map(|unit| unit.devices).sum();
    let wanted = match &asked.share {
        Share::All => devices,
        Share::Devices(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        Share::These(addresses) => {
            return these(mapping, addresses, units, taken);
        }
    };
    if wanted > devices || wanted == 0 {
        return Err(Unclaimed::Refused(format!(
            "mapping '{mapping}' has {devices} devices, and {wanted} were asked for"
        )));
    }
    let (mut free, mut why) = (Vec::new(), Vec::new());
    for unit in units {
        match taken(unit) {
            None => free.push(unit.clone()),
            Some(text) => why.push(text),
        }
    }
    // Stable: among equals the order of the addresses stays.
    free.sort_by_key(|unit| {
        let near = asked.prefer_numa.is_some_and(|node| unit.is_on(node));
        (!unit.addresses.iter().any(&is_own), !near)
    });
    let chosen = if asked.share == Share::All && !why.is_empty() {
        None
    } else {
        choose(&free, wanted)
    };
    chosen.ok_or_else(|| {
        let left: usize = free.iter().map(|unit| unit.devices).sum();
        none_free(mapping, left, wanted, &why)
    })
}

/// These functions and what goes with them.
fn these(
    mapping: &str,
    addresses: &BTreeSet<Address>,
    units: &[Unit],
    taken: impl Fn(&Unit) -> Option<String>,
) -> Result<BTreeSet<Address>, Unclaimed> {
    let of = |address: &Address| units.iter().find(|unit| unit.addresses.contains(address));
    let mut chosen = BTreeSet::new();
    let mut why = Vec::new();
    for address in addresses {
        let unit = of(address).ok_or_else(|| {
            Unclaimed::Refused(format!("{address} is no function of mapping '{mapping}'"))
        })?;
        if chosen.contains(address) {
            continue;
        }
        why.extend(taken(unit));
        chosen.extend(unit.addresses.iter().copied());
    }
    match why.first() {
        None if chosen.is_empty() => Err(Unclaimed::Refused(format!(
            "no function of mapping '{mapping}' was named"
        ))),
        None => Ok(chosen),
        Some(first) => {
            let text = match why.len() {
                1 => first.clone(),
                count => format!("{first} (and {} more)", count - 1),
            };
            Err(Unclaimed::NoneFree(text))
        }
    }
}

fn none_free(mapping: &str, left: usize, wanted: usize, why: &[String]) -> Unclaimed {
    let mut text = format!("of mapping '{mapping}' {left} are free, and {wanted} were asked for");
    if let Some(first) = why.first() {
        text += &format!(": {first}");
    }
    if why.len() > 1 {
        text += &format!(" (and {} more)", why.len() - 1);
    }
    Unclaimed::NoneFree(text)
}
