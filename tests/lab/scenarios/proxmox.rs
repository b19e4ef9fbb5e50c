//! A node of Proxmox VE: guests that start at boot, with stand-ins for what of
//! PVE has a part in that, and a card that moves the others.

use std::path::Path;
use std::time::Duration;

use super::{CONFIG, SOON, ensure, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{TWIN_A, TWIN_B, Topology};

/// What holds there, boot by boot.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("proxmox_guests_start", guests_start),
    Scenario::of_package("proxmox_mapping_follows_the_card", mapping_follows),
    Scenario::of_package("proxmox_without_sync_nothing_starts_wrong", without_sync),
];

/// Two NICs by their slots: one for whoever asks for a resource mapping, one for a
/// guest that has an address in its config.
const POLICY: &str = r#"[mapping.pool]
match = { path = "0000:00:10.0/00.0" }
proxmox = "nic0"

[mapping.raw]
match = { path = "0000:00:11.0/00.0" }

[proxmox]
sync = true
"#;

/// What starts a guest, as far as devices go. The hookscript runs as
/// `PVE::GuestHelpers::exec_hookscript` has it; then the node's entry of the resource
/// mapping is read, and what it names must be on vfio-pci, or PVE would bind it.
const START: &str = r#"#!/bin/bash
config=/etc/pve/qemu-server/$1.conf
hook=$(readlink -e /var/lib/vz/snippets/vfio-bindd)
if ! env -i LC_ALL=C PATH=/sbin:/bin:/usr/sbin:/usr/bin PVE_MIGRATED_FROM= \
    "$hook" "$1" pre-start </dev/null >/run/lab-vm-$1.log 2>&1; then
    echo "hookscript error for $1 on pre-start" >>/run/lab-vm-$1.log
    exit 0
fi
value=$(sed -n 's/^hostpci0: //p' $config)
case $value in
    mapping=*)
        value=$(sed -n 's/^\tmap node=lab,path=\([^,]*\),.*/\1/p' /etc/pve/mapping/pci.cfg) ;;
esac
[[ $value = *.* ]] || value=$value.0
[ "$(basename "$(readlink /sys/bus/pci/devices/$value/driver)")" = vfio-pci ] || exit 1
echo $value >/run/lab-vm-$1
"#;

const GUESTS: &str = r"[Unit]
Description=Stub of the unit that starts guests

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-start 100
ExecStart=/usr/local/sbin/lab-start 101

[Install]
WantedBy=multi-user.target
";

const CLUSTER: &str = r"[Unit]
Description=Stub of the cluster's file system

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true

[Install]
WantedBy=multi-user.target
";

/// What became of a guest: its device, or why it has none.
fn started(guest: &mut Guest, vm: u32) -> Result<String> {
    guest.wait_until(SOON, "systemctl is-active pve-guests")?;
    guest.ok(&format!("cat /run/lab-vm-{vm} || cat /run/lab-vm-{vm}.log"))
}

fn guests_start(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.write_file(CONFIG, POLICY)?;
    let pvesh = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/pvesh");
    let inside = guest.hand_in(&pvesh)?;
    guest.write_file("/usr/local/sbin/lab-start", START)?;
    guest.write_file("/etc/systemd/system/pve-guests.service", GUESTS)?;
    guest.write_file("/etc/systemd/system/pve-cluster.service", CLUSTER)?;
    let raw = guest.behind(TWIN_B, 0)?;
    guest.write_file("/etc/pve/qemu-server/100.conf", "hostpci0: mapping=nic0\n")?;
    guest.write_file(
        "/etc/pve/qemu-server/101.conf",
        &format!("hostpci0: {raw}\n"),
    )?;
    guest.write_file("/etc/pve/mapping/pci.cfg", "")?;
    guest.ok(&format!(
        "install -m 0755 {inside} /usr/bin/pvesh; chmod +x /usr/local/sbin/lab-start
         systemctl daemon-reload; systemctl enable pve-guests pve-cluster"
    ))?;
    let printed = guest.ok("vfio-bindctl proxmox enable 100")?;
    same(
        "the command",
        &printed,
        "qm set 100 --hookscript local:snippets/vfio-bindd",
    )?;
    guest.reboot()?;
    let pool = guest.behind(TWIN_A, 0)?;
    same("what VM 100 got", &started(guest, 100)?, &pool)?;
    same("what VM 101 got", &started(guest, 101)?, &raw)?;
    let claims = guest.ok("vfio-bindctl status | grep -c 'is claimed by \"pve-10[01]\"'")?;
    same("the claims", &claims, "2")?;
    // While it is there the entry is right, and nobody writes.
    guest.ok("rm -f /calls; systemctl start vfio-bindd-pve-sync; [ ! -e /calls ]")?;
    how_long(guest)?;
    // What changes while it runs is followed, too.
    guest.ok(
        "sed -i 's/iommugroup=[0-9]*/iommugroup=99/' /etc/pve/mapping/pci.cfg
         grep -q iommugroup=99 /etc/pve/mapping/pci.cfg && vfio-bindctl release pve-101",
    )?;
    guest.wait_until(SOON, "! grep iommugroup=99 /etc/pve/mapping/pci.cfg")?;
    Ok(())
}

