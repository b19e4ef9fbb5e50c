//! Cards that come and go without a wait for the guest.

use super::Guest;
use crate::Result;
use crate::topology::Port;

impl Guest {
    /// Plugs a card with eight NICs into each of these slots, as fast as QEMU takes
    /// them. Function 0 has the slot's name.
    pub(crate) fn plug_eight_each(&mut self, slots: &[Port]) -> Result<()> {
        for slot in slots {
            for function in (1..8).rev() {
                let id = format!("{}-{function}", slot.id);
                self.qmp.nic_add(*slot, function, &id)?;
            }
            // The guest lets go of the whole card with it.
            self.plugged.push(card(*slot));
            self.qmp.nic_add(*slot, 0, &card(*slot))?;
        }
        Ok(())
    }

    /// Takes the cards in these slots out again and waits until they are gone.
    pub(crate) fn unplug_all(&mut self, slots: &[Port]) -> Result<()> {
        for slot in slots {
            self.qmp.device_del(&card(*slot))?;
        }
        // They go in whatever order.
        let mut left: Vec<String> = slots.iter().copied().map(card).collect();
        while !left.is_empty() {
            let gone = self.qmp.wait_any_deleted(&left, super::UNPLUG)?;
            left.retain(|id| *id != gone);
            self.plugged.retain(|id| *id != gone);
        }
        Ok(())
    }

    /// Plugs a NIC in and does not wait until the guest has seen it.
    pub(crate) fn plug_unseen(&mut self, port: Port, id: &str) -> Result<()> {
        self.plugged.push(id.to_owned());
        self.qmp.device_add("e1000e", port, id)
    }

    /// Asks the guest to let a card go, which it may never do.
    pub(crate) fn ask_back(&mut self, id: &str) -> Result<()> {
        self.qmp.device_del(id)
    }

    /// Waits until a card that was asked back is gone.
    pub(crate) fn wait_gone(&mut self, id: &str) -> Result<()> {
        self.qmp.wait_deleted(id, super::UNPLUG)?;
        self.plugged.retain(|plugged| plugged != id);
        Ok(())
    }
}

/// QEMU's name for the first function of the card in a slot.
fn card(slot: Port) -> String {
    format!("{}-0", slot.id)
}
