//! MAC addresses of VFs: what counts as one, and how they are counted up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::policy::pattern::PatternError;

/// An Ethernet address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that comes `steps` after it, `None` if the last three octets,
    /// which its owner hands out, do not go so far.
    #[must_use]
    pub fn plus(self, steps: u16) -> Option<Self> {
        let [a, b, c, x, y, z] = self.0;
        let last = u32::from_be_bytes([0, x, y, z]) + u32::from(steps);
        match last.to_be_bytes() {
            [0, x, y, z] => Some(Self([a, b, c, x, y, z])),
            _ => None,
        }
    }
}

impl FromStr for Mac {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |why: &str| {
            PatternError(format!(
                "'{text}' is not the MAC address of a VF: {why}; expected one like \
                 '52:54:00:12:34:56'"
            ))
        };
        let octet = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| digits)
        };
        let octets: Option<Vec<_>> = text.split([':', '-']).map(octet).collect();
        let octets: [u8; 6] = octets
            .and_then(|octets| octets.try_into().ok())
            .ok_or_else(|| wrong("it is not six pairs of hexadecimal digits"))?;
        // The kernel's is_valid_ether_addr (include/linux/etherdevice.h, v6.12).
        if octets == [0; 6] {
            return Err(wrong("all zero means that it has none"));
        }
        let [first, ..] = octets;
        if first & 1 == 1 {
            return Err(wrong("it is a multicast address (its first octet is odd)"));
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, x, y, z] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{x:02x}:{y:02x}:{z:02x}")
    }
}

/// Which MAC address the VFs of a rule get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacRule {
    /// This one.
    Exact(Mac),
    /// The one that comes the VF's index after it.
    Base(Mac),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_one_station_and_count_on() {
        let mac: Mac = "52:54:00:AB:ff:fe".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:ff:fe");
        assert_eq!(mac.plus(3).unwrap().to_string(), "52:54:00:ac:00:01");
        let last: Mac = "52-54-00-ff-ff-ff".parse().unwrap();
        assert_eq!((last.plus(0), last.plus(1)), (Some(last), None));
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "52:54:00:12:34:+5",
            "52:54:00:12:34:56:78",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
