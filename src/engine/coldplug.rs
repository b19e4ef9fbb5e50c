//! Coldplug: what waits at boot until udev has been through all devices.
//!
//! Owns who waits. Until udev has loaded a function's native driver nothing is
//! below it, and until it has named what came, no configuration can be matched
//! with that: an interface is `eth0`, a disk has no UUID. What the host is only
//! configured to use would look idle.

use super::{event::Effect, project::View, state::State};
use crate::{
    pci::{address::Address, inventory::Inventory},
    policy::early::needs_verdict,
};

/// What such a function is at.
pub(super) const UDEV_FIRST: &str = "waits until udev has been through the devices of this boot";

/// How far udev is with what was there at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coldplug {
    /// It is at work, and nobody knows what is still to come.
    UnderWay,
    /// It is through, and everything is looked at once more.
    LastLook,
    /// What is seen counts.
    #[default]
    Over,
}

impl State {
    /// The same, for one that takes nothing which the host may need before
    /// [`Event::UdevIdle`](super::event::Event::UdevIdle) has come.
    #[must_use]
    pub fn awaiting_udev(mut self) -> Self {
        self.coldplug = Coldplug::UnderWay;
        self
    }

    /// udev is through; with `all_along` it was before anything was looked at.
    pub(super) fn udev_is_idle(&mut self, all_along: bool, effects: &mut Vec<Effect>) {
        if all_along {
            self.coldplug = Coldplug::Over;
        } else {
            // What was found until now is old; after a scan it is inspected again.
            self.coldplug = Coldplug::LastLook;
            self.scan(effects);
        }
    }

    /// A scan is in that began after all that is known.
    pub(super) fn looked_once_more(&mut self) {
        if self.coldplug == Coldplug::LastLook {
            self.coldplug = Coldplug::Over;
        }
    }

    /// Whether the function at `address` is not to be taken yet.
    pub(super) fn waits_for_udev(&self, address: Address) -> bool {
        let inventory = self.inventory.as_ref();
        self.coldplug != Coldplug::Over
            && inventory.is_some_and(|all| is_of_such_a_class(all, address))
    }
}

impl View<'_> {
    /// As the state's own.
    pub(super) fn waits_for_udev(&self, address: Address) -> bool {
        self.coldplug != Coldplug::Over && is_of_such_a_class(self.inventory, address)
    }
}

/// Displays and the like are used by whoever opens them, which is seen.
fn is_of_such_a_class(inventory: &Inventory, address: Address) -> bool {
    let function = inventory.get(address);
    function.is_some_and(|function| needs_verdict(function.class).is_some())
}
