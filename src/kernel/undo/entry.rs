//! One entry of the undo journal: who a function is, what it was, and how far
//! its return is.
//!
//! Owns the keys of the file, and what becomes of an entry when a function is
//! taken again. Never touches the disk.

use serde::{Deserialize, Serialize};

use super::{UndoError, boot};
use crate::{
    kernel::{
        inspect::driver_override,
        order::Order,
        scan::path,
        steps::{driver, identity, pair},
        sysfs::{Sysfs, function_dir, link_name},
        usage::{Look, words},
    },
    pci::{address::Address, id::PciId},
};

/// The format of the files; another one is left alone.
pub(super) const FORMAT: u32 = 1;

/// What every format begins with.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "vfio-bindd-undo")]
    pub(super) format: u32,
}

/// What is known of a function that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(rename = "vfio-bindd-undo")]
    format: u32,
    /// How far its return is.
    pub phase: Phase,
    /// Who it is.
    pub function: Identity,
    /// What it was.
    pub former: Former,
    /// The driver that it was taken for.
    pub driver: String,
    /// The mappings that it was taken for.
    pub mappings: Vec<String>,
}

/// Who a function is: another one at the same address differs in something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The boot's ID.
    pub boot: String,
    /// Where it is.
    pub address: Address,
    /// Its IDs.
    pub id: PciId,
    /// Its subsystem's IDs.
    pub subsystem: Option<PciId>,
    /// Device.function hops from the root complex.
    pub path: String,
    /// The inode number of its directory in sysfs, which no other function
    /// gets in this boot.
    pub node: u64,
}

/// What a function was before the first write to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// The driver that had it.
    pub driver: Option<String>,
    /// The module that the driver is in, `None` if it is built in.
    pub module: Option<String>,
    /// The driver override.
    pub driver_override: Option<String>,
}

/// How far the return of a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is taken, or was about to be.
    Taken,
    /// It is on its way back, as far as that came. Nobody binds it by itself.
    Returning,
    /// It is what it was. Nobody binds it by itself.
    Released,
}

impl Identity {
    /// Who the function at `address` is now.
    ///
    /// # Errors
    /// If it cannot be told from another one.
    pub fn of_now(look: Look<'_>, address: Address) -> Result<Self, UndoError> {
        let sysfs = look.sysfs;
        let dir = function_dir(address);
        let unknown = |text: String| UndoError::Unidentified { address, text };
        let node = sysfs.node(&dir);
        Ok(Self {
            boot: boot(look.host)?,
            address,
            id: identity(sysfs, address).ok_or_else(|| unknown("it went".to_owned()))?,
            subsystem: pair(sysfs, address, "subsystem_vendor", "subsystem_device"),
            path: path(&sysfs.read_link(&dir).unwrap_or_default()),
            node: node.map_err(|error| unknown(words(&error)))?,
        })
    }
}

impl Former {
    fn of_now(sysfs: &dyn Sysfs, address: Address) -> Self {
        let driver = driver(sysfs, address);
        let module = driver.as_ref().and_then(|driver| {
            let link = format!("bus/pci/drivers/{driver}/module");
            link_name(sysfs, &link)
        });
        Self {
            driver,
            module,
            driver_override: driver_override(sysfs, address),
        }
    }
}

impl Entry {
    /// The entry for a function that is about to be taken, where `known` is
    /// what the journal has: what it was before an apply that was broken off
    /// changed it is kept, unless it has been given back since.
    ///
    /// # Errors
    /// If the function cannot be told from another one.
    pub fn of_taken(
        look: Look<'_>,
        order: &Order,
        known: Option<&Self>,
    ) -> Result<Self, UndoError> {
        let function = Identity::of_now(look, order.address)?;
        let former = known
            .filter(|known| known.phase != Phase::Released && known.function == function)
            .map(|known| known.former.clone());
        Ok(Self {
            format: FORMAT,
            phase: Phase::Taken,
            function,
            former: former.unwrap_or_else(|| Former::of_now(look.sysfs, order.address)),
            driver: order.driver.clone(),
            mappings: order.mappings.clone(),
        })
    }
}
