//! A host that comes up without a bus: functions are bound, whoever waits for the
//! unit goes on, and the name appears as soon as there is a bus.

use std::time::Duration;

use super::{CONFIG, SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::TWIN_A;

/// Scenarios about a missing bus.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::of_package(
    "broker_absent_at_boot",
    absent_at_boot,
)];

const NIC: &str = "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n";
const UNITS: &str = "dbus.socket dbus.service";
const PID: &str = "systemctl show --value --property=MainPID vfio-bindd";

fn absent_at_boot(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    guest.write_file(CONFIG, NIC)?;
    guest.ok(&format!("systemctl mask {UNITS}"))?;
    guest.reboot()?;
    let nic = guest.behind(TWIN_A, 0)?;
    let without = without_a_bus(guest, &nic);
    guest.ok(&format!(
        "systemctl unmask {UNITS}; systemctl start {UNITS}"
    ))?;
    let daemon = without?;
    guest.wait_until(
        SOON,
        "busctl call org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager Resolve s nic",
    )?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the daemon", &guest.ok(PID)?, &daemon)?;
    fresh(guest, "")
}

/// What has to hold as long as there is no bus; the daemon's process.
fn without_a_bus(guest: &mut Guest, nic: &str) -> Result<String> {
    guest.ok("[ ! -S /run/dbus/system_bus_socket ]")?;
    guest.ok("systemctl is-active vfio-bindd")?;
    wait_driver(guest, nic, "vfio-pci")?;
    guest.ok(&format!("jq -e . /run/vfio-bindd/map.json | grep {nic}"))?;
    // A hook that asks now is told so, and is not left to wait.
    let asked = guest.run_for(
        "timeout 30 vfio-bindctl resolve nic",
        Duration::from_secs(60),
    )?;
    ensure(asked.status == 1 && !asked.stderr.is_empty(), || {
        format!("resolve without a bus: {}", asked.words())
    })?;
    let told = guest.ok("journalctl -b -u vfio-bindd -o cat | grep -c 'binding goes on'")?;
    same("how often the missing bus is told of", &told, "1")?;
    guest.ok(PID)
}
