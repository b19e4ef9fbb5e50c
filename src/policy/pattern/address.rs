//! Address patterns.

use std::{fmt, str::FromStr};

use super::PatternError;
use crate::{pci::address::Address, policy::glob::Glob};

/// A glob over the canonical address; no domain means 0000, no function all.
///
/// The canonical text has two `:` and one `.`, and so has the whole pattern:
/// each part can be matched by itself, which a table answers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    text: String,
    domain: Glob,
    buses: Numbers,
    devices: Numbers,
    functions: Numbers,
}

/// A set of numbers from 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers([u128; 2]);

impl Numbers {
    fn contains(self, number: u8) -> bool {
        let [low, high] = self.0;
        let half = if number < 128 { low } else { high };
        half >> (number % 128) & 1 == 1
    }

    /// The numbers below `end` whose `digits` hex digits match.
    fn matching(glob: &Glob, digits: usize, end: u16) -> Self {
        let mut set = Self::default();
        for number in (0..end).filter(|number| glob.matches(&format!("{number:0digits$x}"))) {
            let [low, high] = &mut set.0;
            let half = if number < 128 { low } else { high };
            *half |= 1 << (number % 128);
        }
        set
    }
}

impl AddressPattern {
    /// Whether anything matches that is on the bus of `address`, or on a later one
    /// of its domain.
    #[must_use]
    pub fn goes_on_from(&self, address: Address) -> bool {
        let mut buses = address.bus()..=u8::MAX;
        buses.any(|bus| self.buses.contains(bus))
            && self.domain.matches(&format!("{:04x}", address.domain()))
    }

    /// Whether `address` matches.
    #[must_use]
    pub fn matches(&self, address: Address) -> bool {
        self.functions.contains(address.function())
            && self.devices.contains(address.device())
            && self.buses.contains(address.bus())
            && self.domain.matches(&format!("{:04x}", address.domain()))
    }
}

impl FromStr for AddressPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        parse_address(text).map_err(|why| {
            PatternError(format!(
                "'{text}' is not an address glob: {why}; expected '[domain:]bus:device[.function]' \
                 in hex, like '0000:3b:00.0', '3b:00' or '0000:c[1-4]:*.*'"
            ))
        })
    }
}

fn parse_address(text: &str) -> Result<AddressPattern, String> {
    let odd = |c: &char| !c.is_ascii_hexdigit() && !"*?[]!-:.".contains(*c);
    if let Some(odd) = text.chars().find(odd) {
        return Err(format!("'{odd}' is in no address"));
    }
    let full = match (text, text.matches(':').count()) {
        ("*", _) => "*:*:*".to_owned(),
        (_, 0) => return Err("a ':' between bus and device is missing".to_owned()),
        (_, 1) => format!("0000:{text}"),
        (_, 2) => text.to_owned(),
        _ => return Err("it has too many ':'".to_owned()),
    };
    let (domain, rest) = full.split_once(':').unwrap_or_default();
    let (bus, rest) = rest.split_once(':').unwrap_or_default();
    let (device, function) = rest.split_once('.').unwrap_or((rest, "*"));
    let part = |name: &str, text: &str, digits: usize, end: u16| {
        let glob: Glob = text
            .parse()
            .map_err(|error| format!("its {name}: {error}"))?;
        let numbers = Numbers::matching(&glob, digits, end);
        if numbers == Numbers::default() {
            let last = end - 1;
            return Err(format!(
                "no {name} matches '{text}', there are {:0digits$x} to {last:0digits$x}",
                0
            ));
        }
        Ok(numbers)
    };
    Ok(AddressPattern {
        text: format!("{domain}:{bus}:{device}.{function}"),
        domain: domain
            .parse()
            .map_err(|error| format!("its domain: {error}"))?,
        buses: part("bus", bus, 2, 256)?,
        devices: part("device", device, 2, 32)?,
        functions: part("function", function, 1, 8)?,
    })
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_short_forms() {
        for (glob, address, wanted) in [
            ("3b:00.0", "0000:3b:00.0", true),
            ("3b:00.0", "0001:3b:00.0", false),
            ("3b:00", "0000:3b:00.7", true),
            ("0000:3b:00", "0000:3b:00.1", true),
            ("*:3b:00.0", "10000:3b:00.0", true),
            ("0000:01:*.*", "0000:01:1f.3", true),
            ("01:*", "0000:01:1f.3", true),
            ("*", "10000:01:1f.3", true),
            ("10000:e[1-2]:00.0", "10000:e2:00.0", true),
        ] {
            let pattern: AddressPattern = glob.parse().unwrap();
            let at = address.parse().unwrap();
            assert_eq!(pattern.matches(at), wanted, "{glob} {address}");
        }
        for text in [
            "",
            "0000:*",
            "0:3b",
            "3b",
            "3b:20.0",
            "0:0:0:0",
            "3b:00.0.0",
            "3b:00.9",
            "gg:00.0",
            "3b:[.0",
        ] {
            assert!(text.parse::<AddressPattern>().is_err(), "{text}");
        }
    }
}
