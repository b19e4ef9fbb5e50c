//! Functions that come and go while the daemon runs.

use std::time::Duration;

use super::{CONFIG, SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{NVME_PF, SPARE, SPARE_NODE1, TWIN_A};

/// Scenarios about hotplug and virtual functions.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("hotplug_binds_and_signals", binds_and_signals),
    Scenario::of_package("hotplug_to_the_right_node", to_the_right_node),
    Scenario::of_package("hotplug_virtual_functions", virtual_functions),
    Scenario::of_package("hotplug_among_lost_uevents", among_lost_uevents),
];

/// Twenty times the same.
pub(crate) const MORE: &[Scenario] = &[Scenario::of_package(
    "hotplug_virtual_functions_again_and_again",
    again_and_again,
)];

/// How often virtual functions come and go.
const CYCLES: usize = 20;

const SLOT: &str = r#"[mapping.late]
match = { path = "0000:00:18.0/00.0" }
"#;

/// Writes what the daemon tells on the bus, and what `watch` makes of it.
const LISTEN: &str = "
    systemctl stop lab-monitor lab-watch 2>/dev/null; rm -f /run/lab-monitor /run/lab-watch
    systemd-run --quiet --collect --unit=lab-monitor -p StandardOutput=append:/run/lab-monitor \
        stdbuf -oL busctl monitor --json=short org.vfiobindd1
    systemd-run --quiet --collect --unit=lab-watch -p StandardOutput=append:/run/lab-watch \
        vfio-bindctl watch
    sleep 2; systemctl is-active lab-monitor lab-watch";

/// Waits for a MappingChanged signal of `late` with the given number of addresses.
/// The busctl of systemd 252 has a line for people before the messages.
fn heard(guest: &mut Guest, addresses: usize) -> Result<()> {
    guest
        .wait_until(
            SOON,
            &format!(
                "grep '^{{' /run/lab-monitor | \
                 jq -es '[.[] | select(.member == \"MappingChanged\") | .payload.data \
                 | select(.[0] == \"late\" and (.[2] | length) == {addresses})] | length > 0'"
            ),
        )
        .map(drop)
}

fn binds_and_signals(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    let before = guest.run("vfio-bindctl resolve late")?;
    ensure(before.status != 0 && before.stdout.is_empty(), || {
        format!("an empty slot resolves: {}", before.words())
    })?;
    guest.ok(LISTEN)?;

    let address = guest.plug(SPARE, "late")?;
    wait_driver(guest, &address, "vfio-pci")?;
    wait_resolved(guest, "late", &[&address])?;
    heard(guest, 1)?;
    guest.ok(&format!(
        "jq -e . /run/vfio-bindd/map.json | grep {address}"
    ))?;

    // What came before the removal says nothing about the removal.
    guest.ok("truncate --size=0 /run/lab-monitor")?;
    guest.unplug("late")?;
    guest.wait_until(SOON, "! vfio-bindctl resolve late")?;
    heard(guest, 0)?;
    let watched = guest.ok("cat /run/lab-watch")?;
    guest.ok("systemctl stop lab-monitor lab-watch")?;
    ensure(
        watched.contains("late") && watched.contains(&address),
        || format!("watch told only:\n{watched}"),
    )?;

    // A card that comes again is a new function, not the old one's rest.
    let again = guest.plug(SPARE, "late")?;
    wait_driver(guest, &again, "vfio-pci")?;
    wait_resolved(guest, "late", &[&again])
}

fn to_the_right_node(guest: &mut Guest) -> Result<()> {
    fresh(
        guest,
        "[mapping.late]\nmatch = { id = \"8086:10d3\", numa = 1, path = \"0000:40:01.0/*\" }\n",
    )?;
    let other = guest.plug(SPARE, "other")?;
    let wanted = guest.plug(SPARE_NODE1, "wanted")?;
    wait_driver(guest, &wanted, "vfio-pci")?;
    wait_resolved(guest, "late", &[&wanted])?;
    same(
        "the driver of the twin on no node",
        &guest.driver(&other)?,
        "e1000e",
    )
}

