//! The main promise: after a boot the described devices are bound before any
//! guest starts, and nothing else is.

use super::{CONFIG, NIC, SOON, ensure, give_back, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{NVME_PF, PAIR, SPARE, TWIN_A, TWIN_B, TWIN_NODE1};

/// Scenarios that restart the host.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("boot_binds_the_one_on_its_node", binds_the_one_on_its_node),
    Scenario::of_package(
        "boot_keeps_native_drivers_from_vfs",
        keeps_native_drivers_from_vfs,
    ),
    Scenario::of_package(
        "boot_serves_the_start_of_guests",
        serves_the_start_of_guests,
    ),
    Scenario::of_package("boot_says_what_matched", says_what_matched),
    Scenario::of_package(
        "boot_leaves_plugged_twins_alone",
        leaves_plugged_twins_alone,
    ),
    Scenario::of_package("boot_stop_does_not_unbind", stop_does_not_unbind),
];

/// Identical NICs told apart by their node, and a card with all its functions.
const POLICY: &str = r#"[mapping.nic]
description = "the NIC on node 1"
match = { id = "8086:10d3", numa = 1 }

[mapping.pair]
match = { path = "0000:00:12.0/00.0" }
functions = "slot"
"#;

/// Stands for Proxmox's unit that starts guests; the daemon orders itself
/// before the name, so the stub says nothing about it.
const GUESTS: &str = r#"[Unit]
Description=Stub of the unit that starts guests

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'exec vfio-bindctl resolve nic >/run/lab-guests-address'
ExecStart=/bin/sh -c 'readlink "/sys/bus/pci/devices/$(cat /run/lab-guests-address)/driver" >/run/lab-guests-driver'

[Install]
WantedBy=multi-user.target
"#;

/// Makes VFs as soon as udev gets to their PF.
const VFS: &str = "/etc/udev/rules.d/90-lab-vfs.rules";

/// The first of the scenarios makes the boot that the others look at.
fn binds_the_one_on_its_node(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok("systemctl stop vfio-bindd")?;
    give_back(guest)?;
    let pf = guest.behind(NVME_PF, 0)?;
    let vfs = format!("[mapping.vfs]\nmatch = {{ vf_of = \"{pf}\" }}\nexpect = 2\n");
    guest.write_file(CONFIG, &format!("{POLICY}\n{vfs}"))?;
    guest.write_file(
        VFS,
        &format!(
            "ACTION==\"add\", KERNEL==\"{pf}\", DRIVER==\"nvme\", ATTR{{sriov_numvfs}}=\"2\"\n"
        ),
    )?;
    guest.write_file("/etc/systemd/system/pve-guests.service", GUESTS)?;
    guest.ok("systemctl daemon-reload; systemctl enable pve-guests.service")?;
    guest.reboot()?;

    let wanted = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&wanted])?;
    same("its driver", &guest.driver(&wanted)?, "vfio-pci")?;
    for port in [TWIN_A, TWIN_B] {
        let twin = guest.behind(port, 0)?;
        same(
            &format!("the driver of the twin {twin}"),
            &guest.driver(&twin)?,
            "e1000e",
        )?;
        let left = guest.ok(&format!("cat /sys/bus/pci/devices/{twin}/driver_override"))?;
        same(&format!("the override of the twin {twin}"), &left, "(null)")?;
    }
    let pair = [guest.behind(PAIR, 0)?, guest.behind(PAIR, 1)?];
    wait_resolved(guest, "pair", &[&pair[0], &pair[1]])?;
    let ids = guest.run("cat /sys/module/vfio_pci/parameters/ids")?;
    ensure(ids.stdout.is_empty(), || {
        format!("vfio-pci was given ids: {}", ids.words())
    })
}

/// Also from those that a udev rule makes before the daemon is there.
fn keeps_native_drivers_from_vfs(guest: &mut Guest) -> Result<()> {
    let pf = guest.behind(NVME_PF, 0)?;
    let early = guest.ok("journalctl -b -u vfio-bindd-early -o cat --no-pager")?;
    let words = format!("native drivers are kept from the VFs of {pf}");
    ensure(early.contains(&words), || {
        format!("the early stage says only: {early}")
    })?;
    let vfs = guest.ok(&format!(
        "cd /sys/bus/pci/devices/{pf}; for vf in virtfn0 virtfn1; do basename $(readlink $vf); done"
    ))?;
    let vfs: Vec<&str> = vfs.lines().collect();
    wait_resolved(guest, "vfs", &vfs)?;
    for vf in vfs {
        let met = guest.ok(&format!("dmesg | grep -c 'pci function {vf}' || true"))?;
        same(&format!("how often nvme met {vf}"), &met, "0")?;
    }
    guest
        .ok(&format!(
            "rm {VFS}; udevadm control --reload; echo 0 >/sys/bus/pci/devices/{pf}/sriov_numvfs"
        ))
        .map(drop)
}

