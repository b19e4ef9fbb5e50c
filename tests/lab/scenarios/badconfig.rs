//! A config with a mistake: said clearly, and it holds nothing up.

use super::{CONFIG, SOON, ensure, fresh, manager_property, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::TWIN_NODE1;

/// Scenarios about mistakes in the config.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("badconfig_reload_keeps_the_policy", reload_keeps_the_policy),
    Scenario::of_package("badconfig_check_points_at_it", check_points_at_it),
    Scenario::of_package("badconfig_at_boot", at_boot),
];

const GOOD: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
const BAD: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", nume = 1 }\n";

fn reload_keeps_the_policy(guest: &mut Guest) -> Result<()> {
    fresh(guest, GOOD)?;
    let address = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&address])?;
    guest.write_file(CONFIG, BAD)?;
    let reload = guest.run("vfio-bindctl reload")?;
    ensure(reload.status == 2 && reload.stderr.contains("nume"), || {
        format!(
            "a bad reload, wanted status 2 and the mistake: {}",
            reload.words()
        )
    })?;
    wait_resolved(guest, "nic", &[&address])?;
    same("the driver", &guest.driver(&address)?, "vfio-pci")?;

    // The way of a service manager has no one to answer to but the journal.
    guest.run("systemctl reload vfio-bindd")?;
    guest.wait_until(SOON, "journalctl -b -u vfio-bindd | grep -q nume")?;
    same(
        "the service",
        &guest.ok("systemctl is-active vfio-bindd")?,
        "active",
    )?;
    wait_resolved(guest, "nic", &[&address])?;

    guest.write_file(CONFIG, GOOD)?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&address])?;
    same(
        "the state",
        &manager_property(guest, "State")?,
        "s \"ready\"",
    )
}

fn check_points_at_it(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.write_file("/run/lab-bad.toml", BAD)?;
    let check = guest.run("vfio-bindctl check /run/lab-bad.toml")?;
    ensure(check.status == 2, || {
        format!("wanted status 2: {}", check.words())
    })?;
    for wanted in ["/run/lab-bad.toml", "2", "nume", "numa", "^"] {
        ensure(check.stderr.contains(wanted), || {
            format!("no {wanted:?} in: {}", check.words())
        })?;
    }
    Ok(())
}

fn at_boot(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    guest.write_file(CONFIG, BAD)?;
    guest.reboot()?;
    same(
        "the boot",
        &guest.ok("systemctl is-system-running || true")?,
        "running",
    )?;
    let state = guest.wait_until(
        SOON,
        "busctl get-property org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager State",
    )?;
    same("the state", &state, "s \"failed\"")?;
    let status = guest.run("vfio-bindctl status")?;
    ensure(status.words().contains("nume"), || {
        format!("status is silent: {}", status.words())
    })?;
    guest.ok("journalctl -b -u vfio-bindd | grep nume")?;
    let bound =
        guest.ok("ls /sys/bus/pci/drivers/vfio-pci 2>/dev/null | grep -c ^0000: || true")?;
    same(
        "the number of bound functions",
        bound.trim(),
        if bound.trim().is_empty() { "" } else { "0" },
    )?;
    let resolve = guest.run("vfio-bindctl resolve nic")?;
    ensure(resolve.status != 0 && resolve.stdout.is_empty(), || {
        format!("a failed daemon resolves: {}", resolve.words())
    })?;

    // The repaired config needs no restart.
    guest.write_file(CONFIG, GOOD)?;
    guest.ok("vfio-bindctl reload")?;
    let address = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&address])
}
