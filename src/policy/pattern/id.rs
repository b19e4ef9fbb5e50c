//! ID patterns.

use std::{fmt, str::FromStr};

use super::PatternError;
use crate::pci::id::PciId;

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

    /// Whether it matches any device of this vendor.
    #[must_use]
    pub fn is_of(self, vendor: u16) -> bool {
        self.vendor.is_none_or(|wanted| wanted == vendor)
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

#[cfg(test)]
mod tests {
    use super::*;

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
