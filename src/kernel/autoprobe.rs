//! Autoprobe: keeps native drivers from the VFs of a PF, and lets them again.
//! Runs in helpers and in the early stage.
//!
//! With `sriov_drivers_autoprobe` at 0 a VF is probed only by the driver that its
//! override names (drivers/pci/pci-driver.c, `pci_device_can_probe`, v6.1 and
//! v6.12), and neither the read nor the write takes a device lock
//! (drivers/pci/iov.c, v6.12). A value that somebody else set stays: what was
//! changed is in the undo journal, and nothing else is put back.

use std::path::Path;

use super::{
    sysfs::{Sysfs, function_dir, link_name, text},
    undo::{Identity, Journal, Stage, UndoError, Withheld},
    usage::{Look, words},
};
use crate::pci::address::Address;

/// Why it was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AutoprobeError {
    /// What it was cannot be written down.
    #[error(transparent)]
    Journal(#[from] UndoError),
    /// The kernel did not take it.
    #[error("{0}")]
    Kernel(String),
}

/// Keeps native drivers from VFs of `pf` that come; whether that changed anything.
/// One without VFs to come is left alone.
///
/// # Errors
/// If it could not be written down before, or not be written.
pub fn withhold(look: Look<'_>, pf: Address, undo: &Path) -> Result<bool, AutoprobeError> {
    let journal = Journal::new(undo);
    let Some(now) = is_on(look.sysfs, pf) else {
        return Ok(false);
    };
    let function = Identity::of_now(look, pf)?;
    let known = journal.of_pf(pf).filter(|known| known.function == function);
    let note = |stage| {
        let function = function.clone();
        journal.note_pf(&Withheld { function, stage })
    };
    match (known.map(|known| known.stage), now) {
        // Somebody else let them again, or kept them from it before us.
        (Some(Stage::Changed), _) | (None, false) => Ok(false),
        // It was broken off after the write.
        (Some(Stage::Changing), false) => {
            note(Stage::Changed)?;
            Ok(false)
        }
        (Some(Stage::Changing) | None, true) => {
            note(Stage::Changing)?;
            write(look.sysfs, pf, false)?;
            note(Stage::Changed)?;
            Ok(true)
        }
    }
}

/// Lets native drivers have VFs of `pf` again, if they were kept from them by
/// [`withhold`]; whether that changed anything.
///
/// # Errors
/// If it could not be written, or the journal not be kept.
pub fn give_back(look: Look<'_>, pf: Address, undo: &Path) -> Result<bool, AutoprobeError> {
    let journal = Journal::new(undo);
    let Some(known) = journal.of_pf(pf) else {
        return Ok(false);
    };
    let ours = Identity::of_now(look, pf).is_ok_and(|now| now == known.function);
    let changes = ours && is_on(look.sysfs, pf) == Some(false);
    if changes {
        let stage = Stage::Changing;
        journal.note_pf(&Withheld { stage, ..known })?;
        write(look.sysfs, pf, true)?;
    }
    journal.drop_pf(pf)?;
    Ok(changes)
}

/// As [`give_back`], before a native driver is to have the function at `address`,
/// if that is a VF.
pub(super) fn give_back_for(
    look: Look<'_>,
    address: Address,
    undo: &Path,
) -> Result<(), AutoprobeError> {
    let pf = link_name(look.sysfs, &format!("{}/physfn", function_dir(address)));
    match pf.and_then(|pf| pf.parse().ok()) {
        Some(pf) => give_back(look, pf, undo).map(drop),
        None => Ok(()),
    }
}

/// Whether native drivers get VFs of `pf`; `None` if it has no SR-IOV, or is gone.
pub(super) fn is_on(sysfs: &dyn Sysfs, pf: Address) -> Option<bool> {
    match text(sysfs, &place(pf))?.as_str() {
        "0" => Some(false),
        _ => Some(true),
    }
}

fn write(sysfs: &dyn Sysfs, pf: Address, probe: bool) -> Result<(), AutoprobeError> {
    let value = if probe { "1" } else { "0" };
    let written = sysfs.write(&place(pf), value);
    written.map_err(|error| AutoprobeError::Kernel(words(&error)))?;
    if is_on(sysfs, pf) == Some(probe) {
        return Ok(());
    }
    let text = format!("{value} was written and something else is read");
    Err(AutoprobeError::Kernel(text))
}

fn place(pf: Address) -> String {
    format!("{}/sriov_drivers_autoprobe", function_dir(pf))
}