fn serves_the_start_of_guests(guest: &mut Guest) -> Result<()> {
    let wanted = guest.behind(TWIN_NODE1, 0)?;
    let told = guest
        .ok("systemctl status --no-pager pve-guests.service >&2; cat /run/lab-guests-address")?;
    same("the address that the guests' unit got", &told, &wanted)?;
    let driver = guest.ok("basename \"$(cat /run/lab-guests-driver)\"")?;
    same("the driver at that moment", &driver, "vfio-pci")?;
    let mut time = |unit: &str, property: &str| {
        let show = format!("systemctl show --value --property={property}TimestampMonotonic {unit}");
        let shown = guest.ok(&show)?;
        let number = shown.parse::<u64>();
        number.map_err(|_| format!("{property} of {unit} is no time: {shown}"))
    };
    let started = time("vfio-bindd", "ExecMainStart")?;
    let ready = time("vfio-bindd", "ActiveEnter")?;
    let asked = time("pve-guests", "ExecMainStart")?;
    guest.figure(format!(
        "ready {:.1} s after the kernel's start, {:.1} s after its own",
        micros(ready),
        micros(ready.saturating_sub(started))
    ));
    ensure(ready <= asked, || {
        format!("ready at {ready} µs, guests started at {asked} µs")
    })
}

/// One line in the journal per bound function, with fields to search by.
fn says_what_matched(guest: &mut Guest) -> Result<()> {
    let wanted = guest.behind(TWIN_NODE1, 0)?;
    let line = guest.ok(&format!(
        "journalctl -b -u vfio-bindd -o cat VFIO_ADDRESS={wanted} VFIO_MAPPING=nic | grep vfio-pci"
    ))?;
    ensure(line.contains(&wanted), || {
        format!("the journal says only: {line}")
    })?;
    let status = guest.ok("vfio-bindctl status")?;
    ensure(status.contains("nic") && status.contains(&wanted), || {
        format!("status does not name the mapping and its address:\n{status}")
    })?;
    let memory = guest.ok(
        "grep -E 'VmRSS|VmHWM' /proc/$(systemctl show --value --property=MainPID vfio-bindd)/status \
         | tr -s '\\t ' ' '",
    )?;
    guest.figure(format!(
        "the daemon's memory after the boot: {}",
        memory.replace('\n', ", ")
    ));
    Ok(())
}

fn leaves_plugged_twins_alone(guest: &mut Guest) -> Result<()> {
    let wanted = guest.behind(TWIN_NODE1, 0)?;
    let twin = guest.plug(SPARE, "late-twin")?;
    wait_driver(guest, &twin, "e1000e")?;
    let listed = guest.ok(&format!("lspci -D -n -d {NIC} | wc -l"))?;
    same("the number of NIC functions", &listed, "6")?;
    wait_resolved(guest, "nic", &[&wanted])?;
    guest.unplug("late-twin")?;
    wait_resolved(guest, "nic", &[&wanted])
}

/// A restart of the daemon must never pull a device from under a running VM.
fn stop_does_not_unbind(guest: &mut Guest) -> Result<()> {
    let wanted = guest.behind(TWIN_NODE1, 0)?;
    guest.ok("systemctl stop vfio-bindd")?;
    same(
        "the driver after a stop",
        &guest.driver(&wanted)?,
        "vfio-pci",
    )?;
    guest.ok("systemctl start vfio-bindd")?;
    wait_resolved(guest, "nic", &[&wanted])?;
    guest.ok("systemctl restart vfio-bindd")?;
    wait_resolved(guest, "nic", &[&wanted])?;
    guest.ok("systemctl disable pve-guests.service; rm /etc/systemd/system/pve-guests.service")?;
    guest.wait_until(SOON, "systemctl daemon-reload").map(drop)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a time since boot is far below the limit"
)]
fn micros(count: u64) -> f64 {
    count as f64 / 1e6
}
