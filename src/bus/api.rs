//! The public names of the D-Bus interface, and what a question gets.
//!
//! Pure. Every name is spelled here and nowhere else.

use std::fmt::Write as _;

use zbus::DBusError as _;

use crate::{
    engine::{
        claims::Unclaimed,
        snapshot::{DaemonState, MappingState, Snapshot},
        undo::Unrestored,
    },
    pci::address::Address,
    policy::explain::known,
};

/// The well-known name.
pub const NAME: &str = "org.vfiobindd1";
/// The root object.
pub const ROOT: &str = "/org/vfiobindd1";
/// The manager's interface.
pub const MANAGER: &str = "org.vfiobindd1.Manager";
/// A mapping's interface.
pub const MAPPING: &str = "org.vfiobindd1.Mapping";
/// A function's interface.
pub const FUNCTION: &str = "org.vfiobindd1.Function";

/// The interface of a PF that is to have VFs.
pub const SRIOV: &str = "org.vfiobindd1.Sriov";

/// The object path of a mapping; anything but letters and digits is `_xx`, as
/// sd-bus does it (sd_bus_path_encode(3)).
#[must_use]
pub fn mapping_path(name: &str) -> String {
    let mut path = format!("{ROOT}/mapping/");
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit());
        if plain {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(path, "_{byte:02x}").unwrap_or_default();
        }
    }
    path
}

/// The object path of a function, in libvirt's spelling.
#[must_use]
pub fn function_path(address: Address) -> String {
    below("function", address)
}

/// The object path of a PF that is to have VFs.
#[must_use]
pub fn sriov_path(address: Address) -> String {
    below("sriov", address)
}

fn below(folder: &str, address: Address) -> String {
    let name = address.to_string().replace([':', '.'], "_");
    format!("{ROOT}/{folder}/pci_{name}")
}

/// What a call can be answered with instead of a result; the name on the wire
/// is `org.vfiobindd1.Error.` and the variant's name.
#[derive(Clone, Debug, PartialEq, zbus::DBusError)]
#[zbus(prefix = "org.vfiobindd1.Error")]
pub enum BusError {
    /// Something below D-Bus went wrong.
    #[zbus(error)]
    Bus(zbus::Error),
    /// No mapping has this name.
    UnknownMapping(String),
    /// No PCI function has this address.
    UnknownFunction(String),
    /// The mapping is not bound yet.
    NotReady(String),
    /// Policy says no.
    Refused(String),
    /// The kernel does not come back.
    Stuck(String),
    /// Too much of the mapping is claimed or in use.
    NoneFree(String),
    /// An argument cannot be understood.
    InvalidArgument(String),
    /// It was not bound in time.
    Timeout(String),
    /// The caller may not.
    AccessDenied(String),
    /// The config is not valid.
    InvalidConfig(String),
    /// There is nothing to give back.
    NothingTaken(String),
    /// The kernel or the disk said no to a restore.
    NotRestored(String),
}

impl BusError {
    /// The variant's name, and its sentence.
    pub(super) fn name_and_text(&self) -> (String, String) {
        let name = self.name().to_string();
        let name = name.rsplit('.').next().unwrap_or_default();
        let text = self.description().unwrap_or_default();
        (name.to_owned(), text.to_owned())
    }
}

impl From<Unrestored> for BusError {
    fn from(why: Unrestored) -> Self {
        match why {
            Unrestored::Unknown(text) => Self::UnknownMapping(text),
            Unrestored::NothingTaken(text) => Self::NothingTaken(text),
            Unrestored::Refused(text) => Self::Refused(text),
            Unrestored::Stuck(text) => Self::Stuck(text),
            Unrestored::Failed(text) => Self::NotRestored(text),
            Unrestored::NotReady(text) => Self::NotReady(text),
        }
    }
}

impl From<Unclaimed> for BusError {
    fn from(why: Unclaimed) -> Self {
        match why {
            Unclaimed::NotBound => Self::NotReady("the mapping is not bound any more".to_owned()),
            Unclaimed::NoneFree(text) => Self::NoneFree(text),
            Unclaimed::Refused(text) => Self::Refused(text),
            Unclaimed::Unknown(text) => Self::NotReady(text),
        }
    }
}

/// The addresses of mapping `name`, if they can be used now.
///
/// # Errors
/// With the reason why not.
pub fn answer(snapshot: &Snapshot, name: &str) -> Result<Vec<Address>, BusError> {
    if snapshot.state == DaemonState::Failed {
        let text = format!(
            "mapping '{name}' is not bound: the config is not valid: {}",
            snapshot.reason
        );
        return Err(BusError::InvalidConfig(text));
    }
    let Some(mapping) = snapshot.mappings.get(name) else {
        if snapshot.state == DaemonState::Starting {
            let text = format!("mapping '{name}' is not known yet: the first pass is not over");
            return Err(BusError::NotReady(text));
        }
        let names: Vec<_> = snapshot.mappings.keys().collect();
        let text = format!("no mapping is named '{name}'; {}", known(&names));
        return Err(BusError::UnknownMapping(text));
    };
    let text = if mapping.reason.is_empty() {
        format!("mapping '{name}' is {}", mapping.state)
    } else {
        format!("mapping '{name}' is {}: {}", mapping.state, mapping.reason)
    };
    match mapping.state {
        MappingState::Bound => Ok(mapping.addresses.clone()),
        MappingState::Refused => Err(BusError::Refused(text)),
        MappingState::Stuck => Err(BusError::Stuck(text)),
        MappingState::Pending
        | MappingState::Absent
        | MappingState::Failed
        | MappingState::Released => Err(BusError::NotReady(text)),
    }
}

/// Whether waiting cannot better what [`answer`] says of mapping `name`: it is
/// a result or a last word. What the host has back nobody binds by itself.
#[must_use]
pub fn is_settled(snapshot: &Snapshot, name: &str) -> bool {
    let mapping = snapshot.mappings.get(name);
    mapping.is_some_and(|mapping| mapping.state == MappingState::Released)
        || !matches!(answer(snapshot, name), Err(BusError::NotReady(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_spelled_as_sd_bus_and_libvirt_do() {
        assert_eq!(mapping_path("gpu"), "/org/vfiobindd1/mapping/gpu");
        assert_eq!(
            mapping_path("nvme-p_1"),
            "/org/vfiobindd1/mapping/nvme_2dp_5f1"
        );
        assert_eq!(mapping_path("1a"), "/org/vfiobindd1/mapping/_31a");
        let address = "10000:3b:1f.7".parse().unwrap();
        assert_eq!(
            function_path(address),
            "/org/vfiobindd1/function/pci_10000_3b_1f_7"
        );
    }
}
