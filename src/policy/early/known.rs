//! Known: a function as one boot leaves word of it to the next.
//!
//! Owns what makes a function the very same; where that is kept is the
//! kernel layer's business.

use serde::{Deserialize, Serialize};

use crate::pci::{
    address::Address,
    function::{Function, Role},
    id::{ClassCode, PciId},
};

/// A function that was found idle by all guards, and bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Where it was: bus numbers may be others by now.
    pub address: Address,
    /// Its topological path.
    pub path: String,
    /// Vendor and device ID.
    pub id: PciId,
    /// Subsystem IDs, `None` where it has none.
    pub subsystem: Option<PciId>,
    /// Class code.
    pub class: ClassCode,
    /// The PCIe Device Serial Number, `None` where it has none.
    pub serial: Option<String>,
}

impl Known {
    /// What is left of `function` for the next boot.
    #[must_use]
    pub fn of(function: &Function) -> Self {
        Self {
            address: function.address,
            path: function.path.clone(),
            id: function.id,
            subsystem: function.subsystem,
            class: function.class,
            serial: serial(function).map(str::to_owned),
        }
    }

    /// Whether `function`, which was inspected, is the very same. One that has
    /// a serial number now and had none is another one, and so is one whose
    /// number cannot be read any more.
    #[must_use]
    pub fn is(&self, function: &Function) -> bool {
        self.is_like(function) && self.serial.as_deref() == serial(function)
    }

    /// Whether `function` is of the same model in the same place. Within a boot
    /// that is enough for one that stayed bound: it has not gone meanwhile.
    #[must_use]
    pub fn is_like(&self, function: &Function) -> bool {
        // VFs on two bus numbers of one PF can have the same path.
        let is_vf = matches!(function.role, Role::Vf { .. });
        self.path == function.path
            && !self.path.is_empty()
            && self.id == function.id
            && self.subsystem == function.subsystem
            && self.class == function.class
            && (!is_vf || self.address == function.address)
    }
}

fn serial(function: &Function) -> Option<&str> {
    function.inspection.as_ref()?.serial.as_deref()
}
