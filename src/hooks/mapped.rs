//! A mapping of vfio-bindd as the hooks of hypervisors see it.

use std::collections::BTreeMap;

use crate::pci::address::Address;

/// A mapping, as the daemon has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// `bound`, or why it cannot be used.
    pub state: String,
    /// One clause why, empty if there is nothing to say.
    pub reason: String,
    /// Its functions.
    pub addresses: Vec<Address>,
    /// Functions that it means, or needs, and does not hand out.
    pub beside: Vec<Address>,
    /// The ID of the resource mapping of Proxmox VE that it keeps in step.
    pub proxmox: Option<String>,
}

/// Mappings by their names.
pub type Mappings = BTreeMap<String, Mapped>;

impl Mapped {
    /// Whether the function is one of its own, handed out or not.
    #[must_use]
    pub fn has(&self, address: Address) -> bool {
        self.addresses.contains(&address) || self.beside.contains(&address)
    }

    /// Whether its functions can be used; `name` is the mapping's.
    ///
    /// # Errors
    /// With a sentence on why not.
    pub fn usable(&self, name: &str) -> Result<(), String> {
        match (self.state.as_str(), self.reason.as_str()) {
            ("bound", _) => Ok(()),
            (state, "") => Err(format!("mapping '{name}' is {state}")),
            (state, reason) => Err(format!("mapping '{name}' is {state}: {reason}")),
        }
    }
}
