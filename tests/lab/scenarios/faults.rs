//! What goes wrong on a host: each ends in the right state or in a clear one,
//! without a busy loop, and heals when its cause is gone.

use std::time::Duration;

use super::idle::held;
use super::{CONFIG, SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{SPARE, TWIN_NODE1};

/// Scenarios about faults of the host.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("faults_no_driver", no_driver),
    Scenario::of_package("faults_driver_unloaded", driver_unloaded),
    Scenario::of_package("faults_disk_full", disk_full),
    Scenario::of_package("faults_sysfs_read_only", sysfs_read_only),
    Scenario::of_package("faults_half_a_config", half_a_config),
    Scenario::of_package("faults_another_device", another_device),
    Scenario::of_package("faults_storms_and_clocks", storms_and_clocks).in_full(),
    Scenario::of_package("faults_no_more_files", no_more_files),
    Scenario::of_package("faults_no_more_memory", no_more_memory),
    Scenario::of_package("faults_hung_task_panic", hung_task_panic),
];

/// A mapping of the NIC on node 1.
pub(super) const NIC: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
/// A retry comes after a minute at most.
const HEALED: Duration = Duration::from_secs(90);

/// Waits until the mapping has this state, with all these words in its reason.
pub(super) fn wait_state(guest: &mut Guest, state: &str, words: &[&str]) -> Result<()> {
    let found = guest.wait_until(
        SOON,
        &format!(
            "found=$(vfio-bindctl status --json | jq -r '.mappings[] | .state + \" \" + .reason'); \
             echo \"$found\"; [[ $found == {state}* ]]"
        ),
    )?;
    for wanted in words {
        ensure(found.contains(wanted), || {
            format!("no {wanted:?} in: {found}")
        })?;
    }
    Ok(())
}

/// How many lines of the journal since this boot have the text.
pub(super) fn lines(guest: &mut Guest, text: &str) -> Result<u32> {
    let count = guest.ok(&format!(
        "journalctl -b -u vfio-bindd --no-pager | grep -c '{text}' || true"
    ))?;
    count
        .trim()
        .parse()
        .map_err(|error| format!("{count:?}: {error}"))
}

/// Runs `scenario` for the NIC on node 1 on a host that `breaks` it first, and
/// mends it afterwards, however that ended. The daemon starts in between.
fn broken(
    guest: &mut Guest,
    (breaks, mends): (&str, &str),
    scenario: fn(&mut Guest, &str) -> Result<()>,
) -> Result<()> {
    fresh(guest, "")?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    guest.ok(&format!("systemctl stop vfio-bindd; {breaks}"))?;
    guest.write_file(CONFIG, NIC)?;
    guest.ok("systemctl start vfio-bindd")?;
    let ended = scenario(guest, &nic);
    guest.ok(&format!("systemctl stop vfio-bindd; {mends}"))?;
    ended
}

/// vfio-pci cannot be loaded, and can be later.
fn no_driver(guest: &mut Guest) -> Result<()> {
    let breaks = "modprobe -r vfio-pci
        echo 'install vfio-pci /bin/false' > /etc/modprobe.d/lab.conf";
    let mends = "rm -f /etc/modprobe.d/lab.conf; modprobe vfio-pci";
    broken(guest, (breaks, mends), |guest, nic| {
        wait_state(guest, "failed", &[nic, "loading the driver", "vfio_pci"])?;
        same("the driver", &guest.driver(nic)?, "e1000e")?;
        let before = lines(guest, "not bound for nic")?;
        guest.ok("sleep 10")?;
        let tries = lines(guest, "not bound for nic")? - before;
        ensure((1..=4).contains(&tries), || {
            format!("{tries} tries in 10 s, wanted ever fewer")
        })?;
        guest.ok("rm /etc/modprobe.d/lab.conf; modprobe vfio-pci")?;
        guest.wait_until(HEALED, "vfio-bindctl resolve nic")?;
        wait_resolved(guest, "nic", &[nic])
    })
}

/// Somebody unloads vfio-pci, which lets go of what no VM uses: it is loaded
/// again, although the daemon itself sees no modules.
fn driver_unloaded(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let bound = lines(guest, "bound to vfio-pci for nic")?;
    guest.ok("modprobe -r vfio-pci")?;
    guest.wait_until(
        HEALED,
        &format!(
            "[ $(journalctl -b -u vfio-bindd | grep -c 'bound to vfio-pci for nic') -gt {bound} ]"
        ),
    )?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    wait_resolved(guest, "nic", &[&nic])
}

/// What a function was cannot be written down: it is left as it is.
fn disk_full(guest: &mut Guest) -> Result<()> {
    let breaks = "mount -t tmpfs -o size=16k,mode=0755 lab /var/lib/vfio-bindd
        dd if=/dev/zero of=/var/lib/vfio-bindd/full bs=4k 2>/dev/null || true";
    let mends = "umount /var/lib/vfio-bindd";
    broken(guest, (breaks, mends), |guest, nic| {
        wait_state(
            guest,
            "failed",
            &[nic, "undo journal", "no space left on device"],
        )?;
        same("the driver", &guest.driver(nic)?, "e1000e")?;
        guest.ok("rm /var/lib/vfio-bindd/full")?;
        guest.wait_until(HEALED, "vfio-bindctl resolve nic")?;
        wait_resolved(guest, "nic", &[nic])
    })
}

