//! What comes over D-Bus, in the client's own terms: errors as exit codes,
//! properties as values.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zbus::{DBusError as _, OwnedVariant};

use super::exit::{Exit, Stop};
use crate::{bus::api::NAME, pci::address::Address};

/// An object's properties by name.
pub(super) type Properties = BTreeMap<String, OwnedVariant>;

/// What a failed call means to whoever called us.
pub(super) fn stop(error: &zbus::Error) -> Stop {
    let (name, text) = match error {
        zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone()),
        // Of the bus itself, which has types for its own errors.
        zbus::Error::FDO(error) => (
            error.name().to_string(),
            error.description().map(str::to_owned),
        ),
        error => return Stop::failure(format!("vfio-bindd does not answer: {error}")),
    };
    let text = text.unwrap_or_else(|| name.clone());
    let own = name
        .strip_prefix(NAME)
        .and_then(|rest| rest.strip_prefix(".Error."));
    let exit = match (own, name.as_str()) {
        (Some(own), _) => exit(own),
        (
            None,
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner",
        ) => return Stop::failure(NOT_RUNNING),
        (None, "org.freedesktop.DBus.Error.AccessDenied") => {
            return Stop::failure("only root may do this");
        }
        _ => Exit::Failure,
    };
    Stop {
        from_daemon: own.is_some(),
        ..Stop::new(exit, text)
    }
}

/// What is said where nobody answers.
pub(super) const NOT_RUNNING: &str = "vfio-bindd is not running; see: systemctl status vfio-bindd";

/// What one of the daemon's own errors means to whoever called us.
pub(super) fn exit(name: &str) -> Exit {
    match name {
        "UnknownMapping" => Exit::Unknown,
        "Refused" => Exit::Refused,
        "NotReady" | "Timeout" | "Stuck" | "NoneFree" => Exit::NotSettled,
        "InvalidConfig" | "InvalidArgument" => Exit::Usage,
        _ => Exit::Failure,
    }
}

pub(super) fn take<T>(properties: &mut Properties, name: &str) -> Result<T, Stop>
where
    T: TryFrom<OwnedVariant>,
    T::Error: std::fmt::Display,
{
    let value = properties
        .remove(name)
        .ok_or_else(|| Stop::failure(format!("the daemon does not publish {name}")))?;
    T::try_from(value).map_err(|error| Stop::failure(format!("{name}: {error}")))
}

pub(super) fn addresses(texts: &[String]) -> Result<Vec<Address>, Stop> {
    let parsed = texts.iter().map(|text| {
        text.parse()
            .map_err(|_| Stop::failure(format!("the daemon says {text}, which is no address")))
    });
    parsed.collect()
}

/// Adds the keys of `more`, an object, to `value`.
pub(super) fn add(value: &mut Value, more: &impl serde::Serialize) {
    if let (Value::Object(value), Value::Object(more)) = (value, json!(more)) {
        value.extend(more);
    }
}

/// A function with the keys that `functions --json` has too.
pub(super) fn function(mut one: Properties) -> Result<(Address, Value), Stop> {
    let one = &mut one;
    let address = addresses(&[take(one, "Address")?])?;
    let address = address
        .first()
        .copied()
        .ok_or_else(|| Stop::failure("the daemon publishes a function without an address"))?;
    let id = |vendor: u16, device: u16| format!("{vendor:04x}:{device:04x}");
    let known = |number: i32| (number >= 0).then_some(number);
    let value = json!({
        "address": address,
        "id": id(take(one, "VendorId")?, take(one, "DeviceId")?),
        "subsystem": id(take(one, "SubsystemVendorId")?, take(one, "SubsystemDeviceId")?),
        "class": format!("{:06x}", take::<u32>(one, "Class")?),
        "numa_node": known(take(one, "NumaNode")?),
        "iommu_group": known(take(one, "IommuGroup")?),
        "driver": take::<String>(one, "Driver")?,
        "node": take::<String>(one, "Node")?,
        "reset_methods": take::<Vec<String>>(one, "ResetMethods")?,
        "mappings": take::<Vec<String>>(one, "Mappings")?,
        "state": take::<String>(one, "State")?,
    });
    Ok((address, value))
}
