//! Others who write to sysfs: what they decide about a function counts, and nothing
//! is fought over.

use std::time::Duration;

use super::faults::{NIC, wait_state};
use super::{CONFIG, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{TWIN_A, TWIN_NODE1};

/// Scenarios about other writers.
pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::of_package("foreign_writers_by_hand", by_hand)];

/// The same where there is libvirt.
pub(crate) const LIBVIRT: &[Scenario] = &[Scenario::of_package(
    "foreign_libvirt_reattaches",
    libvirt_reattaches,
)];

const LONG: Duration = Duration::from_secs(120);

/// An administrator's override counts, and what others bind by ID is theirs.
fn by_hand(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let twin = guest.behind(TWIN_A, 0)?;
    let place = format!("/sys/bus/pci/devices/{nic}/driver_override");
    guest.ok(&format!("echo none > {place}"))?;
    guest.write_file(CONFIG, NIC)?;
    guest.ok("vfio-bindctl reload")?;
    wait_state(guest, "refused", &[&nic, "'none'"])?;
    same(
        "the override",
        &guest.ok(&format!("cat {place}; sleep 3"))?,
        "none",
    )?;
    same("the driver", &guest.driver(&nic)?, "e1000e")?;
    guest.ok(&format!("echo > {place}; vfio-bindctl rescan"))?;
    wait_resolved(guest, "nic", &[&nic])?;
    // As qemu-server does it; the mapping's own function has its driver already.
    guest.ok(&format!(
        "cd /sys/bus/pci; echo {twin} > devices/{twin}/driver/unbind
         echo 8086 10d3 > drivers/vfio-pci/new_id"
    ))?;
    wait_driver(guest, &twin, "vfio-pci")?;
    wait_resolved(guest, "nic", &[&nic])?;
    // Somebody takes the mapping's function away for good.
    guest.ok(&format!(
        "cd /sys/bus/pci; echo 8086 10d3 > drivers/vfio-pci/remove_id
         echo none > {place}; echo {nic} > drivers/vfio-pci/unbind"
    ))?;
    wait_state(guest, "refused", &["'none'"])?;
    guest.ok("sleep 3")?;
    wait_driver(guest, &nic, "none")?;
    guest.ok(&format!("echo > {place}; vfio-bindctl rescan"))?;
    wait_resolved(guest, "nic", &[&nic])?;
    fresh(guest, "")?;
    wait_driver(guest, &twin, "e1000e")
}

/// libvirt gives a mapping's function to the host, as it does when a domain with
/// `managed='yes'` ends, again and again while everything is being looked at. The
/// mapping has it in the end, and no twin is touched.
fn libvirt_reattaches(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let twin = guest.behind(TWIN_A, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let node = format!("pci_{}", nic.replace([':', '.'], "_"));
    let gave_back = guest.ok_for(
        &format!(
            "gave=0
             for i in $(seq 10); do
                 vfio-bindctl rescan &
                 virsh nodedev-reattach {node} >/dev/null && gave=$((gave + 1))
                 wait
             done; echo $gave"
        ),
        LONG,
    )?;
    ensure(gave_back != "0", || "libvirt never did it".to_owned())?;
    wait_driver(guest, &nic, "vfio-pci")?;
    wait_resolved(guest, "nic", &[&nic])?;
    let left = guest.ok(&format!("cat /sys/bus/pci/devices/{nic}/driver_override"))?;
    same("the override", &left, "vfio-pci")?;
    same("the twin's driver", &guest.driver(&twin)?, "e1000e")?;
    guest.figure(format!(
        "libvirt gave a bound function back {gave_back} times of ten: bound in the end"
    ));
    Ok(())
}
