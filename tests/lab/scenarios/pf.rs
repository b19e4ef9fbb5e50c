//! A PF as scenarios have it, and its virtual functions.

use crate::Result;
use crate::guest::Guest;

/// Has a PF make so many virtual functions that no driver is asked to take.
pub(crate) fn make(guest: &mut Guest, pf: &str, count: u8) -> Result<()> {
    guest
        .ok(&format!(
            "cd /sys/bus/pci/devices/{pf} && echo 0 >sriov_drivers_autoprobe &&
             echo {count} >sriov_numvfs"
        ))
        .map(drop)
}

/// The addresses of a PF's virtual functions, by their number.
pub(crate) fn vfs(guest: &mut Guest, pf: &str) -> Result<Vec<String>> {
    let all = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} && for vf in $(ls | grep virtfn | sort -V); do
             basename $(readlink $vf)
         done"
    ))?;
    Ok(all.lines().map(str::to_owned).collect())
}
