//! How long 32 functions take, beside the least that could be done for them.
//!
//! Both sides run in the same guest, in turns; the figure is their ratio, for
//! under emulation a time by itself says nothing.

use std::time::Duration;

use super::{CONFIG, NIC, ensure, give_back, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::{Scenario, is_full};

/// The measurements.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_lab("lab_bare_loop", bare_loop),
    Scenario::of_package("bench_32_functions", thirty_two_functions),
];

/// Turns per side; the middle one counts. A figure of one turn is good for seeing
/// what went wrong by far.
fn turns() -> usize {
    if is_full() { 3 } else { 1 }
}

const LONG: Duration = Duration::from_secs(180);

const POLICY: &str = "[mapping.crowd]\nmatch = { id = \"8086:10d3\" }\nexpect = 32\n";

/// The same three writes per function and nothing else, by the shell itself.
const BARE: &str = "
    cd /sys/bus/pci/devices; start=$(date +%s%N)
    for address in $addresses; do
        echo vfio-pci > $address/driver_override
        echo $address > $address/driver/unbind
        echo $address > /sys/bus/pci/drivers/vfio-pci/bind
    done
    end=$(date +%s%N); echo $(( (end - start) / 1000 ))";

/// The daemon from its start to READY, which comes after the first pass.
const START: &str = "
    start=$(date +%s%N); systemctl start vfio-bindd; end=$(date +%s%N)
    echo $(( (end - start) / 1000 ))";

/// A running daemon from the order to reload until all functions are bound. A
/// loop that looks for them would work against the one who binds them.
const RELOAD: &str = "
    start=$(date +%s%N); vfio-bindctl reload; vfio-bindctl resolve crowd --wait 120s >/dev/null
    end=$(date +%s%N); echo $(( (end - start) / 1000 ))";

/// The kernel's own account of a turn, with the time of each event.
const LISTEN: &str = "
    systemd-run --quiet --collect --unit=lab-events -p StandardOutput=truncate:/run/lab-events \
        stdbuf -oL udevadm monitor --kernel --subsystem-match=pci
    until grep -q KERNEL /run/lab-events; do sleep 0.1; done";

/// Seconds from the first unbind to the last bind of a turn.
const HEARD: &str = "
    sleep 1; systemctl stop lab-events
    awk -F'[][]' '/ unbind / && !first { first = $2 } / bind / { last = $2 }
        END { printf \"%.3f\\n\", last - first }' /run/lab-events";

/// What the daemon spends on twenty looks at everything, as the slow audit does
/// one a minute: milliseconds each. Whoever asks for them spends more.
const LOOKS: &str = "
    spent() { systemctl show --value --property=CPUUsageNSec vfio-bindd; }
    before=$(spent)
    for i in $(seq 20); do vfio-bindctl rescan || exit 1; done
    echo $(( ($(spent) - before) / 20000000 ))";

/// What one turn took, in seconds.
struct Time {
    /// As the one who gave the order sees it.
    whole: f64,
    /// From the first unbind to the last bind, which leaves out the start of
    /// processes and the first look at the host.
    span: f64,
}

type Turns = Vec<Time>;

/// The topology and the lesser side of the comparison, without the package.
fn bare_loop(guest: &mut Guest) -> Result<()> {
    let command = bare_command(guest)?;
    let time = timed(guest, &command)?;
    guest.figure(format!(
        "32 functions, bare loop, first time: {:.2} s",
        time.whole
    ));
    give_back(guest)
}

fn bare_command(guest: &mut Guest) -> Result<String> {
    guest.ok("modprobe vfio-pci")?;
    let addresses = guest.ok(&format!("lspci -D -n -d {NIC} | cut -d' ' -f1 | xargs"))?;
    ensure(addresses.split(' ').count() == 32, || {
        format!("no 32 functions: {addresses}")
    })?;
    Ok(format!("addresses='{addresses}'; {BARE}"))
}

fn thirty_two_functions(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let bare_command = bare_command(guest)?;

    let (mut bare, mut start, mut reload) = (Turns::new(), Turns::new(), Turns::new());
    for _ in 0..turns() {
        idle(guest, "")?;
        bare.push(timed(guest, &bare_command)?);
        idle(guest, POLICY)?;
        start.push(timed(guest, START)?);
        idle(guest, "")?;
        guest.ok("systemctl start vfio-bindd")?;
        guest.write_file(CONFIG, POLICY)?;
        reload.push(timed(guest, RELOAD)?);
    }
    let least = middle(bare);
    guest.figure(format!(
        "32 functions, bare loop of sysfs writes: {:.2} s, of it first unbind to last bind {:.2} s",
        least.whole, least.span
    ));
    for (what, turns) in [
        ("daemon from start to ready", start),
        ("daemon from reload to bound", reload),
    ] {
        let time = middle(turns);
        guest.figure(format!(
            "32 functions, {what}: {:.2} s, ratio {:.2}; first unbind to last bind {:.2} s, ratio {:.2}",
            time.whole,
            time.whole / least.whole,
            time.span,
            time.span / least.span
        ));
    }
    let memory = guest.ok(
        "grep -E 'VmRSS|VmHWM' /proc/$(systemctl show --value --property=MainPID vfio-bindd)/status \
         | tr -s '\\t ' ' '",
    )?;
    guest.figure(format!(
        "32 functions, the daemon's memory: {}",
        memory.replace('\n', ", ")
    ));
    let resolved = guest.ok("vfio-bindctl resolve crowd | wc -w")?;
    same("the number of resolved addresses", &resolved, "32")?;
    let spent = guest.ok_for(LOOKS, LONG)?;
    guest.figure(format!(
        "a look at all functions that finds nothing new: {spent} ms of the daemon's processor time"
    ));
    Ok(())
}

/// All functions with their native driver, the daemon stopped, this config.
fn idle(guest: &mut Guest, config: &str) -> Result<()> {
    guest.ok("systemctl stop vfio-bindd")?;
    give_back(guest)?;
    guest.write_file(CONFIG, config)?;
    let native = guest.ok("udevadm settle; ls -d /sys/bus/pci/drivers/e1000e/0000:* | wc -l")?;
    same(
        "the number of functions with their native driver",
        &native,
        "32",
    )
}

/// Runs a command that prints microseconds, and sees that all are bound after it.
fn timed(guest: &mut Guest, command: &str) -> Result<Time> {
    guest.ok(LISTEN)?;
    let micros: u32 = guest
        .ok_for(command, LONG)?
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok())
        .ok_or("no time was printed")?;
    let bound = guest.ok("ls -d /sys/bus/pci/drivers/vfio-pci/0000:* | wc -l")?;
    same("the number of bound functions", &bound, "32")?;
    let span = guest.ok(HEARD)?;
    Ok(Time {
        whole: f64::from(micros) / 1e6,
        span: span
            .parse()
            .map_err(|_| format!("no span of events: {span:?}"))?,
    })
}

/// The turn in the middle by its whole time.
fn middle(mut turns: Turns) -> Time {
    turns.sort_by(|one, other| one.whole.total_cmp(&other.whole));
    let at = turns.len() / 2;
    turns.into_iter().nth(at).unwrap_or(Time {
        whole: f64::NAN,
        span: f64::NAN,
    })
}
