//! A function that somebody has open through vfio: nothing takes it away, and
//! whoever waits for it in the kernel holds the daemon up in nothing.

use std::time::Duration;

use super::stuck::{latencies, timed};
use super::{CONFIG, SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{SPARE, SPARE_B};

/// Scenarios about an open vfio device.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("held_when_its_mapping_goes", when_its_mapping_goes),
    Scenario::of_package("held_when_it_is_unplugged", when_it_is_unplugged),
];

const HELD: &str = "[mapping.held]\nmatch = { path = \"0000:00:18.0/00.0\" }\n";
const OTHER: &str = "[mapping.other]\nmatch = { path = \"0000:00:19.0/00.0\" }\n";

/// How late a helper is told to be, and the emulation's slowness.
const LATE: Duration = Duration::from_secs(60);

/// A question that the daemon answers by itself.
const PLAN: &str = "org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager Plan";

/// Opens a function as a virtual machine does, and has no ear for the kernel's
/// request to let it go (include/uapi/linux/vfio.h, v6.12).
pub(super) const HOLDER: &str = r#"
use strict;
my $function = shift;
my ($group) = readlink("/sys/bus/pci/devices/$function/iommu_group") =~ /(\d+)$/;
open(my $container, "+<", "/dev/vfio/vfio") or die "container: $!";
open(my $file, "+<", "/dev/vfio/$group") or die "group $group: $!";
# VFIO_GROUP_SET_CONTAINER; VFIO_SET_IOMMU with VFIO_TYPE1v2_IOMMU.
ioctl($file, 0x3B68, pack("i", fileno($container))) or die "set container: $!";
ioctl($container, 0x3B66, 3) or die "set IOMMU: $!";
# VFIO_GROUP_GET_DEVICE_FD
my $name = "$function\0";
ioctl($file, 0x3B6A, $name) or die "device: $!";
sleep(1) while 1;
"#;

/// A card in the first slot, bound and held open by the unit `lab-holder`.
fn hold(guest: &mut Guest) -> Result<String> {
    fresh(guest, &format!("{HELD}{OTHER}"))?;
    let held = guest.plug(SPARE, "held")?;
    wait_driver(guest, &held, "vfio-pci")?;
    wait_resolved(guest, "held", &[&held])?;
    guest.write_file("/run/lab-holder", HOLDER)?;
    guest.ok(&format!(
        "systemd-run --quiet --collect --unit=lab-holder perl /run/lab-holder {held}"
    ))?;
    guest.wait_until(
        SOON,
        "ls -l /proc/$(systemctl show --value --property=MainPID lab-holder)/fd \
            | grep -q vfio-device || { journalctl -b --no-pager -n 5 -u lab-holder >&2; false; }",
    )?;
    Ok(held)
}

/// How long the daemon takes to start anew, in ms.
fn restart(guest: &mut Guest) -> Result<u64> {
    let took = timed(guest, "systemctl restart vfio-bindd")?;
    ensure(took < 10_000, || format!("the restart took {took} ms"))?;
    Ok(took)
}

/// Reloads with another config; how long that takes in ms.
fn reload(guest: &mut Guest, config: &str) -> Result<u64> {
    guest.write_file(CONFIG, config)?;
    let took = timed(guest, "vfio-bindctl reload")?;
    ensure(took < 10_000, || format!("the reload took {took} ms"))?;
    Ok(took)
}

fn when_its_mapping_goes(guest: &mut Guest) -> Result<()> {
    let held = hold(guest)?;
    let reload_took = reload(guest, OTHER)?;
    let left = "busctl get-property org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager LeftOver";
    let wanted = format!("as 1 \"{held}\"");
    guest.wait_until(SOON, &format!("{left} | grep -Fx '{wanted}'"))?;
    let told = guest.run(&format!("vfio-bindctl restore {held}"))?;
    ensure(told.status == 5 && told.stderr.contains("perl"), || {
        format!("a restore of what is open: {}", told.words())
    })?;
    let restart_took = restart(guest)?;
    let unloaded = guest.run("modprobe -r vfio-pci")?;
    ensure(unloaded.status != 0, || {
        "vfio-pci was unloaded while its device is open".to_owned()
    })?;
    same("the driver", &guest.driver(&held)?, "vfio-pci")?;
    let errors = guest.ok("systemctl is-active lab-holder vfio-bindd")?;
    same("the units", &errors, "active\nactive")?;
    guest.figure(format!(
        "an open vfio device whose mapping goes: reload {reload_took} ms, restart {restart_took} ms"
    ));
    guest.ok("systemctl stop lab-holder")?;
    guest.unplug("held")?;
    fresh(guest, "")
}

/// The kernel waits for whoever has the function open, and has all other cards
/// wait for that.
fn when_it_is_unplugged(guest: &mut Guest) -> Result<()> {
    let held = hold(guest)?;
    let waited = wait_for_its_holder(guest);
    // However that ended: no card could come or go any more.
    guest.ok("systemctl stop lab-holder")?;
    waited?;
    guest.wait_gone("held")?;
    let bridge = SPARE_B.bridge();
    let other = guest.wait_until(
        SOON,
        &format!("cd /sys/bus/pci/devices/{bridge} && ls -d 0000:*:00.0"),
    )?;
    wait_driver(guest, &other, "vfio-pci")?;
    wait_resolved(guest, "other", &[&other])?;
    guest.wait_until(
        SOON,
        &format!("[ ! -e /sys/bus/pci/devices/{held} ] && ! vfio-bindctl resolve held"),
    )?;
    let waiting = guest.ok("grep -l '^State:.D' /proc/[0-9]*/status \
             | xargs -r grep -h '^Name:.vfio-bindd' || true")?;
    same("who still waits in the kernel", &waiting, "")?;
    guest.unplug("other")?;
    fresh(guest, "")
}

/// Asks for the card that is held open, and for another one to come.
fn wait_for_its_holder(guest: &mut Guest) -> Result<()> {
    guest.ok("dmesg --clear")?;
    guest.ask_back("held")?;
    guest.wait_until(SOON, "dmesg | grep 'blocked until released by user'")?;
    guest.plug_unseen(SPARE_B, "other")?;
    // Whoever looks at it or wants to bind it waits as well, until that is late.
    guest.ok("vfio-bindctl rescan")?;
    let state = guest.wait_until(
        LATE,
        "state=$(vfio-bindctl status --json | jq -r '.mappings.held | .state + \": \" + .reason')
         echo \"$state\"; [[ $state = stuck:*perl* ]]",
    )?;
    let before = latencies(guest, PLAN)?;
    let restart_took = restart(guest)?;
    let after = latencies(guest, PLAN)?;
    let longest = before.1.max(after.1);
    ensure(longest < 5_000, || {
        format!("an answer over D-Bus took {longest} ms")
    })?;
    let bridge = SPARE_B.bridge();
    guest.ok(&format!(
        "systemctl is-active vfio-bindd; ! ls -d /sys/bus/pci/devices/{bridge}/0000:*:00.0"
    ))?;
    guest.figure(format!(
        "an unplugged card whose vfio device is open: 20 calls of Plan at a median of {} ms and \
         at most {longest} ms, restart {restart_took} ms; its mapping is {state}",
        before.0.max(after.0)
    ));
    Ok(())
}
