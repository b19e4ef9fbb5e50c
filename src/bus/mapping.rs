//! One mapping on the bus.

use std::collections::BTreeMap;

use zbus::interface;

use crate::engine::snapshot::MappingView;

/// A mapping's object: what was last published of it.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) name: String,
    pub(super) view: MappingView,
}

/// A named entry of the config that resolves to PCI functions.
#[interface(name = "org.vfiobindd1.Mapping")]
impl Mapping {
    /// The name in the config.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> &str {
        &self.name
    }

    /// The description in the config.
    #[zbus(property)]
    fn description(&self) -> &str {
        &self.view.description
    }

    /// One of bound, pending, absent, refused, stuck, failed, released.
    #[zbus(property)]
    fn state(&self) -> &str {
        self.view.state.as_str()
    }

    /// Why, in one clause; empty if there is nothing to say.
    #[zbus(property)]
    fn reason(&self) -> &str {
        &self.view.reason
    }

    /// The chosen functions in the order of their addresses. They can be used
    /// only while State is bound.
    #[zbus(property)]
    fn addresses(&self) -> Vec<String> {
        self.view
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Which of the functions are claimed, and by which owner.
    #[zbus(property)]
    fn claims(&self) -> BTreeMap<String, String> {
        let claims = self.view.claims.iter();
        claims
            .map(|(address, owner)| (address.to_string(), owner.clone()))
            .collect()
    }
}
