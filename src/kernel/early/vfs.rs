//! VFs of PFs of which mappings want every one: native drivers are kept from them
//! before udev's rules, or whoever else makes them at boot, can.

use std::path::Path;

use super::Task;
use crate::{
    kernel::{autoprobe, usage::Look},
    pci::inventory::Inventory,
    policy::{model::Policy, vfs::all_wanted},
};

/// Sees to it, and writes down in `undo` what was; the daemon takes it over.
pub(super) fn withhold(
    look: Look<'_>,
    task: Task<'_>,
    undo: &Path,
    (inventory, policy): (&Inventory, &Policy),
    tell: &mut dyn FnMut(String),
) {
    for pf in all_wanted(inventory, policy) {
        if task.dry_run {
            if autoprobe::is_on(look.sysfs, pf) == Some(true) {
                tell(format!("native drivers would be kept from the VFs of {pf}"));
            }
            continue;
        }
        match autoprobe::withhold(look, pf, undo) {
            Ok(true) => tell(format!("native drivers are kept from the VFs of {pf}")),
            Ok(false) => {}
            Err(error) => tell(format!(
                "native drivers are not kept from the VFs of {pf}: {error}"
            )),
        }
    }
}
