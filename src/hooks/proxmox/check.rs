//! Whether an entry of a resource mapping still fits the host.
//!
//! Judges as PVE does before each start, for every entry of the node: one that
//! does not fit keeps the guest from starting. Not judged is whether mediated
//! devices can be made. Source: pve-guest-common, src/PVE/Mapping/PCI.pm,
//! `assert_valid`.

use std::fmt;

use super::{Devices, mapping::Entry};

/// A property of an entry that PVE compares with the function's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Vendor and device ID.
    Id,
    /// IOMMU group.
    IommuGroup,
    /// Subsystem IDs.
    SubsystemId,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "id",
            Self::IommuGroup => "iommugroup",
            Self::SubsystemId => "subsystem-id",
        })
    }
}

/// Why an entry does not fit, as a clause about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The function is not there.
    #[error("names {path}, and no such function is there")]
    NotFound {
        /// The function; function 0 of a whole device.
        path: String,
    },
    /// The entry does not say what the function has.
    #[error("has no {property}, but {path} has {found}")]
    Missing {
        /// What it has to say.
        property: Property,
        /// The function.
        path: String,
        /// What the function has.
        found: String,
    },
    /// The entry says what the function does not have.
    #[error("says {property}={configured}, but {path} has none")]
    Unexpected {
        /// What it must not say.
        property: Property,
        /// The function.
        path: String,
        /// What the entry says.
        configured: String,
    },
    /// The entry and the function differ. It is compared as text: upper and
    /// lower case differ too.
    #[error("says {property}={configured}, but {path} has {found}")]
    Differs {
        /// What differs.
        property: Property,
        /// The function.
        path: String,
        /// What the function has.
        found: String,
        /// What the entry says.
        configured: String,
    },
}

/// Whether `entry` fits the functions that are `present` on its node. Of a
/// whole device function 0 counts; the IOMMU group is that of the first path
/// only, the IDs are the same for all.
///
/// # Errors
///
/// The first thing that does not fit, in PVE's order.
pub fn check(entry: &Entry, present: &Devices) -> Result<(), Stale> {
    for (index, filter) in entry.path().iter().enumerate() {
        let path = filter.first_text();
        let device = filter.first().and_then(|first| present.get(&first));
        let Some(device) = device else {
            return Err(Stale::NotFound { path });
        };
        let id = Some(device.id.to_string());
        compare(Property::Id, &path, id, Some(&entry.id))?;
        if index == 0 {
            let group = device.iommu_group.map(|group| group.to_string());
            compare(
                Property::IommuGroup,
                &path,
                group,
                entry.iommu_group.as_ref(),
            )?;
        }
        let subsystem = device.subsystem.map(|id| id.to_string());
        compare(
            Property::SubsystemId,
            &path,
            subsystem,
            entry.subsystem_id.as_ref(),
        )?;
    }
    Ok(())
}

fn compare(
    property: Property,
    path: &str,
    found: Option<String>,
    configured: Option<&String>,
) -> Result<(), Stale> {
    let path = path.to_owned();
    Err(match (found, configured.cloned()) {
        (Some(found), Some(configured)) if found != configured => Stale::Differs {
            property,
            path,
            found,
            configured,
        },
        (Some(found), None) => Stale::Missing {
            property,
            path,
            found,
        },
        (None, Some(configured)) => Stale::Unexpected {
            property,
            path,
            configured,
        },
        _ => return Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hooks::proxmox::Device, pci::id::PciId};

    const GPU: &str = "path=0000:01:00,id=10de:2684,subsystem-id=1043:88dc,iommugroup=31";

    fn host() -> Devices {
        let device = |address: &str, id: &str, subsystem: Option<&str>, iommu_group| Device {
            address: address.parse().unwrap(),
            id: id.parse().unwrap(),
            subsystem: subsystem.map(|id| id.parse::<PciId>().unwrap()),
            iommu_group,
            is_vf: false,
        };
        [
            device("0000:01:00.0", "10de:2684", Some("1043:88dc"), Some(31)),
            device("0000:01:00.1", "10de:22ba", Some("1043:88dc"), Some(31)),
            device("0000:02:00.0", "10de:2684", Some("1043:88dc"), Some(40)),
            device("0000:03:00.0", "8086:1533", None, None),
        ]
        .map(|one| (one.address, one))
        .into()
    }

    fn said(entry: &str) -> String {
        let entry: Entry = format!("node=pve1,{entry}").parse().unwrap();
        match check(&entry, &host()) {
            Ok(()) => String::new(),
            Err(stale) => stale.to_string(),
        }
    }

    #[test]
    fn what_fits_passes() {
        for entry in [
            GPU,
            "path=0000:01:00.0,id=10de:2684,subsystem-id=1043:88dc,iommugroup=31",
            // The group of the second path is not looked at.
            "path=0000:01:00.0;0000:02:00,id=10de:2684,subsystem-id=1043:88dc,iommugroup=31",
            "path=0000:03:00,id=8086:1533,description=mine",
        ] {
            assert_eq!(said(entry), "", "{entry}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (old, new, wanted) in [
            (
                "01:00",
                "04:00",
                "names 0000:04:00.0, and no such function is there",
            ),
            (
                "01:00",
                "01:00.2",
                "names 0000:01:00.2, and no such function is there",
            ),
            (
                "01:00",
                "01:00.8",
                "names 0000:01:00.8, and no such function is there",
            ),
            (
                "2684",
                "2231",
                "says id=10de:2231, but 0000:01:00.0 has 10de:2684",
            ),
            (
                "10de",
                "10DE",
                "says id=10DE:2684, but 0000:01:00.0 has 10de:2684",
            ),
            (
                "88dc",
                "88DC",
                "says subsystem-id=1043:88DC, but 0000:01:00.0 has 1043:88dc",
            ),
            (
                "group=31",
                "group=32",
                "says iommugroup=32, but 0000:01:00.0 has 31",
            ),
            (
                "group=31",
                "group=031",
                "says iommugroup=031, but 0000:01:00.0 has 31",
            ),
            (
                ",iommugroup=31",
                "",
                "has no iommugroup, but 0000:01:00.0 has 31",
            ),
            (
                ",subsystem-id=1043:88dc",
                "",
                "has no subsystem-id, but 0000:01:00.0 has 1043:88dc",
            ),
            (
                "01:00",
                "01:00.0;0000:01:00.1",
                "says id=10de:2684, but 0000:01:00.1 has 10de:22ba",
            ),
        ] {
            assert_eq!(said(&GPU.replace(old, new)), wanted);
        }
        assert_eq!(
            said("path=0000:03:00,id=8086:1533,iommugroup=1"),
            "says iommugroup=1, but 0000:03:00.0 has none"
        );
        assert_eq!(
            said("path=0000:03:00,id=8086:1533,subsystem-id=0000:0000"),
            "says subsystem-id=0000:0000, but 0000:03:00.0 has none"
        );
        // The order is PVE's: the id first, the subsystem last.
        assert!(said("path=0000:03:00,id=8086:0000,iommugroup=1").contains("id=8086:0000"));
    }

    #[test]
    fn a_new_entry_fits() {
        let host = host();
        for entry in super::super::mapping::entries("pve1", host.keys().copied(), &host) {
            assert_eq!(check(&entry, &host), Ok(()), "{entry}");
        }
    }
}
