//! One PF on the bus that is to have VFs.

use std::collections::BTreeMap;

use zbus::interface;

use crate::{engine::snapshot::PfView, pci::address::Address};

/// A PF's object: what was last published of it.
#[derive(Debug)]
pub(super) struct Sriov {
    pub(super) address: Address,
    pub(super) view: PfView,
}

/// A physical function that the config has make virtual functions.
#[interface(name = "org.vfiobindd1.Sriov")]
impl Sriov {
    /// The entry of the config, [sriov.NAME].
    #[zbus(property)]
    fn name(&self) -> &str {
        &self.view.name
    }

    /// Domain, bus, device and function, as in 0000:3b:00.0.
    #[zbus(property(emits_changed_signal = "const"))]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// One of ready, pending, refused, stuck, failed.
    #[zbus(property)]
    fn state(&self) -> &str {
        self.view.state.as_str()
    }

    /// Why, in one clause; empty if there is nothing to say.
    #[zbus(property)]
    fn reason(&self) -> &str {
        &self.view.reason
    }

    /// The driver that has it and makes its VFs, empty if none has.
    #[zbus(property)]
    fn driver(&self) -> &str {
        self.view.driver.as_deref().unwrap_or_default()
    }

    /// How many virtual functions it is to have.
    #[zbus(property)]
    fn wanted(&self) -> u16 {
        self.view.wanted
    }

    /// How many virtual functions it can have.
    #[zbus(property)]
    fn total_vfs(&self) -> u16 {
        self.view.total
    }

    /// The addresses of those that it has, in the order of their index.
    #[zbus(property)]
    fn vfs(&self) -> Vec<String> {
        self.view.vfs.iter().map(ToString::to_string).collect()
    }

    /// What virtual functions are to be set to, by their index, in words like
    /// mac 52:54:00:a0:00:00, vlan 100.
    #[zbus(property)]
    fn settings(&self) -> &BTreeMap<u16, String> {
        &self.view.settings
    }
}
