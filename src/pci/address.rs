//! PCI addresses (domain:bus:device.function, "BDF") and slots.
//!
//! Owns their grammar. Never looks at a host. Domains may have more than four
//! hex digits: Intel VMD numbers its own from 0x10000 (Linux
//! drivers/pci/controller/vmd.c, `vmd_find_free_domain`, v6.12).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The address of one PCI function; orders numerically, as sysfs lists them.
///
/// ```
/// use vfio_bindd::pci::address::Address;
/// let address: Address = "10000:e1:00.1".parse().unwrap();
/// assert_eq!(address.domain(), 0x10000);
/// assert_eq!(address.to_string(), "10000:e1:00.1");
/// assert_eq!("3b:00.0".parse::<Address>().unwrap().to_string(), "0000:3b:00.0");
/// assert!("0000:3b:20.0".parse::<Address>().is_err()); // device 0x20 > 0x1f
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    slot: Slot,
    function: u8,
}

/// All functions of one domain:bus:device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    domain: u32,
    bus: u8,
    device: u8,
}

impl Slot {
    /// The address of function `function` (0 to 7) in this slot.
    #[must_use]
    pub fn function(self, function: u8) -> Option<Address> {
        (function < 8).then_some(Address {
            slot: self,
            function,
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}",
            self.domain, self.bus, self.device
        )
    }
}

impl Address {
    /// The address with these numbers, `None` if `device` > 31 or `function` > 7.
    #[must_use]
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self {
            slot: Slot {
                domain,
                bus,
                device,
            },
            function,
        })
    }

    /// The slot that the function is in.
    #[must_use]
    pub fn slot(self) -> Slot {
        self.slot
    }

    /// The PCI domain (segment).
    #[must_use]
    pub fn domain(self) -> u32 {
        self.slot.domain
    }

    /// The bus number.
    #[must_use]
    pub fn bus(self) -> u8 {
        self.slot.bus
    }

    /// The device number, 0 to 31.
    #[must_use]
    pub fn device(self) -> u8 {
        self.slot.device
    }

    /// The function number, 0 to 7.
    #[must_use]
    pub fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.slot, self.function)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// A text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a PCI address: expected domain:bus:device.function in hex, like 0000:3b:00.0"
)]
pub struct AddressError {
    text: String,
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads the canonical text or the short one without a domain (`3b:00.0`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| AddressError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<Address> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = match rest.rsplit_once(':') {
        Some((domain, bus)) => (hex(domain, 4, 8)?, bus),
        None => (0, rest),
    };
    let narrow = |text, digits| u8::try_from(hex(text, digits, digits)?).ok();
    Address::new(
        domain,
        narrow(bus, 2)?,
        narrow(device, 2)?,
        narrow(function, 1)?,
    )
}

/// `text` as a hex number if it has `least` to `most` digits and nothing else.
fn hex(text: &str, least: usize, most: usize) -> Option<u32> {
    let fits = (least..=most).contains(&text.len());
    (fits && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "0000",
            "3b:00",
            "0000:3b:00",
            "000:3b:00.0",
            "0000:3b:00.8",
            "0000:3b:20.0",
            "0000:3b:00.00",
            "0000:3b:0.0",
            "+000:3b:00.0",
            " 0000:3b:00.0",
            "0000:3b:00.0\n",
            "123456789:00:00.0",
            "0000:3b-00.0",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_upper_case_and_prints_lower() {
        let address: Address = "0000:3B:1F.7".parse().unwrap();
        assert_eq!(address.to_string(), "0000:3b:1f.7");
        assert_eq!(address.slot().to_string(), "0000:3b:1f");
    }

    #[test]
    fn orders_by_number_not_by_text() {
        let wide: Address = "10000:00:00.0".parse().unwrap();
        let high: Address = "ffff:00:00.0".parse().unwrap();
        assert!(high < wide);
    }

    proptest! {
        #[test]
        fn every_address_reads_back(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = Address::new(domain, bus, device, function).unwrap();
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }

        #[test]
        fn no_text_panics(text: String) {
            drop(text.parse::<Address>());
        }
    }
}
