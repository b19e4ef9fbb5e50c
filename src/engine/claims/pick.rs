//! Pick: which of a mapping's free functions somebody gets, or why none.

use std::collections::BTreeSet;

use super::{
    Asked, Share, Unclaimed,
    units::{Unit, choose},
};
use crate::{
    pci::address::Address,
    policy::placement::{Hand, Piece, Preference, arrange},
};

/// The functions that somebody gets. What they have already they keep first, then
/// comes what is preferred; `taken` says of a unit why it is not to be had.
pub(super) fn pick(
    asked: &Asked,
    preference: Preference,
    units: &[Unit<'_>],
    is_own: impl Fn(&Address) -> bool,
    taken: impl Fn(&Unit<'_>) -> Option<String>,
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
    let mut why = Vec::new();
    let pieces = units.iter().map(|unit| {
        let text = taken(unit);
        let hand = match &text {
            Some(_) => Hand::Others,
            None if unit.addresses.iter().any(&is_own) => Hand::Own,
            None => Hand::Free,
        };
        why.extend(text);
        Piece {
            functions: unit.functions.clone(),
            devices: unit.devices,
            hand,
        }
    });
    let pieces: Vec<_> = pieces.collect();
    let order = arrange(&pieces, preference, wanted).into_iter();
    let free: Vec<_> = order.filter_map(|at| units.get(at)).collect();
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
    units: &[Unit<'_>],
    taken: impl Fn(&Unit<'_>) -> Option<String>,
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
