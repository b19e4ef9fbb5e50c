//! PCI IDs and class codes.
//!
//! Owns how they are written. Never names a vendor or a product: that is the
//! business of the host's pci.ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A vendor and a device ID (or the subsystem's), as in `10de:2684`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// The vendor (or subsystem vendor) ID.
    pub vendor: u16,
    /// The device (or subsystem device) ID.
    pub device: u16,
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl From<PciId> for String {
    fn from(id: PciId) -> Self {
        id.to_string()
    }
}

/// A text that is no ID or class code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {wanted}")]
pub struct IdError {
    text: String,
    wanted: &'static str,
}

impl FromStr for PciId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |half: &str| {
            (half.len() == 4 && half.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .then(|| u16::from_str_radix(half, 16).ok())
                .flatten()
        };
        text.split_once(':')
            .and_then(|(vendor, device)| {
                Some(Self {
                    vendor: half(vendor)?,
                    device: half(device)?,
                })
            })
            .ok_or_else(|| IdError {
                text: text.to_owned(),
                wanted: "an ID: expected vendor:device in hex, like 10de:2684",
            })
    }
}

impl TryFrom<String> for PciId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A class code: base class, subclass and programming interface, 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClassCode(u32);

impl ClassCode {
    /// The code in the low 24 bits of `value`; higher bits are dropped.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value & 0x00ff_ffff)
    }

    /// All 24 bits.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The base class, as 0x01 for mass storage.
    #[must_use]
    pub const fn base(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// Base class and subclass, as 0x0108 for NVMe.
    #[must_use]
    pub const fn subclass(self) -> u16 {
        let [_, base, sub, _] = self.0.to_be_bytes();
        u16::from_be_bytes([base, sub])
    }
}

impl fmt::Display for ClassCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl From<ClassCode> for String {
    fn from(class: ClassCode) -> Self {
        class.to_string()
    }
}

impl FromStr for ClassCode {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        (text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(text, 16).ok().map(Self::new))
            .flatten()
            .ok_or_else(|| IdError {
                text: text.to_owned(),
                wanted: "a class code: expected six hex digits, like 010802",
            })
    }
}

impl TryFrom<String> for ClassCode {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_classes_read_back() {
        let id: PciId = "10DE:2684".parse().unwrap();
        assert_eq!(id.to_string(), "10de:2684");
        let class: ClassCode = "010802".parse().unwrap();
        assert_eq!(
            (class.base(), class.subclass(), class.value()),
            (1, 0x0108, 0x01_0802)
        );
        assert_eq!(class.to_string(), "010802");
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            "10de",
            "10de:268",
            "0x10de:2684",
            "10de:2684:1",
            "+0de:2684",
        ] {
            assert!(text.parse::<PciId>().is_err(), "{text:?}");
        }
        for text in ["", "0108", "0x0108", "01080g"] {
            assert!(text.parse::<ClassCode>().is_err(), "{text:?}");
        }
    }
}
