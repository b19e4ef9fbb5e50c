//! From a function's `add` uevent until it is bound, beside a listener that does
//! nothing else and beside driverctl's udev rule.
//!
//! All sides run in the same guest; the figures are ratios, for under emulation a
//! time by itself says nothing.

use std::time::Duration;

use super::{ensure, fresh, wait_driver};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::TWIN_A;

/// The comparison.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::of_package("storm_race", hotplug)];

/// Turns per side; the middle one counts.
const TURNS: usize = 11;
const LONG: Duration = Duration::from_secs(180);

/// The least that could be done: writes the override when the function comes,
/// and binds it where the native driver was first.
const BARE: &str = r#"
use strict;
my $nic = shift;
my $pci = "/sys/bus/pci";
sub put { open(my $file, ">", $_[0]) or return; syswrite($file, $_[1]); }
# AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT, and the kernel's own group.
socket(my $socket, 16, 3, 15) or die "socket: $!";
bind($socket, pack("SSLL", 16, 0, 0, 1)) or die "bind: $!";
while (defined recv($socket, my $event, 8192, 0)) {
    next unless $event =~ m{^add\@\S*/\Q$nic\E\0};
    put("$pci/devices/$nic/driver_override", "vfio-pci");
    for (1 .. 1000) {
        my $driver = readlink("$pci/devices/$nic/driver") // "";
        last if $driver =~ m{/vfio-pci$};
        put("$pci/devices/$nic/driver/unbind", $nic) if $driver;
        put("$pci/drivers/vfio-pci/bind", $nic);
    }
}
"#;

/// driverctl 0.115's unit stays active once it ran, and so misses a function that
/// comes to the same address again. Here it may start as often as it is asked to.
const AGAIN: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRemainAfterExit=no\n";
const DROP_IN: &str = "/run/systemd/system/driverctl@.service.d";

/// Takes the function out and back in, so many times. Prints the milliseconds
/// from each `add` to the last `bind` that followed it, by the kernel's account.
const RACE: &str = r#"
    systemd-run --quiet --collect --unit=lab-events -p StandardOutput=truncate:/run/lab-events \
        stdbuf -oL udevadm monitor --kernel --subsystem-match=pci
    until grep -q KERNEL /run/lab-events; do sleep 0.1; done
    for i in $(seq $turns); do
        echo 1 >/sys/bus/pci/devices/$nic/remove; sleep 0.5
        echo 1 >/sys/bus/pci/rescan
        for try in $(seq 100); do
            [[ $(readlink /sys/bus/pci/devices/$nic/driver) = */vfio-pci ]] && break
            sleep 0.2
        done
        [[ $(readlink /sys/bus/pci/devices/$nic/driver) = */vfio-pci ]] ||
            { echo "turn $i: not bound" >&2; exit 1; }
        sleep 0.5
    done
    systemctl stop lab-events
    awk -F'[][]' -v nic="/$nic " '
        function tell() { if (last) printf "%d\n", (last - first) * 1000; last = 0 }
        index($0, nic) && / add / { tell(); first = $2 }
        index($0, nic) && / bind / { last = $2 }
        END { tell() }' /run/lab-events"#;

/// The median and the longest of the turns, in ms.
fn race(guest: &mut Guest, nic: &str) -> Result<(f64, f64)> {
    let printed = guest.ok_for(&format!("nic={nic}; turns={TURNS}; {RACE}"), LONG)?;
    let mut all: Vec<u32> = printed.lines().flat_map(str::parse).collect();
    all.sort_unstable();
    match (all.len(), all.get(TURNS / 2), all.last()) {
        (TURNS, Some(median), Some(longest)) => Ok((f64::from(*median), f64::from(*longest))),
        _ => Err(format!("no {TURNS} times: {printed:?}")),
    }
}

fn hotplug(guest: &mut Guest) -> Result<()> {
    let policy = "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n";
    fresh(guest, policy)?;
    let nic = guest.behind(TWIN_A, 0)?;
    wait_driver(guest, &nic, "vfio-pci")?;
    let ours = race(guest, &nic)?;

    fresh(guest, "")?;
    guest.write_file("/run/lab-listener", BARE)?;
    guest.ok(&format!(
        "systemctl stop vfio-bindd; systemd-run --quiet --collect --unit=lab-listener \
             perl /run/lab-listener {nic}; sleep 1; systemctl is-active lab-listener"
    ))?;
    let bare = race(guest, &nic);
    guest.ok("systemctl stop lab-listener")?;
    let bare = bare?;

    guest.write_file(&format!("{DROP_IN}/lab.conf"), AGAIN)?;
    guest.ok(&format!(
        "dpkg -i /usr/share/lab/driverctl_*.deb && udevadm control --reload &&
         systemctl daemon-reload && driverctl set-override {nic} vfio-pci"
    ))?;
    let driverctl = race(guest, &nic);
    guest.ok(&format!(
        "driverctl unset-override {nic}; dpkg --purge driverctl
         rm -r {DROP_IN}; systemctl daemon-reload"
    ))?;
    let driverctl = driverctl?;

    guest.figure(format!(
        "from the add uevent to bound, median (longest) of {TURNS}: {:.0} ({:.0}) ms; \
         a bare listener {:.0} ({:.0}) ms, ratio {:.2}; driverctl's rule {:.0} ({:.0}) ms, ratio {:.2}",
        ours.0,
        ours.1,
        bare.0,
        bare.1,
        ours.0 / bare.0,
        driverctl.0,
        driverctl.1,
        ours.0 / driverctl.0
    ));
    ensure(ours.0 < 5_000.0, || {
        "the median is more than five seconds".to_owned()
    })
}
