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
        knobs,
        order::{Order, Tune},
        scan::path,
        steps::{driver, identity, pair},
        sysfs::{Sysfs, function_dir, link_name},
        usage::{Look, words},
    },
    pci::{
        address::Address,
        id::PciId,
        settings::{Power, Settings},
    },
    policy::knobs::Knobs,
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
    /// Whether it might sleep, which vfio-pci changes as it comes and as it goes;
    /// `None` if that was not written down yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Those of its settings that were to be changed.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
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
            power: knobs::power(sysfs, address),
            settings: Settings::default(),
        }
    }

    /// The settings that it gets back with its driver.
    pub(in crate::kernel) fn given_back(&self) -> Settings {
        Settings {
            power: self.power,
            ..self.settings.clone()
        }
    }

    /// What those of its settings are to be that no mapping wants otherwise any
    /// more, while `driver` has it: what they were. vfio-pci lets a function sleep
    /// that it was given (drivers/vfio/pci/vfio_pci_core.c,
    /// `vfio_pci_core_register_device`, v6.1 and v6.12). A BAR stays as large as it
    /// is until no driver has the function.
    pub(in crate::kernel) fn put_back(&self, wanted: &Settings, driver: Option<&str>) -> Settings {
        let mut over = self.settings.beside(wanted);
        over.bars.clear();
        if over.power.is_some() && self.driver.as_deref() != driver {
            over.power = Some(Power::Auto);
        }
        over
    }
}

impl Former {
    /// Adds what those settings are now that `knobs` is about to change. What is
    /// noted already is what they were before the first change.
    fn note(&mut self, sysfs: &dyn Sysfs, address: Address, knobs: &Knobs) {
        let now = knobs::former(sysfs, address, knobs);
        self.settings = std::mem::take(&mut self.settings).and(now);
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
        let known = known.filter(|known| known.is_of(&function));
        let mut former = known.map_or_else(
            || Former::of_now(look.sysfs, order.address),
            |known| known.former.clone(),
        );
        former.note(look.sysfs, order.address, &order.knobs);
        Ok(Self {
            format: FORMAT,
            phase: Phase::Taken,
            function,
            former,
            driver: order.driver.clone(),
            mappings: order.mappings.clone(),
        })
    }

    /// The entry for a function whose settings are about to be changed under a
    /// vfio driver, where `known` is what the journal has. One that was never
    /// taken, but bound by somebody else, goes back to just that.
    ///
    /// # Errors
    /// If the function cannot be told from another one.
    pub fn of_tuned(look: Look<'_>, order: &Tune, known: Option<Self>) -> Result<Self, UndoError> {
        let function = Identity::of_now(look, order.address)?;
        let known = known.filter(|known| known.is_of(&function));
        let mut entry = known.unwrap_or_else(|| Self {
            format: FORMAT,
            phase: Phase::Taken,
            function,
            former: Former::of_now(look.sysfs, order.address),
            driver: driver(look.sysfs, order.address).unwrap_or_default(),
            mappings: order.mappings.clone(),
        });
        let former = &mut entry.former;
        former.note(look.sysfs, order.address, &order.knobs);
        Ok(entry)
    }

    /// Whether it is about this function, and that was not given back since.
    fn is_of(&self, function: &Identity) -> bool {
        self.phase != Phase::Released && self.function == *function
    }
}
