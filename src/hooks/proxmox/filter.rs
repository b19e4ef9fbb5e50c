//! Which functions a PCI ID of Proxmox VE means, and that a guest has none twice.
//!
//! Owns the grammar of such an ID and its expansion. Source: pve-common,
//! src/PVE/SysFSTools.pm, `lspci`; qemu-server, src/PVE/QemuServer/PCI.pm,
//! `choose_hostpci_devices`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::pci::address::Address;

/// What [`Filter`] takes, in words.
pub(super) const WANTED: &str = "a PCI ID of Proxmox VE: [domain:]bus:device[.function] in lower-case hex, like 0000:3b:00 or 0000:3b:00.0, several joined by ';'";

/// `[domain:]bus:device[.function]`: one function, or all of a device.
///
/// It is compared with addresses as text, as PVE does it.
///
/// ```
/// use vfio_bindd::hooks::proxmox::filter::Filter;
/// let filter: Filter = "3b:00".parse().unwrap();
/// assert!(filter.matches("0000:3b:00.1".parse().unwrap()));
/// assert!(!filter.matches("0001:3b:00.1".parse().unwrap()));
/// assert!("3B:00".parse::<Filter>().is_err()); // upper case
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(String);

/// A text that is no [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {WANTED}")]
pub struct FilterError {
    text: String,
}

impl Filter {
    /// Whether `address` is one of the functions that it means. Without a
    /// domain it means domain 0.
    #[must_use]
    pub fn matches(&self, address: Address) -> bool {
        let text = address.to_string();
        let short = text.strip_prefix("0000:").unwrap_or(&text);
        text.starts_with(&self.0) || short.starts_with(&self.0)
    }

    /// Whether it means all functions of a device.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.0.contains('.')
    }

    /// Whether it names a domain.
    #[must_use]
    pub fn has_domain(&self) -> bool {
        self.0.matches(':').count() == 2
    }

    /// The function that stands for all that it means: function 0 of a whole
    /// device. `None` if no function can have that address.
    #[must_use]
    pub fn first(&self) -> Option<Address> {
        let address = self.first_text().parse().ok()?;
        self.matches(address).then_some(address)
    }

    /// [`Self::first`] as PVE would write it.
    pub(super) fn first_text(&self) -> String {
        if self.is_whole() {
            format!("{self}.0")
        } else {
            self.0.clone()
        }
    }

    /// Several, joined by `;`.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Self>, FilterError> {
        text.split(';').map(str::parse).collect()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_filter(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(FilterError {
            text: text.to_owned(),
        })
    }
}

fn is_filter(text: &str) -> bool {
    let (rest, function) = text.split_once('.').unwrap_or((text, "0"));
    let Some((rest, device)) = rest.rsplit_once(':') else {
        return false;
    };
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
    let is_hex = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    (domain.len(), bus.len(), device.len(), function.len()) == (domain.len().max(4), 2, 2, 1)
        && [domain, bus, device, function].into_iter().all(is_hex)
}

/// The ID of a filter that means no function of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no PCI function '{0}' on this host")]
pub struct NotFound(pub Filter);

/// The functions among `present` that `filters` mean: one filter after the
/// other, each one's in the order of their addresses.
///
/// # Errors
///
/// A filter that means none of them.
pub fn expand(
    filters: &[Filter],
    present: impl IntoIterator<Item = Address>,
) -> Result<Vec<Address>, NotFound> {
    let mut present: Vec<_> = present.into_iter().collect();
    present.sort_unstable();
    let mut found = Vec::new();
    for filter in filters {
        let before = found.len();
        found.extend(present.iter().filter(|address| filter.matches(**address)));
        if found.len() == before {
            return Err(NotFound(filter.clone()));
        }
    }
    Ok(found)
}

/// Which functions a guest has by which key, so that it has none twice.
#[derive(Clone, Debug, Default)]
pub struct Assignments {
    keys: BTreeMap<Address, String>,
}

/// Why functions cannot be a guest's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// A function that the guest has already.
    #[error("{key}: {address} is passed through as {other} already: give each function once")]
    Twice {
        /// The `hostpciN` that asks for it.
        key: String,
        /// The function.
        address: Address,
        /// The `hostpciN` that has it.
        other: String,
    },
    /// Each of several alternatives has a function that the guest has already.
    #[error("{key}: each of its alternatives is passed through by another hostpci already")]
    NoneFree {
        /// The `hostpciN` that asks.
        key: String,
    },
}