/// What is timed, and its name in the figure.
const TIMED: &[(&str, &str)] = &[
    (
        "busctl call of Resolve",
        "busctl call org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager Resolve s pool",
    ),
    (
        "dbus-send",
        "dbus-send --system --print-reply --dest=org.vfiobindd1 /org/vfiobindd1 \
         org.vfiobindd1.Manager.Resolve string:pool",
    ),
    ("vfio-bindctl resolve", "vfio-bindctl resolve pool"),
    // Before the other: nothing is claimed then, as at a start.
    (
        "the hookscript's post-stop",
        "/usr/lib/vfio-bindd/hookscript 100 post-stop",
    ),
    (
        "its pre-start",
        "/usr/lib/vfio-bindd/hookscript 100 pre-start",
    ),
];

/// Whole processes in turns, so that what else the host does is in all of them.
fn how_long(guest: &mut Guest) -> Result<()> {
    let calls: String = TIMED
        .iter()
        .enumerate()
        .map(|(index, (_, command))| format!("time_of {index} {command}\n"))
        .collect();
    guest.write_file(
        "/run/lab-time",
        &format!(
            "rm -rf /run/lab-times; mkdir /run/lab-times
             time_of() {{
                 to=/run/lab-times/$1; shift; began=${{EPOCHREALTIME/./}}
                 \"$@\" >/dev/null || exit 1
                 echo $(( ${{EPOCHREALTIME/./}} - began )) >>$to
             }}
             for turn in $(seq 21); do {calls} done\n"
        ),
    )?;
    guest.ok_for("bash /run/lab-time", Duration::from_secs(240))?;
    let mut medians = Vec::new();
    for (index, (what, _)) in TIMED.iter().enumerate() {
        let text = guest.ok(&format!("sort -n /run/lab-times/{index} | sed -n 11p"))?;
        let micros: f64 = text
            .parse()
            .map_err(|_| format!("{what} took {text:?} microseconds"))?;
        medians.push((what, micros));
    }
    let busctl = medians.first().map_or(1.0, |(_, micros)| *micros);
    let ratios: Vec<_> = medians
        .iter()
        .skip(1)
        .map(|(what, micros)| format!("{what} {:.2}", micros / busctl))
        .collect();
    guest.figure(format!(
        "a whole process, medians of 21: busctl call of Resolve {:.0} ms; of that, {}",
        busctl / 1000.0,
        ratios.join(", ")
    ));
    Ok(())
}

fn mapping_follows(guest: &mut Guest) -> Result<()> {
    let before = [guest.behind(TWIN_A, 0)?, guest.behind(TWIN_B, 0)?];
    guest.power_off()?;
    guest.boot_as(&Topology::node_with_a_card_more(guest.release()))?;
    let now = [guest.behind(TWIN_A, 0)?, guest.behind(TWIN_B, 0)?];
    ensure(before != now, || {
        format!("the cards are where they were: {now:?}")
    })?;
    same("what VM 100 got", &started(guest, 100)?, &now[0])?;
    let told = started(guest, 101)?;
    for words in [
        format!(
            "hostpci0: {} was mapping 'raw', which is {} now",
            before[1], now[1]
        ),
        format!("run: qm set 101 --hostpci0 {}", now[1]),
        "hookscript error for 101 on pre-start".to_owned(),
    ] {
        ensure(told.contains(&words), || format!("no {words:?} in {told}"))?;
    }
    guest.figure(format!(
        "a card in front moved two others: VM with a resource mapping started at {} instead of {}; \
         VM with an address was stopped: {}",
        now[0],
        before[0],
        told.lines().next().unwrap_or_default()
    ));
    Ok(())
}

/// Back in its old place, and the resource mapping still names the new one.
fn without_sync(guest: &mut Guest) -> Result<()> {
    guest.ok(&format!(
        "sed -i 's/^sync = true/sync = false/' {CONFIG}; sync"
    ))?;
    guest.power_off()?;
    guest.boot_as(&Topology::node(guest.release()))?;
    let told = started(guest, 100)?;
    ensure(
        told.contains("run: vfio-bindctl proxmox sync") && told.contains("hookscript error"),
        || format!("VM 100: {told}"),
    )?;
    let raw = guest.behind(TWIN_B, 0)?;
    same("what VM 101 got", &started(guest, 101)?, &raw)
}
