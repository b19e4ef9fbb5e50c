//! A host without an IOMMU.

use super::{SOON, ensure, fresh, manager_property, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::TWIN_A;

/// What holds there.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::of_package("iommu_absent", absent)];

const NIC: &str = "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n";

/// The NIC is refused in words that help, and is not tried again and again.
fn absent(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_A, 0)?;
    let told = guest.wait_until(
        SOON,
        "told=$(vfio-bindctl status --json | jq -r '.mappings.nic | .state + \" \" + .reason')
         echo \"$told\"; [[ $told = refused* ]]",
    )?;
    ensure(told.contains(&nic) && told.contains("IOMMU"), || {
        format!("the mapping is {told}")
    })?;
    same("Iommu", &manager_property(guest, "Iommu")?, "b false")?;
    same("the driver", &guest.driver(&nic)?, "e1000e")?;
    let left = guest.ok(&format!("cat /sys/bus/pci/devices/{nic}/driver_override"))?;
    same("the override", &left, "(null)")?;
    let spent = guest.ok(
        "cpu() { systemctl show --value --property=CPUUsageNSec vfio-bindd; }
         before=$(cpu); sleep 10; echo $(( ($(cpu) - before) / 1000000 ))",
    )?;
    let spent: u32 = spent.parse().map_err(|_| format!("no time: {spent}"))?;
    ensure(spent < 1000, || {
        format!("{spent} ms of processor time in 10 s with nothing to do")
    })?;
    let refused = guest.run("vfio-bindctl resolve nic")?;
    ensure(refused.status == 5, || {
        format!("resolve without an IOMMU: {}", refused.words())
    })?;
    fresh(guest, "")
}
