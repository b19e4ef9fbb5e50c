//! Settings of devices: set before a mapping is bound, put right, given back.
//!
//! No device of QEMU's has a BAR that can be resized: what is said of that here is
//! that it is refused.

use super::{SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{NVME_DISK, TWIN_NODE1};

/// Scenarios about `reset_method`, `d3cold`, `power` and `resize_bar`.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::of_package("knobs", knobs)];

const MATCH_NIC: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
const MATCH_DISK: &str = "[mapping.disk]\nmatch = { path = \"0000:00:14.0/00.0\" }\n";
const KNOBS: &str = "d3cold = false\npower = \"on\"\n";

/// What the settings of a function are.
fn settings(guest: &mut Guest, address: &str) -> Result<String> {
    guest.ok(&format!(
        "cd /sys/bus/pci/devices/{address} && echo $(cat reset_method d3cold_allowed power/control)"
    ))
}

/// Its ways to be reset, the first of them last.
fn turned(guest: &mut Guest, address: &str) -> Result<Vec<String>> {
    let words = guest.ok(&format!("cat /sys/bus/pci/devices/{address}/reset_method"))?;
    let mut words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
    words.rotate_left(1);
    Ok(words)
}

fn knobs(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let disk = guest.behind(NVME_DISK, 0)?;
    guest.ok("udevadm settle")?;
    // Somebody lets it sleep, which vfio-pci forgets when it goes.
    guest.ok(&format!(
        "echo auto > /sys/bus/pci/devices/{disk}/power/control"
    ))?;
    let before = [settings(guest, &nic)?, settings(guest, &disk)?];
    let words = turned(guest, &nic)?;
    // Which they have hangs on the emulator: each is left one.
    let one = words.first().cloned().unwrap_or_default();
    let its = turned(guest, &disk)?.first().cloned().unwrap_or_default();
    ensure(words.len() > 1, || format!("the NIC is reset by {words:?}"))?;
    let list = format!("reset_method = [\"{}\"]\n", words.join("\", \""));
    let only = |word: &str| format!("reset_method = \"{word}\"\n");
    let both = format!("{MATCH_NIC}{list}{KNOBS}{MATCH_DISK}{}{KNOBS}", only(&its));
    guest.write_file(super::CONFIG, &both)?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    wait_resolved(guest, "disk", &[&disk])?;
    // At once: what is told as bound is so.
    let wanted = format!("{} 0 on", words.join(" "));
    same("the NIC", &settings(guest, &nic)?, &wanted)?;
    same("the disk", &settings(guest, &disk)?, &format!("{its} 0 on"))?;
    let told = guest.ok(&format!("vfio-bindctl explain {nic}"))?;
    let line = format!(
        "reset_method \"{}\", d3cold false, power on",
        words.join(" ")
    );
    ensure(told.contains(&format!("wants {line}")), || told.clone())?;
    // Somebody else writes, and is put right.
    guest.ok(&format!(
        "cd /sys/bus/pci/devices/{nic} && echo default > reset_method && echo auto > power/control \
         && vfio-bindctl rescan"
    ))?;
    guest.wait_until(
        SOON,
        &format!(
            "cd /sys/bus/pci/devices/{nic} && found=$(echo $(cat reset_method d3cold_allowed \
             power/control)); echo \"$found\"; [ \"$found\" = '{wanted}' ]"
        ),
    )?;
    // Wanted otherwise, under the driver.
    guest.write_file(
        super::CONFIG,
        &format!("{MATCH_NIC}{}{MATCH_DISK}", only(&one)),
    )?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    let left = format!("{one} 1 auto");
    same("the NIC", &settings(guest, &nic)?, &left)?;
    let default = before[1].replace("auto", "").trim().to_owned();
    guest.wait_until(
        SOON,
        &format!(
            "cd /sys/bus/pci/devices/{disk} && [ \"$(echo $(cat reset_method d3cold_allowed))\" \
             = '{default}' ]"
        ),
    )?;
    // What the device does not offer is said with what it does.
    let refused = format!(
        "{MATCH_NIC}reset_method = \"af_flr\"\n{MATCH_DISK}resize_bar = {{ \"0\" = \"1G\" }}\n"
    );
    guest.write_file(super::CONFIG, &refused)?;
    guest.ok("vfio-bindctl reload")?;
    for (name, text) in [
        ("nic", "does not offer reset_method \"af_flr\", but: "),
        ("disk", "has no BAR that can be resized"),
    ] {
        guest.wait_until(
            SOON,
            &format!("vfio-bindctl resolve {name} 2>&1 | grep -F '{text}'"),
        )?;
    }
    same("the NIC", &settings(guest, &nic)?, &left)?;
    // The kernel was asked, and not told what it does not know.
    let errors = guest.run("dmesg | grep 'reset method'")?;
    ensure(errors.status != 0, || errors.words())?;
    guest.ok("vfio-bindctl restore --all")?;
    wait_driver(guest, &nic, "e1000e")?;
    wait_driver(guest, &disk, "nvme")?;
    same("the NIC", &settings(guest, &nic)?, &before[0])?;
    same("the disk", &settings(guest, &disk)?, &before[1])?;
    // And nothing is taken from the host for what cannot be had.
    guest.ok("vfio-bindctl rescan --take")?;
    guest.wait_until(
        SOON,
        "vfio-bindctl resolve nic 2>&1 | grep -F 'does not offer reset_method'",
    )?;
    same("the driver", &guest.driver(&nic)?, "e1000e")?;
    same("the NIC", &settings(guest, &nic)?, &before[0])?;
    guest.ok(&format!(
        "echo on > /sys/bus/pci/devices/{disk}/power/control"
    ))?;
    fresh(guest, "")
}
