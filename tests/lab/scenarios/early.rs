//! The early stage: a mapped NIC never meets its native driver, whose module the
//! host loads for its twin. On hosts of their own: their initrd does not load it.

use super::{CONFIG, SOON, ensure, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{TWIN_A, TWIN_NODE1};

/// Scenarios that restart the host; the first makes the boots that the others
/// look at.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("early_waits_for_a_verdict", waits_for_a_verdict),
    Scenario::of_package("early_is_before_the_driver", is_before_the_driver),
    Scenario::of_package("early_ends_with_a_failed_boot", ends_with_a_failed_boot),
];

const POLICY: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
const VERDICTS: &str = "/var/lib/vfio-bindd/verdicts.json";

/// Whether e1000e ever had the function in this boot.
fn met(guest: &mut Guest, address: &str) -> Result<bool> {
    let lines = guest.ok(&format!(
        "journalctl -b -k -o cat --no-pager | grep -c 'e1000e {address}' || true"
    ))?;
    Ok(lines != "0")
}

/// What the early unit told in this boot.
fn told(guest: &mut Guest) -> Result<String> {
    same(
        "the early unit",
        &guest.ok("systemctl is-active vfio-bindd-early.service")?,
        "active",
    )?;
    guest.ok("journalctl -b -u vfio-bindd-early.service -o cat --no-pager")
}

fn is_bound(guest: &mut Guest) -> Result<String> {
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let twin = guest.behind(TWIN_A, 0)?;
    wait_driver(guest, &twin, "e1000e")?;
    ensure(met(guest, &twin)?, || {
        format!("the twin {twin} never met e1000e: the log says nothing of it")
    })?;
    Ok(nic)
}

fn waits_for_a_verdict(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok(&format!("systemctl stop vfio-bindd; rm -f {VERDICTS}"))?;
    guest.write_file(CONFIG, POLICY)?;
    guest.reboot()?;
    let nic = is_bound(guest)?;
    ensure(met(guest, &nic)?, || {
        format!("{nic} was taken early without a verdict")
    })?;
    let told = told(guest)?;
    ensure(told.contains("no former boot left a verdict"), || told)?;
    vouched_for(guest, &nic)
}

/// Waits until the verdicts are those of a boot that got ready, and hold `nic`.
fn vouched_for(guest: &mut Guest, nic: &str) -> Result<()> {
    let all = format!(
        "grep -q '\"ready\": true' {VERDICTS} && grep -q '\"address\": \"{nic}\"' {VERDICTS}"
    );
    guest.wait_until(SOON, &all).map(drop).or_else(|error| {
        let file = guest.ok(&format!("cat {VERDICTS}"))?;
        Err(format!("{error}\n{file}"))
    })
}

fn is_before_the_driver(guest: &mut Guest) -> Result<()> {
    for boot in 1..=2 {
        guest.reboot()?;
        let nic = is_bound(guest)?;
        let told = told(guest)?;
        ensure(
            told.contains(&format!("{nic} is taken for nic: vfio-pci has it")),
            || format!("boot {boot}: the early stage says:\n{told}"),
        )?;
        ensure(!met(guest, &nic)?, || {
            format!("boot {boot}: {nic} met e1000e all the same")
        })?;
        // The verdict lives on, though nothing of its use was to be seen.
        vouched_for(guest, &nic)?;
    }
    let cycles = guest.ok("journalctl -b -o cat --no-pager | grep -ci 'ordering cycle' || true")?;
    same("the number of ordering cycles", &cycles, "0")?;
    let time = guest.ok(
        "systemd-analyze blame --no-pager | grep vfio-bindd-early.service | tr -s ' ' || true",
    )?;
    guest.figure(format!("the early stage in the boot: {time}"));
    same(
        "failed units",
        &guest.ok("systemctl --failed --no-legend --plain")?,
        "",
    )
}

/// The daemon does not start, as in a boot that hangs before it.
fn ends_with_a_failed_boot(guest: &mut Guest) -> Result<()> {
    guest.ok("systemctl mask vfio-bindd.service")?;
    guest.reboot()?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    guest.reboot()?;
    wait_driver(guest, &nic, "e1000e")?;
    let told = told(guest)?;
    ensure(
        told.contains("vfio-bindd did not get ready in the former boot"),
        || format!("the early stage says:\n{told}"),
    )?;
    guest.ok("systemctl unmask vfio-bindd.service; systemctl start vfio-bindd")?;
    wait_resolved(guest, "nic", &[&nic])
}
