//! Looks: what is looked at, and what is seen then.
//!
//! A part of [`State`] as `intake` and `reconcile` are. Looks take no device lock.

use std::{collections::BTreeSet, time::Duration};

use super::{event::Effect, report::Report, state::State};
use crate::pci::{
    address::Address,
    function::{Function, Role, is_vfio_driver},
    id::PciId,
    inventory::Inventory,
};

/// What is being looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Single functions.
    at: BTreeSet<Address>,
    /// Of these, the ones that something happened to meanwhile.
    again: BTreeSet<Address>,
    /// Whether it is all of them.
    scanning: bool,
    /// Whether something happened meanwhile.
    scan_again: bool,
    /// What changed during a scan: it is not known before the next one is in.
    unseen: BTreeSet<Address>,
}

impl Looks {
    /// Whether any single function is.
    pub(super) fn is_observing(&self) -> bool {
        !self.at.is_empty()
    }

    pub(super) const fn is_scanning(&self) -> bool {
        self.scanning
    }

    /// Whether this function is.
    pub(super) fn is_at(&self, address: Address) -> bool {
        self.at.contains(&address)
    }

    /// Whether what is known of the function is how it was seen last: nobody is
    /// looking at it, and nothing happened that was not looked at.
    pub(super) fn is_seen(&self, address: Address) -> bool {
        !self.at.contains(&address) && !self.unseen.contains(&address)
    }

    /// The function went: what is being looked at now may have been read before.
    pub(super) fn lost(&mut self, address: Address) {
        self.scan_again |= self.scanning;
        if self.at.contains(&address) {
            self.again.insert(address);
        }
    }
}

impl State {
    pub(super) fn observe(&mut self, address: Address, effects: &mut Vec<Effect>) {
        // Until the first scan is in there is nothing that one function adds to.
        if self.inventory.is_none() || self.looks.scanning {
            if self.looks.scanning {
                self.looks.scan_again = true;
                self.looks.unseen.insert(address);
            }
        } else if self.looks.at.insert(address) {
            effects.push(Effect::Observe(address));
        } else {
            self.looks.again.insert(address);
        }
    }

    pub(super) fn scan(&mut self, effects: &mut Vec<Effect>) {
        if self.looks.scanning {
            self.looks.scan_again = true;
        } else {
            self.looks.scanning = true;
            effects.push(Effect::Scan);
        }
    }

    /// Has a function looked at; what was tried with it and did not work waits as
    /// before. udev names an interface each time that its driver has the function
    /// back: to try again for that would be to go round in circles.
    pub(super) fn look_at(&mut self, address: Address, effects: &mut Vec<Effect>) {
        // It is looked at anyway when the helper that changes it has ended.
        if !self.flights.is_writing(address) {
            self.observe(address, effects);
        }
    }

    pub(super) fn scanned(
        &mut self,
        scanned: Result<Inventory, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.inventory.take();
        let listed = scanned.is_ok();
        let mut inventory = match scanned {
            Ok(inventory) => inventory,
            Err(text) => {
                effects.push(Effect::Report(Report::ScanFailed { text }));
                // The next audit tries again; a host without PCI has none.
                known.clone().unwrap_or_default()
            }
        };
        if let Some(old) = &known {
            for function in old.iter() {
                match inventory.get_mut(function.address) {
                    Some(new) if new.same_device(function) => {
                        new.inspection.clone_from(&function.inspection);
                        if is_unbound_vf(function, new) {
                            self.sriov.unbound(function.address);
                        }
                        self.stale.insert(function.address);
                    }
                    _ => self.forget(function.address),
                }
            }
        }
        if listed {
            self.claims.keep_only(&inventory);
        }
        self.inventory = Some(inventory);
        self.looks.scanning = false;
        if std::mem::take(&mut self.looks.scan_again) {
            self.scan(effects);
        } else {
            self.looks.unseen.clear();
            self.looked_once_more();
        }
        self.reconcile_at = Some(now);
    }

    pub(super) fn observed(
        &mut self,
        address: Address,
        function: Option<Box<Function>>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.looks.at.remove(&address);
        if self.looks.again.remove(&address) {
            self.observe(address, effects);
            return;
        }
        let Some(mut function) = function else {
            self.removed(address, now, effects);
            return;
        };
        let Some(inventory) = &self.inventory else {
            return;
        };
        match inventory.get(address) {
            Some(old) if old.same_device(&function) => {
                function.inspection.clone_from(&old.inspection);
                if is_unbound_vf(old, &function) {
                    self.sriov.unbound(address);
                }
                // The link to its PF goes before it does itself.
                if let (Role::Vf { pf, .. }, Role::Plain) = (&old.role, &function.role) {
                    let pf = *pf;
                    self.look_at(pf, effects);
                }
            }
            Some(_) => self.forget(address),
            None => {}
        }
        if let Some(inventory) = self.inventory.as_mut() {
            inventory.insert(*function);
        }
        self.soon(now);
    }

    /// The function went, or is another one: nothing of what is known of it holds.
    pub(super) fn forget(&mut self, address: Address) {
        self.claims.forget(address);
        self.retries.forget(address);
        self.undo.forget(address);
        self.stale.remove(&address);
        self.vouched.forget(address);
        self.withheld.forget(address);
        self.nodes.forget(address);
        self.sriov.forget(address);
        self.tuning.forget(address);
    }

    /// The IDs of the function, if it is there.
    pub(super) fn id(&self, address: Address) -> Option<PciId> {
        let function = self.inventory.as_ref()?.get(address)?;
        Some(function.id)
    }
}

/// Whether a vfio driver went from a VF without another coming. It may be another VF
/// by now, which the same address and the same IDs do not show.
fn is_unbound_vf(old: &Function, new: &Function) -> bool {
    let bound = old.driver.as_deref().is_some_and(is_vfio_driver);
    matches!(old.role, Role::Vf { .. }) && bound && new.driver.is_none()
}
