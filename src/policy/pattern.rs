//! What a selector's terms compare with: ID, class, address, NUMA, VF patterns.
//!
//! Owns the grammar of each value; its errors say what would be right.

use std::{fmt, str::FromStr};

use super::glob::Glob;
use crate::pci::{address::Address, function::Role, id::PciId};

/// A value that a term does not take; the text says what is wrong and right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// `vvvv:dddd`, either half `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPattern {
    vendor: Option<u16>,
    device: Option<u16>,
}

impl IdPattern {
    /// Whether both halves match.
    #[must_use]
    pub fn matches(self, id: PciId) -> bool {
        self.vendor.is_none_or(|vendor| vendor == id.vendor)
            && self.device.is_none_or(|device| device == id.device)
    }

    /// The exact ID, if neither half is `*`.
    #[must_use]
    pub fn exact(self) -> Option<PciId> {
        Some(PciId {
            vendor: self.vendor?,
            device: self.device?,
        })
    }
}

impl FromStr for IdPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let half = |half: &str| match half {
            "*" => Some(None),
            hex if hex.len() == 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u16::from_str_radix(hex, 16).ok().map(Some)
            }
            _ => None,
        };
        text.split_once(':')
            .and_then(|(vendor, device)| {
                Some(Self {
                    vendor: half(vendor)?,
                    device: half(device)?,
                })
            })
            .ok_or_else(|| {
                PatternError(format!(
                    "'{text}' is not an ID: expected 'vvvv:dddd' in hex, either half may be '*', \
                     like '10de:2684' or '8086:*'"
                ))
            })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half =
            |half: Option<u16>| half.map_or_else(|| "*".to_owned(), |id| format!("{id:04x}"));
        write!(f, "{}:{}", half(self.vendor), half(self.device))
    }
}

/// Class names and the leading hex digits that each covers.
const CLASSES: &[(&str, &[&str])] = &[
    ("storage", &["01"]),
    ("raid", &["0104"]),
    ("sata", &["0106"]),
    ("sas", &["0107"]),
    ("nvme", &["0108"]),
    ("network", &["02"]),
    ("ethernet", &["0200"]),
    ("display", &["03"]),
    ("vga", &["0300"]),
    ("3d", &["0302"]),
    ("multimedia", &["04"]),
    ("audio", &["0401", "0403"]),
    ("memory", &["05"]),
    ("bridge", &["06"]),
    ("communication", &["07"]),
    ("system", &["08"]),
    ("input", &["09"]),
    ("processor", &["0b"]),
    ("serial-bus", &["0c"]),
    ("firewire", &["0c00"]),
    ("usb", &["0c03"]),
    ("infiniband", &["0207", "0c06"]),
    ("wireless", &["0d"]),
    ("crypto", &["10"]),
    ("accelerator", &["12"]),
];

/// A hex glob over the six digits of a class code, or a class name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassPattern {
    text: String,
    test: ClassTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ClassTest {
    Prefixes(&'static [&'static str]),
    Digits(Glob),
}

impl ClassPattern {
    /// Whether the six digits of a class code match.
    #[must_use]
    pub fn matches(&self, digits: &str) -> bool {
        match &self.test {
            ClassTest::Prefixes(prefixes) => {
                prefixes.iter().any(|prefix| digits.starts_with(prefix))
            }
            ClassTest::Digits(glob) => glob.matches(digits),
        }
    }

    /// The class names, for messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CLASSES.iter().map(|(name, _)| *name)
    }
}

impl FromStr for ClassPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let lower = text.to_ascii_lowercase();
        let named = CLASSES.iter().find(|(name, _)| *name == lower);
        let test = match named {
            Some((_, prefixes)) => ClassTest::Prefixes(prefixes),
            None => ClassTest::Digits(class_glob(text)?),
        };
        Ok(Self { text: lower, test })
    }
}

fn class_glob(text: &str) -> Result<Glob, PatternError> {
    let wrong = |why: &str| {
        PatternError(format!(
            "'{text}' is not a class: {why}; expected six hex digits or a glob over them, like \
             '0108*', or a name: {}",
            ClassPattern::names().collect::<Vec<_>>().join(", ")
        ))
    };
    let glob: Glob = text.parse().map_err(|error| wrong(&format!("{error}")))?;
    if !text
        .chars()
        .all(|c| c.is_ascii_hexdigit() || "*?[]!-".contains(c))
    {
        return Err(wrong("no class has this name"));
    }
    if !text.contains('*') && width(text) != 6 {
        return Err(wrong("a class code has six digits"));
    }
    Ok(glob)
}

/// How many characters a glob without `*` matches.
fn width(glob: &str) -> usize {
    let mut inside = false;
    glob.chars()
        .filter(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                _ if inside => return false,
                _ => return true,
            }
            *c == ']'
        })
        .count()
}

impl fmt::Display for ClassPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

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

