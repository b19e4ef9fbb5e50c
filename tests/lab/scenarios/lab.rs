//! The lab itself: without these, no other scenario means anything.

use std::time::Duration;

use super::clients::{libvirt_guest, nested_qemu};
use super::{NIC, SOON, ensure, give_back, same, wait_driver};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{NVME_PF, PAIR, SPARE, SPARE_NODE1, TWIN_A, TWIN_B, TWIN_NODE1};

/// The lab's properties on the newer release.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_lab("lab_is_up", is_up),
    Scenario::of_lab("lab_has_iommu_groups", has_iommu_groups),
    Scenario::of_lab("lab_has_numa_nodes", has_numa_nodes),
    Scenario::of_lab("lab_twins_have_their_driver", twins_have_their_driver),
    Scenario::of_lab("lab_hotplug", hotplug),
    Scenario::of_lab("lab_virtual_functions", virtual_functions),
    Scenario::of_lab("lab_nested_qemu_and_libvirt", nested_guests),
];

/// The lab's properties on the older release.
pub(crate) const BOOKWORM: &[Scenario] = &[
    Scenario::of_lab("lab_is_up", is_up),
    Scenario::of_lab("lab_has_iommu_groups", has_iommu_groups),
    Scenario::of_lab("lab_hotplug", hotplug),
    Scenario::of_lab("lab_restarts", restarts).in_full(),
];

fn is_up(guest: &mut Guest) -> Result<()> {
    let failed = guest.ok("systemctl --failed --no-legend --plain")?;
    same("the list of failed units", &failed, "")?;
    // The shell hands everything through as it is.
    let output = guest.run("printf '%s' \"it's\"; echo oops >&2; exit 7")?;
    same("standard output", &output.stdout, "it's")?;
    same("standard error", &output.stderr, "oops")?;
    ensure(output.status == 7, || {
        format!("the status is {}", output.status)
    })?;
    guest.write_file("/run/lab/deep/file", "one\n'two'\n")?;
    same(
        "a written file",
        &guest.ok("cat /run/lab/deep/file")?,
        "one\n'two'",
    )
}

fn has_iommu_groups(guest: &mut Guest) -> Result<()> {
    let a = guest.behind(TWIN_A, 0)?;
    let node1 = guest.behind(TWIN_NODE1, 0)?;
    for address in [a, node1] {
        guest.ok(&format!(
            "ls /sys/bus/pci/devices/{address}/iommu_group/devices"
        ))?;
    }
    Ok(())
}

fn has_numa_nodes(guest: &mut Guest) -> Result<()> {
    for (port, node) in [
        (TWIN_A, "-1"),
        (TWIN_B, "-1"),
        (PAIR, "-1"),
        (TWIN_NODE1, "1"),
    ] {
        let address = guest.behind(port, 0)?;
        let found = guest.ok(&format!("cat /sys/bus/pci/devices/{address}/numa_node"))?;
        same(
            &format!("the node of {address} in {}", port.id),
            &found,
            node,
        )?;
    }
    let first = guest.behind(PAIR, 0)?;
    let group = guest.ok(&format!(
        "ls /sys/bus/pci/devices/{first}/iommu_group/devices | wc -l"
    ))?;
    same("the size of the two-function card's group", &group, "2")
}

fn twins_have_their_driver(guest: &mut Guest) -> Result<()> {
    let count = guest.ok(&format!("lspci -D -d {NIC} | wc -l"))?;
    same("the number of identical functions", &count, "5")?;
    for port in [TWIN_A, TWIN_B, TWIN_NODE1] {
        let address = guest.behind(port, 0)?;
        same(
            &format!("the driver of {address}"),
            &guest.driver(&address)?,
            "e1000e",
        )?;
    }
    Ok(())
}

/// A restart from within keeps what was written to the disk.
fn restarts(guest: &mut Guest) -> Result<()> {
    guest.write_file("/root/kept", "yes\n")?;
    guest.write_file("/run/lost", "yes\n")?;
    guest.reboot()?;
    same("a file on the disk", &guest.ok("cat /root/kept")?, "yes")?;
    guest.ok("[ ! -e /run/lost ]").map(drop)
}

fn hotplug(guest: &mut Guest) -> Result<()> {
    let address = guest.plug(SPARE, "lab-plugged")?;
    wait_driver(guest, &address, "e1000e")?;
    guest.unplug("lab-plugged")?;
    guest.wait_until(SOON, &format!("[ ! -e /sys/bus/pci/devices/{address} ]"))?;
    if guest
        .run("grep -q VERSION_CODENAME=trixie /etc/os-release")?
        .status
        != 0
    {
        return Ok(());
    }
    let address = guest.plug(SPARE_NODE1, "lab-plugged")?;
    let node = guest.ok(&format!("cat /sys/bus/pci/devices/{address}/numa_node"))?;
    same("the node of a card plugged in there", &node, "1")?;
    guest.unplug("lab-plugged")
}

fn virtual_functions(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    guest.ok(&format!("echo 2 > /sys/bus/pci/devices/{pf}/sriov_numvfs"))?;
    for vf in ["virtfn0", "virtfn1"] {
        guest.ok(&format!("ls -d /sys/bus/pci/devices/{pf}/{vf}/iommu_group"))?;
    }
    guest.ok(&format!("echo 0 > /sys/bus/pci/devices/{pf}/sriov_numvfs"))?;
    guest
        .ok(&format!("[ ! -e /sys/bus/pci/devices/{pf}/virtfn0 ]"))
        .map(drop)
}

/// A function bound by hand works in both kinds of client: when one of them
/// fails later, it is not the lab's fault.
fn nested_guests(guest: &mut Guest) -> Result<()> {
    let address = guest.behind(TWIN_A, 0)?;
    guest.ok(&format!(
        "modprobe vfio-pci && cd /sys/bus/pci/devices/{address} && echo vfio-pci > driver_override \
         && echo {address} > driver/unbind && echo {address} > /sys/bus/pci/drivers/vfio-pci/bind"
    ))?;
    nested_qemu(guest, &address)?;
    let (bus, slot) = (
        address.get(5..7).unwrap_or_default().to_owned(),
        address.get(8..10).unwrap_or_default().to_owned(),
    );
    libvirt_guest(
        guest,
        &format!(
            "<hostdev mode='subsystem' type='pci' managed='no'><driver name='vfio'/><source>\
             <address domain='0x0000' bus='0x{bus}' slot='0x{slot}' function='0x0'/>\
             </source></hostdev>"
        ),
        Duration::from_secs(120),
    )?;
    give_back(guest)?;
    wait_driver(guest, &address, "e1000e")
}