fn sysfs_read_only(guest: &mut Guest) -> Result<()> {
    let breaks = "cd /run/systemd/system; mkdir -p vfio-bindd-helper.service.d
        printf '[Service]\\nReadWritePaths=\\nReadWritePaths=/var/lib/vfio-bindd\\n\\
ReadOnlyPaths=/sys/bus/pci /sys/devices\\n' > vfio-bindd-helper.service.d/lab.conf
        systemctl daemon-reload; systemctl stop vfio-bindd-helper";
    let mends = "rm -rf /run/systemd/system/vfio-bindd-helper.service.d
        systemctl daemon-reload; systemctl stop vfio-bindd-helper";
    broken(guest, (breaks, mends), |guest, nic| {
        wait_state(
            guest,
            "failed",
            &[nic, "setting the driver override", "read-only"],
        )?;
        same("the driver", &guest.driver(nic)?, "e1000e")
    })?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    guest.ok("systemctl start vfio-bindd")?;
    wait_resolved(guest, "nic", &[&nic])
}

/// A config that an editor or a full disk has cut off.
fn half_a_config(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    guest.ok(&format!(
        "truncate --size=40 {CONFIG}; systemctl kill --signal=KILL vfio-bindd"
    ))?;
    guest.wait_until(
        SOON,
        "[ \"$(vfio-bindctl status --json | jq -r .state)\" = failed ]",
    )?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    guest.write_file(CONFIG, NIC)?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])
}

/// A card goes and one of another kind comes to its address, at once.
fn another_device(guest: &mut Guest) -> Result<()> {
    fresh(
        guest,
        "[mapping.late]\nmatch = { path = \"0000:00:18.0/00.0\", id = \"8086:10d3\" }\n",
    )?;
    let late = guest.plug(SPARE, "late")?;
    wait_resolved(guest, "late", &[&late])?;
    guest.unplug("late")?;
    let other = guest.plug_kind("virtio-rng-pci", SPARE, "other")?;
    same("the address", &other, &late)?;
    wait_driver(guest, &other, "virtio-pci")?;
    guest.wait_until(SOON, "! vfio-bindctl resolve late")?;
    guest.unplug("other")?;
    let late = guest.plug(SPARE, "late")?;
    wait_driver(guest, &late, "vfio-pci")?;
    wait_resolved(guest, "late", &[&late])
}

/// A hundred rounds of uevents for everything, and a clock that jumps there and
/// back: nothing is bound twice, and nobody takes the daemon for dead.
fn storms_and_clocks(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let bound = lines(guest, "bound to vfio-pci")?;
    let pid = "systemctl show --value --property=MainPID vfio-bindd";
    let daemon = guest.ok(pid)?;
    guest.ok_for(
        "for i in $(seq 100); do udevadm trigger --subsystem-match=pci; done
         date --set='+2 days' >/dev/null; udevadm settle
         sleep 16; date --set='-2 days' >/dev/null",
        Duration::from_secs(240),
    )?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the daemon", &guest.ok(pid)?, &daemon)?;
    let again = lines(guest, "bound to vfio-pci")? - bound;
    ensure(again == 0, || format!("{again} functions were bound again"))
}

/// The daemon can open nothing more, as when something of it leaked: it says so, and
/// goes on when it can.
fn no_more_files(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    guest.write_file(CONFIG, NIC)?;
    // A helper that ends meanwhile would leave it a file.
    held(guest)?;
    let limit = "pid=$(systemctl show --value --property=MainPID vfio-bindd)
        first=0; while [ -L /proc/$pid/fd/$first ]; do first=$((first + 1)); done
        prlimit --pid=$pid --nofile=";
    guest.ok(&format!("{limit}$first:"))?;
    let told = guest.run("timeout 20 vfio-bindctl reload")?;
    ensure(
        told.status != 0 && told.stderr.contains("too many open files"),
        || format!("a reload without a file to open: {}", told.words()),
    )?;
    same("the driver", &guest.driver(&nic)?, "e1000e")?;
    guest.ok(&format!("{limit}1024:; vfio-bindctl reload"))?;
    wait_resolved(guest, "nic", &[&nic])
}

/// The daemon gets no more memory than it has while it is to read a config of 16 MiB:
/// it says so, or ends and is started again. Nothing is done by halves.
fn no_more_memory(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let pid = "systemctl show --value --property=MainPID vfio-bindd";
    let before = guest.ok(pid)?;
    guest.ok(&format!(
        "yes '# much' | head -c 16M >>{CONFIG}
         size=$(awk '/^VmSize/ {{ print $2 * 1024 }}' /proc/{before}/status)
         prlimit --pid={before} --as=$size:"
    ))?;
    let told = guest.run("timeout 20 vfio-bindctl reload")?;
    ensure(told.status != 0, || "it was read all the same".to_owned())?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    guest.write_file(CONFIG, NIC)?;
    guest.wait_until(SOON, "vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    let how = if guest.ok(pid)? == before {
        format!("said so: {}", told.words())
    } else {
        "was started again".to_owned()
    };
    guest.figure(format!("without memory for its config the daemon {how}"));
    // Not for those who come after.
    fresh(guest, NIC)
}

/// Where the kernel panics over a task that hangs, nothing that has a driver is
/// unbound, unless a mapping allows it.
fn hung_task_panic(guest: &mut Guest) -> Result<()> {
    let breaks = "sysctl -q kernel.hung_task_panic=1";
    let mends = "sysctl -q kernel.hung_task_panic=0";
    broken(guest, (breaks, mends), |guest, nic| {
        wait_state(guest, "refused", &[nic, "kernel.hung_task_panic"])?;
        same("the driver", &guest.driver(nic)?, "e1000e")?;
        let allowed = format!("{NIC}allow = [\"hung-task-panic\"]\n");
        guest.write_file(CONFIG, &allowed)?;
        guest.ok("vfio-bindctl reload")?;
        wait_resolved(guest, "nic", &[nic])
    })
}