/// A NUMA node, or `none` for functions whose node is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumaPattern {
    /// This node.
    Node(u32),
    /// The node is not known (sysfs says -1).
    None,
}

impl NumaPattern {
    /// Whether `node` is the wanted one; unknown never equals a number.
    #[must_use]
    pub fn matches(self, node: Option<u32>) -> bool {
        match self {
            Self::Node(wanted) => node == Some(wanted),
            Self::None => node.is_none(),
        }
    }
}

impl fmt::Display for NumaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "{node}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A PF by address or by the name of its network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PfPattern {
    /// By address: the value has a `:`.
    Address(AddressPattern),
    /// By network interface: interface names cannot have a `:`
    /// (net/core/dev.c, `dev_valid_name`, v6.12).
    Netdev(Glob),
}

impl PfPattern {
    /// Whether the PF with this address and these interfaces is meant.
    #[must_use]
    pub fn matches(&self, address: Address, netdevs: &[String]) -> bool {
        match self {
            Self::Address(glob) => glob.matches(address),
            Self::Netdev(glob) => netdevs.iter().any(|name| glob.matches(name)),
        }
    }
}

impl FromStr for PfPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.contains(':') {
            return text.parse().map(Self::Address);
        }
        text.parse().map(Self::Netdev).map_err(|error| {
            PatternError(format!(
                "'{text}' is not a PF: {error}; expected its address or network interface, like \
                 '0000:3b:00.0' or 'enp59s0f*'"
            ))
        })
    }
}

impl fmt::Display for PfPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(glob) => glob.fmt(f),
            Self::Netdev(glob) => glob.fmt(f),
        }
    }
}

/// VF indices, as in `0,2-7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfSet(Vec<(u16, u16)>);

impl VfSet {
    /// Whether the set has `index`.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&index))
    }
}

impl FromStr for VfSet {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |why: &str| {
            PatternError(format!(
                "'{text}' is not a list of VF indices: {why}; expected numbers and ranges from 0, \
                 like '0,2-7'"
            ))
        };
        let number = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| wrong(&format!("'{text}' is not a number from 0 to 65535")))
        };
        text.split(',')
            .map(str::trim)
            .map(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let (first, last) = (number(first.trim())?, number(last.trim())?);
                (first <= last)
                    .then_some((first, last))
                    .ok_or_else(|| wrong(&format!("the range '{part}' runs backwards")))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for VfSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// A function's SR-IOV role, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A physical function.
    Pf,
    /// A virtual function.
    Vf,
    /// Neither.
    Plain,
}

impl Kind {
    /// The kind that `role` is.
    #[must_use]
    pub fn of(role: &Role) -> Self {
        match role {
            Role::Plain => Self::Plain,
            Role::Pf { .. } => Self::Pf,
            Role::Vf { .. } => Self::Vf,
        }
    }
}

impl FromStr for Kind {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.to_ascii_lowercase().as_str() {
            "pf" => Ok(Self::Pf),
            "vf" => Ok(Self::Vf),
            "plain" => Ok(Self::Plain),
            _ => Err(PatternError(format!(
                "'{text}' is not a kind of function: expected 'pf', 'vf' or 'plain'"
            ))),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pf => "pf",
            Self::Vf => "vf",
            Self::Plain => "plain",
        })
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

    #[test]
    fn classes_are_names_or_globs() {
        for (class, code, wanted) in [
            ("nvme", 0x01_0802, true),
            ("NVMe", 0x01_0802, true),
            ("storage", 0x01_0601, true),
            ("0108*", 0x01_0802, true),
            ("01080?", 0x01_0802, true),
            ("010[0-6]*", 0x01_0802, false),
            ("010802", 0x01_0802, true),
            ("audio", 0x04_0300, true),
        ] {
            let pattern: ClassPattern = class.parse().unwrap();
            assert_eq!(pattern.matches(&format!("{code:06x}")), wanted, "{class}");
        }
        for text in ["", "gpu", "0108", "0x0108*", "01080200", "01[08"] {
            assert!(text.parse::<ClassPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn vf_sets_read_back() {
        let set: VfSet = "0, 2-7,9".parse().unwrap();
        assert_eq!(set.to_string(), "0,2-7,9");
        assert!(set.contains(0) && !set.contains(1) && set.contains(7) && set.contains(9));
        for text in ["", "a", "3-1", "1-", "+1", "70000", "1,,2"] {
            assert!(text.parse::<VfSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_take_stars() {
        let id = PciId {
            vendor: 0x8086,
            device: 0x10d3,
        };
        for (text, wanted) in [
            ("8086:10D3", true),
            ("8086:*", true),
            ("*:10d3", true),
            ("10de:*", false),
        ] {
            assert_eq!(text.parse::<IdPattern>().unwrap().matches(id), wanted);
        }
        for text in ["8086", "8086:10d", "808*:10d3", "0x8086:10d3", ""] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
    }
}
