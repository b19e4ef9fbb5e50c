//! A host without an IOMMU, and one whose IOMMU does not remap interrupts.

use super::{SOON, ensure, fresh, manager_property, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{TWIN_A, Topology};

/// What holds there.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("iommu_absent", absent),
    Scenario::of_package("iommu_without_interrupt_remapping", without_remapping),
];

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

/// What is bound there can be given to no virtual machine, which `doctor` and the
/// log say in words; binding itself is no mistake.
fn without_remapping(guest: &mut Guest) -> Result<()> {
    guest.boot_as(&Topology::without_remapping(guest.release()))?;
    guest.forget_installed();
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_A, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let told = guest.run("vfio-bindctl doctor")?;
    for words in ["interrupts", "are not remapped", "intremap=off"] {
        ensure(told.stdout.contains(words), || {
            format!("no {words:?} in doctor: {}", told.words())
        })?;
    }
    guest.wait_until(
        SOON,
        "journalctl -b -u vfio-bindd --no-pager | grep 'interrupts: are not remapped'",
    )?;
    fresh(guest, "")
}