impl Assignments {
    /// Gives `key` the first of `alternatives` that has no function which the
    /// guest has already; returns which that is, counted from 0. What other
    /// guests use does not count here. Not for mediated devices: several can be
    /// of one function.
    ///
    /// # Errors
    ///
    /// There is no such alternative.
    pub fn assign(
        &mut self,
        key: &str,
        alternatives: &[Vec<Address>],
    ) -> Result<usize, AssignError> {
        let is_free = |functions: &Vec<Address>| {
            let mut functions = functions.iter();
            functions.all(|address| !self.keys.contains_key(address))
        };
        let chosen = match alternatives {
            [_] => Some(0),
            _ => alternatives.iter().position(is_free),
        };
        let Some((index, functions)) =
            chosen.and_then(|index| Some((index, alternatives.get(index)?)))
        else {
            return Err(AssignError::NoneFree { key: key.into() });
        };
        for address in functions {
            if let Some(other) = self.keys.get(address) {
                return Err(AssignError::Twice {
                    key: key.into(),
                    address: *address,
                    other: other.clone(),
                });
            }
            self.keys.insert(*address, key.to_owned());
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn host() -> Vec<Address> {
        addresses(&[
            "0000:02:00.0",
            "0000:01:00.1",
            "0000:01:00.0",
            "0001:01:00.0",
            "10000:01:00.0",
            "0000:01:01.0",
        ])
    }

    #[test]
    fn takes_what_pve_takes() {
        for text in [
            "01:00",
            "01:00.0",
            "0000:01:00",
            "10000:e1:00.f",
            "123456789:00:00",
            "ff:ff.f",
        ] {
            assert!(text.parse::<Filter>().is_ok(), "{text:?}");
        }
        for text in [
            "",
            ":",
            "gpu0",
            "0000:0A:00.0",
            "000:01:00.0",
            ":01:00",
            "1:00",
            "01:0",
            "01:00.",
            "01:00.00",
            "01:00.g",
            "01:00.0.0",
            "0000:0000:01:00",
            " 01:00",
            "01:00 ",
            "0000.01:00",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn expands_as_lspci_does() {
        for (list, wanted) in [
            ("01:00", &["0000:01:00.0", "0000:01:00.1"][..]),
            ("0000:01:00", &["0000:01:00.0", "0000:01:00.1"]),
            ("01:00.1", &["0000:01:00.1"]),
            ("0001:01:00", &["0001:01:00.0"]),
            ("10000:01:00.0", &["10000:01:00.0"]),
            (
                "02:00;01:00",
                &["0000:02:00.0", "0000:01:00.0", "0000:01:00.1"],
            ),
            ("01:00.0;01:00.0", &["0000:01:00.0", "0000:01:00.0"]),
        ] {
            let filters = Filter::parse_list(list).unwrap();
            assert_eq!(expand(&filters, host()), Ok(addresses(wanted)), "{list}");
        }
        for (list, missing) in [
            ("03:00", "03:00"),
            ("01:00;01:00.2", "01:00.2"),
            ("00000:01:00", "00000:01:00"),
            ("01:00.f", "01:00.f"),
        ] {
            let error = expand(&Filter::parse_list(list).unwrap(), host()).unwrap_err();
            assert_eq!(error.0.to_string(), missing, "{list}");
            assert!(error.to_string().contains(missing));
        }
    }

    #[test]
    fn the_first_is_function_zero_of_a_whole_device() {
        let first = |text: &str| text.parse::<Filter>().unwrap().first();
        assert_eq!(first("01:00"), "0000:01:00.0".parse().ok());
        assert_eq!(first("0001:01:00.1"), "0001:01:00.1".parse().ok());
        assert_eq!(first("01:00.8"), None);
        assert_eq!(first("00000:01:00"), None);
    }

    #[test]
    fn no_function_is_passed_twice() {
        let [a, b, c] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"].map(|text| {
            let address: Address = text.parse().unwrap();
            address
        });
        let mut guest = Assignments::default();
        assert_eq!(guest.assign("hostpci0", &[vec![a]]), Ok(0));
        assert_eq!(
            guest.assign("hostpci1", &[vec![a], vec![a, b], vec![b], vec![c]]),
            Ok(2)
        );
        let error = guest.assign("hostpci2", &[vec![a]]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "hostpci2: 0000:01:00.0 is passed through as hostpci0 already: give each function once"
        );
        let error = guest.assign("hostpci3", &[vec![a], vec![b]]).unwrap_err();
        assert!(matches!(error, AssignError::NoneFree { .. }));
        let error = guest.assign("hostpci4", &[vec![c, c]]).unwrap_err();
        assert!(matches!(error, AssignError::Twice { .. }));
    }
}
