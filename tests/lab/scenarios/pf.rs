//! A PF as scenarios have it, and its virtual functions.

use std::time::Duration;

use super::SOON;
use crate::Result;
use crate::guest::Guest;
use crate::topology::Port;

/// The driver of the NICs is not in the initrd: udev loads it in its own time.
const LOADED: Duration = Duration::from_secs(90);

/// A PF with its interface.
pub(crate) struct Pf {
    pub(crate) address: String,
    pub(crate) interface: String,
}

impl Pf {
    /// The NIC behind a port, up, with its carrier and without virtual functions.
    pub(crate) fn up(guest: &mut Guest, port: Port) -> Result<Self> {
        let address = guest.behind(port, 0)?;
        let interface = guest.wait_until(
            LOADED,
            // udev renames it.
            &format!("cd /sys/bus/pci/devices/{address} && [ -e net ] && udevadm settle && ls net"),
        )?;
        let pf = Self { address, interface };
        make(guest, &pf.address, 0)?;
        guest.ok(&format!("ip link set {} up", pf.interface))?;
        pf.wait_carrier(guest)?;
        Ok(pf)
    }

    pub(crate) fn wait_carrier(&self, guest: &mut Guest) -> Result<()> {
        let carrier = format!("grep -qx 1 /sys/class/net/{}/carrier", self.interface);
        guest.wait_until(SOON, &carrier).map(drop)
    }

    /// How often its carrier came or went so far.
    pub(crate) fn carrier_changes(&self, guest: &mut Guest) -> Result<u32> {
        let file = format!("/sys/class/net/{}/carrier_changes", self.interface);
        let count = guest.ok(&format!("cat {file}"))?;
        count
            .parse()
            .map_err(|error| format!("{file} is {count:?}: {error}"))
    }

    /// Sets something of a virtual function, as a word list of ip-link(8).
    pub(crate) fn set(&self, guest: &mut Guest, vf: u8, words: &str) -> Result<()> {
        let interface = &self.interface;
        guest
            .ok(&format!("ip link set {interface} vf {vf} {words}"))
            .map(drop)
    }

    /// What is set of a virtual function: MAC, VLAN, its priority, the highest rate,
    /// the spoof check, trust, the link state.
    pub(crate) fn settings(&self, guest: &mut Guest, vf: u8) -> Result<String> {
        guest.ok(&format!(
            "ip -d -j link show {} | jq -r '.[0].vfinfo_list[{vf}] |
                 [.address, .vlan_list[0].vlan // 0, .vlan_list[0].qos // 0, .rate.max_tx,
                  .spoofchk, .trust, .link_state] | map(tostring) | join(\" \")'",
            self.interface
        ))
    }
}

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