fn virtual_functions(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    fresh(
        guest,
        &format!(
            "[mapping.vfs]\nmatch = {{ vf_of = \"{pf}\" }}\nexpect = {{ min = 1, max = 4 }}\n"
        ),
    )?;
    guest.ok(&format!("echo 2 > /sys/bus/pci/devices/{pf}/sriov_numvfs"))?;
    let vfs = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} && for vf in virtfn0 virtfn1; do basename \"$(readlink $vf)\"; done"
    ))?;
    let vfs: Vec<&str> = vfs.lines().collect();
    for vf in &vfs {
        wait_driver(guest, vf, "vfio-pci")?;
    }
    wait_resolved(guest, "vfs", &vfs)?;
    same("the driver of their parent", &guest.driver(&pf)?, "nvme")?;
    guest.ok(&format!("echo 0 > /sys/bus/pci/devices/{pf}/sriov_numvfs"))?;
    guest
        .wait_until(SOON, "! vfio-bindctl resolve vfs")
        .map(drop)
}

/// Four VFs come and go, and their native driver sees none of them until nobody
/// wants them all any more.
fn again_and_again(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    let dir = format!("/sys/bus/pci/devices/{pf}");
    let config = |which: &str| format!("[mapping.vfs]\nmatch = {{ vf_of = \"{pf}\"{which} }}\n");
    let all = config("") + "expect = 4\n";
    let autoprobe = |wanted: u8| format!("[ $(cat {dir}/sriov_drivers_autoprobe) = {wanted} ]");
    fresh(guest, &all)?;
    guest.wait_until(SOON, &autoprobe(0))?;
    guest.ok("dmesg --clear")?;
    guest.ok_for(
        &format!(
            "cd {dir}; for round in $(seq {CYCLES}); do
                 echo 4 >sriov_numvfs; vfio-bindctl resolve vfs --wait 20s >/run/lab-vfs
                 bound=$(ls -d virtfn*/driver/module/drivers/pci:vfio-pci | wc -l)
                 [ \"$(wc -l </run/lab-vfs) $bound\" = '4 4' ] || {{ echo round $round: $bound; exit 1; }}
                 echo 0 >sriov_numvfs
             done"
        ),
        Duration::from_secs(300),
    )?;
    let met = guest.run("dmesg | grep 'nvme nvme.*: pci function'")?;
    same("what nvme said of virtual functions", &met.stdout, "")?;

    // With one left to the host that one gets its driver, as the value is put back.
    guest.write_file(CONFIG, &config(", vf = \"1-3\""))?;
    guest.ok("systemctl reload vfio-bindd")?;
    guest.wait_until(SOON, &autoprobe(1))?;
    guest.ok(&format!("echo 1 >{dir}/sriov_numvfs"))?;
    guest.wait_until(
        SOON,
        &format!("dmesg | grep \"pci function $(basename $(readlink {dir}/virtfn0))\""),
    )?;
    guest.ok(&format!("echo 0 >{dir}/sriov_numvfs"))?;

    // A stop changes nothing, and what somebody else sets stays.
    fresh(guest, &all)?;
    guest.wait_until(SOON, &autoprobe(0))?;
    guest.ok("systemctl stop vfio-bindd")?;
    guest.ok(&autoprobe(0))?;
    guest.ok(&format!("echo 1 >{dir}/sriov_drivers_autoprobe"))?;
    guest.ok("systemctl start vfio-bindd")?;
    guest.wait_until(SOON, "vfio-bindctl rescan")?;
    guest.ok(&autoprobe(1))?;
    fresh(guest, "")
}

/// The daemon is stopped until its uevents overflow, and a card comes among
/// those that are lost.
fn among_lost_uevents(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    let nic = guest.behind(TWIN_A, 0)?;
    let pid = guest.ok("systemctl show --value --property=MainPID vfio-bindd")?;
    guest.ok(&format!(
        "kill -STOP {pid}; cd /sys/bus/pci/devices/{nic}; \
         for i in $(seq 1000); do echo change >uevent; done"
    ))?;
    let late = guest.plug(SPARE, "late")?;
    guest.ok(&format!("kill -CONT {pid}"))?;
    wait_driver(guest, &late, "vfio-pci")?;
    wait_resolved(guest, "late", &[&late])?;
    guest.ok("journalctl -b -u vfio-bindd | grep -q 'uevents were lost'")?;
    fresh(guest, "")
}
