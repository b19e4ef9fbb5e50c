//! The way back: what was taken is given back to the host exactly, whatever
//! comes in between.

use std::time::Duration;

use super::{SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::{Scenario, is_full};
use crate::topology::{NVME_DISK, TWIN_NODE1};

/// Scenarios about `vfio-bindctl restore`.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("restore_gives_back_exactly", gives_back_exactly),
    Scenario::of_package("restore_refuses_what_is_used", refuses_what_is_used),
    Scenario::of_package("restore_survives_kills", survives_kills).in_full(),
];

const NIC: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
const DISK: &str = "[mapping.disk]\nmatch = { path = \"0000:00:14.0/00.0\" }\n";

/// What the host has of a function: its driver, its override, and what hangs
/// below it.
fn facts(guest: &mut Guest, address: &str) -> Result<String> {
    guest.ok(&format!(
        "cd /sys/bus/pci/devices/{address}; basename \"$(readlink driver)\"; cat driver_override; \
         ls net 2>/dev/null; ls -d nvme/nvme*/nvme*n* 2>/dev/null; true"
    ))
}

/// Waits until the facts are these: an interface gets its name by and by.
fn wait_facts(guest: &mut Guest, address: &str, wanted: &str) -> Result<()> {
    let mut found = String::new();
    for _ in 0..50 {
        found = facts(guest, address)?;
        if found == wanted {
            return Ok(());
        }
        guest.ok("sleep 0.2")?;
    }
    same(&format!("what the host has of {address}"), &found, wanted)
}

fn gives_back_exactly(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let disk = guest.behind(NVME_DISK, 0)?;
    guest.ok("udevadm settle")?;
    let before = [facts(guest, &nic)?, facts(guest, &disk)?];
    ensure(
        before[0].starts_with("e1000e\n(null)\n") && before[1].starts_with("nvme\n(null)\n"),
        || format!("the host begins with {before:?}"),
    )?;
    guest.write_file(super::CONFIG, &format!("{NIC}{DISK}"))?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    wait_resolved(guest, "disk", &[&disk])?;
    for (name, address, before) in [("nic", &nic, &before[0]), ("disk", &disk, &before[1])] {
        guest.ok(&format!("vfio-bindctl restore {name}"))?;
        wait_facts(guest, address, before)?;
        let told = guest.run(&format!("vfio-bindctl resolve {name} --wait 30s"))?;
        ensure(
            told.status == 3 && told.stderr.contains("is released"),
            || format!("{name} was given back and resolves: {}", told.words()),
        )?;
    }
    // Nothing takes it but who is asked to, a start of the daemon least.
    guest.ok("vfio-bindctl rescan; systemctl restart vfio-bindd; sleep 2")?;
    let states = "vfio-bindctl status --json | jq -r '.mappings[].state'";
    same("the states", &guest.ok(states)?, "released\nreleased")?;
    wait_facts(guest, &nic, &before[0])?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    wait_resolved(guest, "disk", &[&disk])?;
    guest.ok("vfio-bindctl restore --all")?;
    wait_facts(guest, &nic, &before[0])?;
    wait_facts(guest, &disk, &before[1])?;
    guest.ok("vfio-bindctl rescan --take")?;
    wait_resolved(guest, "nic", &[&nic])?;
    // What no mapping wants any more goes back by its address.
    guest.write_file(super::CONFIG, DISK)?;
    guest.ok(&format!(
        "vfio-bindctl reload && vfio-bindctl restore {nic}"
    ))?;
    wait_facts(guest, &nic, &before[0])?;
    let never = guest.run("vfio-bindctl restore 0000:00:00.0")?;
    ensure(
        never.status == 1 && never.stderr.contains("never taken"),
        || format!("what was never taken: {}", never.words()),
    )?;
    fresh(guest, "")
}

fn refuses_what_is_used(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    guest.ok(&format!(
        "systemd-run --quiet --collect --unit=lab-qemu qemu-system-x86_64 -accel tcg -m 64 -M q35 \
         -nodefaults -display none -device vfio-pci,host={nic}"
    ))?;
    guest.wait_until(
        Duration::from_secs(60),
        "ls -l /proc/$(systemctl show --value --property=MainPID lab-qemu)/fd \
            | grep /dev/vfio/[0-9] || { journalctl -b --no-pager -n 5 -u lab-qemu >&2; false; }",
    )?;
    let told = guest.run("vfio-bindctl restore nic")?;
    ensure(told.status == 5 && told.stderr.contains("qemu"), || {
        format!("a restore of what QEMU uses: {}", told.words())
    })?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    wait_resolved(guest, "nic", &[&nic])?;
    guest.ok("systemctl stop lab-qemu")?;
    guest.wait_until(SOON, "vfio-bindctl restore nic")?;
    wait_driver(guest, &nic, "e1000e")?;
    fresh(guest, "")
}

/// Fifty times the daemon and its helpers are killed somewhere in a restore or
/// in the reload that takes the function again; whoever starts next and is
/// asked once more gets to the same end.
fn survives_kills(guest: &mut Guest) -> Result<()> {
    fresh(guest, NIC)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let kills = if is_full() { 50 } else { 10 };
    let script = format!(
        "#!/bin/bash
        nic={nic}
        fail() {{ echo \"kill $i: $*\"; systemctl status vfio-bindd; exit 1; }}
        driver() {{ basename \"$(readlink /sys/bus/pci/devices/$nic/driver)\"; }}
        former() {{ jq -r '.former.driver, .former.driver_override' <$undo | tr '\\n' ' '; }}
        undo=/var/lib/vfio-bindd/undo/$nic.json
        half=0
        for i in $(seq {kills}); do
            if (( i % 2 )); then act='restore nic'; else act=reload; fi
            vfio-bindctl $act 2>/dev/null &
            sleep 0.$(printf %03d $((RANDOM % 350)))
            systemctl kill --signal=KILL vfio-bindd
            wait
            [[ -e $undo && $(jq -r .phase <$undo) = returning ]] && half=$((half + 1))
            systemctl reset-failed vfio-bindd
            systemctl start vfio-bindd || fail 'it does not start'
            if (( i % 2 )); then
                vfio-bindctl restore nic || fail 'it is not given back'
                [[ $(driver) = e1000e ]] || fail \"$(driver) has it\"
                [[ $(cat /sys/bus/pci/devices/$nic/driver_override) = '(null)' ]] ||
                    fail 'the override is left'
                [[ $(jq -r .phase <$undo) = released ]] || fail \"$(cat $undo)\"
            else
                vfio-bindctl rescan --take || fail 'it is not taken'
                vfio-bindctl resolve nic --wait 30s >/dev/null || fail 'it is not bound'
                [[ $(driver) = vfio-pci ]] || fail \"$(driver) has it\"
                [[ $(jq -r .phase <$undo) = taken ]] || fail \"$(cat $undo)\"
            fi
            [[ $(former) = 'e1000e null ' ]] || fail \"it was $(former)\"
        done
        echo \"$half\"
        "
    );
    guest.write_file("/run/lab-kills", &script)?;
    let half = guest.ok_for("bash /run/lab-kills", Duration::from_secs(900))?;
    guest.figure(format!(
        "{kills} kills in a restore or a reload, {half} of them half-way back: the same end each time"
    ));
    fresh(guest, "")
}
