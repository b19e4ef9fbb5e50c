//! A kernel that does not come back from an unbind: the daemon stays alive, stops
//! and starts at once, and takes the function when it may.

use std::time::{Duration, Instant};

use super::{CONFIG, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{SOUND, TWIN_A};

/// Scenarios about what hangs.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("stuck_unbind_holds_nobody_up", unbind_holds_nobody_up),
    // The guest is off after it.
    Scenario::of_package("stuck_unbind_and_poweroff", unbind_and_poweroff),
];

const CARD: &str = "[mapping.card]\nmatch = { address = \"0000:00:1b.0\" }\nallow = [\"sound\"]\n";
const NIC: &str = "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n";

/// How late a helper is told to be, and the emulation's slowness.
const LATE: Duration = Duration::from_secs(60);

/// A question to the daemon.
const OURS: &str = "org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager Resolve s nic";
/// A question to the bus itself.
const BUS: &str = "org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetId";

/// How long twenty calls over D-Bus take: the median and the longest, in ms. The
/// program that calls is started for each of them, which takes most of it.
pub(super) fn latencies(guest: &mut Guest, call: &str) -> Result<(u64, u64)> {
    let all = guest.ok_for(
        &format!(
            "for i in $(seq 20); do
                 began=$(date +%s%N)
                 busctl --timeout=10 call {call} >/dev/null || exit 1
                 echo $(( ($(date +%s%N) - began) / 1000000 ))
             done | sort -n | sed -n '10p;20p'"
        ),
        Duration::from_secs(120),
    )?;
    let mut all = all.lines().map(str::parse);
    match (all.next(), all.next()) {
        (Some(Ok(median)), Some(Ok(longest))) => Ok((median, longest)),
        _ => Err("the calls took no time that can be read".to_owned()),
    }
}

/// The helper that does not come back, as the daemon keeps it.
fn helper(guest: &mut Guest) -> Result<String> {
    guest.ok(&format!(
        "jq -Mer '.helpers[\"{SOUND}\"].helper.pid' /run/vfio-bindd/errands.json"
    ))
}

/// Waits until the card's mapping is stuck, and says so with its holder.
fn wait_stuck(guest: &mut Guest) -> Result<()> {
    let told = guest.wait_until(
        LATE,
        "told=$(vfio-bindctl status --json | jq -Mr '.mappings.card | .state + \" \" + .reason')
         echo \"$told\"; [[ $told = 'stuck '*has* ]]",
    )?;
    for word in [
        "does not come back from unbinding snd_hda_intel",
        "sleep (pid ",
        "lab-sound.service) has controlC",
    ] {
        ensure(told.contains(word), || {
            format!("{word:?} is not in {told:?}")
        })?;
    }
    Ok(())
}

/// Runs a command that has to succeed; how long it takes in ms.
pub(super) fn timed(guest: &mut Guest, command: &str) -> Result<u64> {
    let took = guest.ok_for(
        &format!(
            "began=$(date +%s%N); {command} >&2 || exit 1
             echo $(( ($(date +%s%N) - began) / 1000000 ))"
        ),
        Duration::from_secs(60),
    )?;
    took.parse()
        .map_err(|error| format!("{command} took {took:?} ms: {error}"))
}

/// Has the card be unbound while somebody has it open.
fn get_stuck(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    guest.ok(&format!(
        "card=$(basename /sys/bus/pci/devices/{SOUND}/sound/card*)
         systemd-run -q --unit=lab-sound \
             sh -c \"exec sleep infinity 3</dev/snd/controlC${{card#card}}\""
    ))?;
    guest.write_file(CONFIG, CARD)?;
    guest.ok("vfio-bindctl reload")?;
    wait_stuck(guest)
}

fn unbind_holds_nobody_up(guest: &mut Guest) -> Result<()> {
    get_stuck(guest)?;
    let nic = guest.behind(TWIN_A, 0)?;
    let first = helper(guest)?;

    // Others go on.
    guest.write_file(CONFIG, &format!("{CARD}{NIC}"))?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    let ours = latencies(guest, OURS)?;
    let bus = latencies(guest, BUS)?;
    guest.figure(format!(
        "20 calls of Resolve while an unbind hangs, each by a busctl of its own: median {} ms and \
         at most {} ms; of the bus itself {} ms and {} ms",
        ours.0, ours.1, bus.0, bus.1
    ));

    let restart = timed(guest, "systemctl restart vfio-bindd")?;
    let stop = timed(guest, "systemctl stop vfio-bindd")?;
    let state = guest.run("systemctl is-active vfio-bindd")?.stdout;
    same("the unit's state after a stop", &state, "inactive")?;
    let start = timed(guest, "systemctl start vfio-bindd")?;
    guest.figure(format!(
        "with a stuck unbind: restart {restart} ms, stop {stop} ms, start {start} ms"
    ));
    ensure(restart < 10_000 && stop < 10_000, || {
        format!("restart took {restart} ms, stop {stop} ms")
    })?;

    // Who hangs is in a unit of its own, and systemd has nothing to say about it.
    let control_group = guest.ok(&format!("cat /proc/{first}/cgroup"))?;
    ensure(control_group.contains("/vfio-bindd-helper.service"), || {
        format!("the helper is in {control_group}")
    })?;
    let left = "journalctl -b --no-pager _PID=1 | grep -c -i 'left-over\\|remains running' || true";
    same("the left-over processes told", &guest.ok(left)?, "0")?;

    // The helper of before is still at it, and nobody else.
    wait_stuck(guest)?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the helper", &helper(guest)?, &first)?;
    let waiting = guest.ok("for pid in $(pgrep -x vfio-bindd); do
             if grep -q '^State:.D' /proc/$pid/status; then echo $pid; fi
         done")?;
    same("who waits in the kernel", &waiting, &first)?;

    guest.ok("systemctl stop lab-sound")?;
    wait_driver(guest, SOUND, "vfio-pci")?;
    wait_resolved(guest, "card", &[SOUND])?;
    ensure(helper(guest).is_err(), || {
        "the helper is still kept".to_owned()
    })?;
    fresh(guest, "")
}

/// The kernel waits for every device before the power goes off. systemd ends whoever
/// holds this one before that.
fn unbind_and_poweroff(guest: &mut Guest) -> Result<()> {
    get_stuck(guest)?;
    let began = Instant::now();
    guest.shut_down(Duration::from_secs(100))?;
    guest.figure(format!(
        "systemctl poweroff with a stuck unbind: off after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}
