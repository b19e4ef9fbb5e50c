//! What has to hold, one file per subject, and what the files share.

pub(crate) mod arrival;
pub(crate) mod badconfig;
pub(crate) mod bench;
pub(crate) mod boot;
pub(crate) mod broker;
pub(crate) mod bus;
pub(crate) mod claims;
pub(crate) mod clients;
pub(crate) mod declared;
pub(crate) mod doctor;
pub(crate) mod early;
pub(crate) mod explain;
pub(crate) mod faults;
pub(crate) mod foreign;
pub(crate) mod held;
pub(crate) mod hosts;
pub(crate) mod hotplug;
pub(crate) mod idle;
pub(crate) mod initramfs;
pub(crate) mod iommu;
pub(crate) mod knobs;
pub(crate) mod lab;
pub(crate) mod libvirt;
pub(crate) mod microvm;
pub(crate) mod package;
pub(crate) mod pf;
pub(crate) mod proxmox;
pub(crate) mod race;
pub(crate) mod restore;
pub(crate) mod sriov;
pub(crate) mod storm;
pub(crate) mod stuck;
pub(crate) mod trap;
pub(crate) mod tree;
pub(crate) mod variant;

use std::time::Duration;

use crate::Result;
use crate::guest::Guest;

/// The daemon's config file.
pub(crate) const CONFIG: &str = "/etc/vfio-bindd/config.toml";
/// The name of the lab's identical NICs.
pub(crate) const NIC: &str = "8086:10d3";
/// Before a command: a user who is nobody in particular runs it.
pub(crate) const READER: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";
/// How soon a change has to show, under emulation.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Fails with a text where a condition does not hold.
pub(crate) fn ensure(holds: bool, words: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(words()) }
}

/// Fails where two texts differ; `what` says what they are.
pub(crate) fn same(what: &str, found: &str, wanted: &str) -> Result<()> {
    ensure(found == wanted, || {
        format!("{what} is {found:?}, wanted {wanted:?}")
    })
}

/// Gives every function back to its native driver, without the daemon's help,
/// which is to know of nothing then.
///
/// An override is cleared by a newline; the kernel then asks all drivers anew.
pub(crate) fn give_back(guest: &mut Guest) -> Result<()> {
    guest
        .ok_for(
            "for device in /sys/bus/pci/drivers/vfio-pci/0000:*; do
                 [ -e \"$device\" ] || continue
                 address=${device##*/}
                 echo > $device/driver_override
                 echo $address > $device/driver/unbind
                 echo $address > /sys/bus/pci/drivers_probe || true
             done
             for pf in /sys/bus/pci/devices/*/sriov_drivers_autoprobe; do
                 [ ! -e \"$pf\" ] || echo 1 > $pf
             done
             rm -rf /var/lib/vfio-bindd/undo /run/vfio-bindd/claims.json",
            Duration::from_secs(120),
        )
        .map(drop)
}

/// A daemon that starts anew with this config on a host as it came up.
pub(crate) fn fresh(guest: &mut Guest, config: &str) -> Result<()> {
    guest.installed()?;
    guest.ok("systemctl stop vfio-bindd; systemctl reset-failed vfio-bindd; true")?;
    give_back(guest)?;
    guest.write_file(CONFIG, config)?;
    guest.ok("systemctl start vfio-bindd")?;
    guest
        .wait_until(SOON, "vfio-bindctl status >/dev/null")
        .map(drop)
}

/// Waits until a function has a driver (`none` for none).
pub(crate) fn wait_driver(guest: &mut Guest, address: &str, driver: &str) -> Result<()> {
    let link = format!("/sys/bus/pci/devices/{address}/driver");
    let command = if driver == "none" {
        format!("[ ! -e {link} ] || {{ readlink {link}; false; }}")
    } else {
        format!(
            "found=$(basename \"$(readlink {link})\"); echo \"$found\"; [ \"$found\" = {driver} ]"
        )
    };
    guest
        .wait_until(SOON, &command)
        .map(drop)
        .map_err(|error| format!("{address} does not get the driver {driver}: {error}"))
}

/// Waits until a mapping resolves to exactly these addresses.
pub(crate) fn wait_resolved(guest: &mut Guest, mapping: &str, addresses: &[&str]) -> Result<()> {
    let wanted = addresses.join(" ");
    let command = format!(
        "found=$(vfio-bindctl resolve {mapping}) && found=$(echo $found); \
         echo \"$found\"; [ \"$found\" = \"{wanted}\" ]"
    );
    guest.wait_until(SOON, &command).map(drop)
}

/// A property of the manager object, as busctl prints it.
pub(crate) fn manager_property(guest: &mut Guest, name: &str) -> Result<String> {
    guest.ok(&format!(
        "busctl get-property org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager {name}"
    ))
}
