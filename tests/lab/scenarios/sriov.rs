//! The hosts with SR-IOV: what they can do, and what their drivers make of it.
//! What is said here of `nvme` is what anything about VFs goes by.

use super::pf::{make, vfs};
use super::{ensure, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::NVME_PF;

/// The properties of the host with many virtual functions.
pub(crate) const MANY: &[Scenario] = &[Scenario::of_lab("lab_disk_makes_64", disk_makes_64)];

/// They need more than the eight functions of the PF's own device number, which ARI
/// has for them, and each is in a group of its own.
fn disk_makes_64(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    let seconds = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} && echo 0 >sriov_drivers_autoprobe
         start=$(date +%s%N); echo 64 >sriov_numvfs && end=$(date +%s%N) &&
         echo $(( (end - start) / 1000000 ))"
    ))?;
    guest.figure(format!("64 VFs come within {seconds} ms"));
    let made = vfs(guest, &pf)?;
    let last = format!("{}08.0", pf.get(..8).unwrap_or_default());
    ensure(made.len() == 64 && made.last() == Some(&last), || {
        format!("the VFs are {made:?}")
    })?;
    let groups = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} && readlink -f virtfn*/iommu_group | sort -u | wc -l"
    ))?;
    same("their groups", &groups, "64")?;
    ensure(seconds.parse().is_ok_and(|time: u32| time < 20_000), || {
        format!("they took {seconds} ms")
    })?;
    make(guest, &pf, 0)?;
    same("what is left", &vfs(guest, &pf)?.concat(), "")
}
