//! Much at once and the same thing many times: nothing is lost, nothing grows.

use std::env;
use std::time::{Duration, Instant};

use super::idle::{Held, held};
use super::{ensure, fresh, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::storm::SLOTS;
use crate::topology::{NVME_PF, TWIN_A};

/// What comes and goes again and again.
pub(crate) const CYCLES: &[Scenario] = &[
    Scenario::of_package("storm_cycles", cycles),
    Scenario::of_package("storm_virtual_functions", virtual_functions),
];

/// What comes in one go.
pub(crate) const TRIXIE: &[Scenario] =
    &[Scenario::of_package("storm_64_functions", ordinary_buffer)];

/// The same on the older release, with most uevents lost. On the newer one that
/// is what `hotplug_among_lost_uevents` is about.
pub(crate) const BOOKWORM: &[Scenario] = &[Scenario::of_package(
    "storm_64_functions_small_buffer",
    small_buffer,
)];

/// The first eight slots; the ninth is for twins.
const STORM: &str = r#"[mapping.storm]
match = { id = "8086:10d3", path = "0000:00:0[1-8].0/*" }
expect = { min = 1, max = 64 }
"#;

const LONG: Duration = Duration::from_secs(240);

/// How many lines of the journal tell of lost uevents.
const LOST: &str = "journalctl -b -u vfio-bindd --no-pager | grep -c 'uevents were lost' || true";

/// Waits until all wanted functions are bound and their twins have e1000e.
const SETTLED: &str = "
    having() { readlink /sys/bus/pci/devices/0000:00:$1.0/0000:*/driver | grep -c /$2; }
    wanted() { having '0[1-8]' vfio-pci; }
    twins() { having 09 e1000e; }
    for i in $(seq 900); do
        [ $(wanted) = 64 ] && [ $(twins) = 8 ] && exit 0
        sleep 0.2
    done
    echo \"$(wanted) of 64 bound, $(twins) of 8 twins with e1000e\" >&2
    exit 1";

/// As the package has it: without CAP_NET_ADMIN, what the kernel grants anyone.
fn ordinary_buffer(guest: &mut Guest) -> Result<()> {
    storm(guest, "ordinary", "true").map(drop)
}

/// A buffer for some five uevents, and a daemon that does not read for the first
/// seconds: one that does may well keep up.
fn small_buffer(guest: &mut Guest) -> Result<()> {
    let before = guest.ok("sysctl -n net.core.rmem_max; sysctl -q net.core.rmem_max=4096")?;
    let pause = "pid=$(systemctl show --value --property=MainPID vfio-bindd)
        kill -STOP $pid; systemd-run --quiet --collect sh -c \"sleep 5; kill -CONT $pid\"";
    let lost = storm(guest, "small", pause);
    guest.ok(&format!("sysctl -q net.core.rmem_max={before}"))?;
    ensure(lost? > 0, || "no uevent was lost".to_owned())
}

/// 72 functions come at once, of which 64 are wanted; `first` is run in the guest
/// right before. How often uevents were lost.
fn storm(guest: &mut Guest, buffer: &str, first: &str) -> Result<u32> {
    fresh(guest, STORM)?;
    let limit = guest.ok("sysctl -n net.core.rmem_max")?;
    let before = number(guest, LOST)?;
    guest.ok(first)?;
    let start = Instant::now();
    guest.plug_eight_each(&SLOTS)?;
    guest.ok_for(SETTLED, LONG)?;
    let seconds = start.elapsed().as_secs_f64();
    let lost = number(guest, LOST)? - before;
    let resolved = guest.ok("vfio-bindctl resolve storm | wc -w")?;
    same("the number of resolved addresses", &resolved, "64")?;
    let state = guest.ok("vfio-bindctl status --json | jq -r .mappings.storm.state")?;
    same("the mapping's state", &state, "bound")?;
    guest.figure(format!(
        "64 functions and 8 unwanted twins plugged in at once, {buffer} buffer \
         (net.core.rmem_max {limit}): all right after {seconds:.1} s, uevents lost {lost} times"
    ));
    guest.unplug_all(&SLOTS)?;
    guest.ok_for(
        "for i in $(seq 100); do
             vfio-bindctl resolve storm >/dev/null 2>&1 || exit 0; sleep 0.2
         done; vfio-bindctl status; exit 1",
        Duration::from_secs(60),
    )?;
    Ok(lost)
}

/// A number that a command prints.
fn number(guest: &mut Guest, command: &str) -> Result<u32> {
    let text = guest.ok(command)?;
    text.trim()
        .parse()
        .map_err(|error| format!("{command} printed {text:?}: {error}"))
}

/// How often a function comes and goes: 1000 times in full, less by default. Virtual
/// functions do so a twentieth of that, from 5 to 20 times.
fn rounds() -> Result<u32> {
    let Some(text) = env::var_os("VFIO_BINDD_LAB_CYCLES") else {
        return Ok(100);
    };
    let text = text.to_string_lossy();
    text.parse()
        .ok()
        .filter(|rounds| (10..=100_000).contains(rounds))
        .ok_or_else(|| format!("VFIO_BINDD_LAB_CYCLES={text}: not a number from 10 to 100000"))
}

/// Takes a function out and back in so many times, in batches of ten, of which
/// the last one waits: whatever was under way then, it ends on vfio-pci, and
/// the daemon says so.
const CYCLE: &str = r#"
    cycle() {
        for i in $(seq $1); do
            echo 1 >/sys/bus/pci/devices/$nic/remove
            echo 1 >/sys/bus/pci/rescan
            (( i % 10 )) && continue
            # Before that, an answer could be of the function that was there before.
            for try in $(seq 200); do
                [[ $(readlink /sys/bus/pci/devices/$nic/driver) = */vfio-pci ]] && break
                sleep 0.1
            done
            vfio-bindctl resolve nic --wait 20s >/dev/null || { echo "cycle $i" >&2; exit 1; }
            [[ $(readlink /sys/bus/pci/devices/$nic/driver) = */vfio-pci ]] || exit 1
        done
    }
"#;

fn cycle(guest: &mut Guest, nic: &str, cycles: u32) -> Result<Held> {
    let command = format!("nic={nic}\n{CYCLE}\ncycle {cycles}");
    guest.ok_for(&command, LONG * (cycles / 100 + 1))?;
    held(guest)
}

fn cycles(guest: &mut Guest) -> Result<()> {
    let rounds = rounds()?;
    fresh(
        guest,
        "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n",
    )?;
    let nic = guest.behind(TWIN_A, 0)?;
    let cpu = "echo $(( $(systemctl show --value --property=CPUUsageNSec vfio-bindd) / 1000000 ))";
    let before = cycle(guest, &nic, 20)?;
    let spent = number(guest, cpu)?;
    let start = Instant::now();
    let half = cycle(guest, &nic, rounds / 2)?;
    let after = cycle(guest, &nic, rounds - rounds / 2)?;
    let seconds = start.elapsed().as_secs_f64();
    let spent = number(guest, cpu)? - spent;
    guest.figure(format!(
        "{rounds} times a function taken out and back in, {seconds:.0} s: memory {}, {} half-way \
         and {} KiB, files {} to {}, helpers {} to {}, {:.0} ms of the daemon's processor time each",
        before.memory,
        half.memory,
        after.memory,
        before.files,
        after.files,
        before.helpers,
        after.helpers,
        f64::from(spent) / f64::from(rounds)
    ));
    after.ensure_no_leak(&half)?;
    // Idle, it does nothing at all.
    let idle = number(guest, cpu)?;
    guest.ok("sleep 5")?;
    let idle = number(guest, cpu)? - idle;
    ensure(idle < 500, || {
        format!("{idle} ms of processor time in 5 s without anything to do")
    })?;
    fresh(guest, "")
}

/// Their native driver never sees them, who would be first if the kernel asked it.
fn virtual_functions(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    fresh(
        guest,
        &format!("[mapping.vfs]\nmatch = {{ vf_of = \"{pf}\" }}\nexpect = 4\n"),
    )?;
    guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf} || exit 1
         for try in $(seq 100); do
             [ $(cat sriov_drivers_autoprobe) = 0 ] && exit 0; sleep 0.1
         done; echo 'native drivers are not kept from VFs' >&2; exit 1"
    ))?;
    guest.ok("dmesg --clear")?;
    let turns = (rounds()? / 20).clamp(5, 20);
    let script = format!(
        "cd /sys/bus/pci/devices/{pf} || exit 1
         for i in $(seq {turns}); do
             echo 4 >sriov_numvfs
             for try in $(seq 150); do
                 [ $(readlink virtfn*/driver | grep -c /vfio-pci) = 4 ] && break; sleep 0.2
             done
             vfio-bindctl resolve vfs --wait 30s >/dev/null || {{ echo \"turn $i\" >&2; exit 1; }}
             [ $(readlink virtfn*/driver | grep -c /vfio-pci) = 4 ] || exit 1
             echo 0 >sriov_numvfs
         done"
    );
    guest.ok_for(&script, LONG)?;
    // What nvme says first of a function that it is to drive.
    let native = number(guest, "dmesg | grep -c 'nvme.*: pci function' || true")?;
    ensure(native == 0, || {
        format!("nvme tried to drive one {native} times")
    })?;
    same("the driver of their parent", &guest.driver(&pf)?, "nvme")?;
    guest.figure(format!(
        "{turns} times four virtual functions: all on vfio-pci, nvme never tried to drive one"
    ));
    fresh(guest, "")
}
