//! `[sriov]`: VFs that the config declares, made and set by the daemon.

use super::clients::nested_qemu_shows;
use super::held::HOLDER;
use super::idle::held;
use super::pf::{Pf, make, vfs};
use super::{CONFIG, SOON, ensure, fresh, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::{Scenario, is_full};
use crate::topology::sriov::{IGB, IGB_NODE1};
use crate::topology::{NVME_PF, TWIN_A};

/// On the host with a few virtual functions.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("sriov_is_made_and_set", is_made_and_set),
    Scenario::of_package("sriov_is_so_after_a_boot", is_so_after_a_boot),
    Scenario::of_package("sriov_outlives_the_driver", outlives_the_driver),
    Scenario::of_package("sriov_keeps_what_is_used", keeps_what_is_used),
];

/// On the same where there is time.
pub(crate) const MORE: &[Scenario] = &[
    Scenario::of_package("sriov_of_a_disk", of_a_disk),
    Scenario::of_package("sriov_bad_input_holds_nothing_up", bad_input),
];

/// On the host with many.
pub(crate) const MANY: &[Scenario] = &[Scenario::of_package("sriov_makes_64", makes_64)];

/// The ID of the NICs' virtual functions.
const VF: &str = "8086:10ca";

/// All that `igb` can set.
fn config(pf: &Pf) -> String {
    let interface = &pf.interface;
    format!(
        "[sriov.nic]\npf = {{ netdev = \"{interface}\" }}\nvfs = \"max\"\n\
         [[sriov.nic.vf]]\nmac = {{ base = \"52:54:00:a0:00:00\" }}\n\
         [[sriov.nic.vf]]\nindex = \"0-3\"\nvlan = {{ id = 100, qos = 3 }}\nspoof_check = false\n\
         trust = true\n\
         [[sriov.nic.vf]]\nindex = 5\nrate = 200\n\
         [mapping.vfs]\nmatch = {{ vf_of = \"{interface}\" }}\nexpect = 7\n"
    )
}

/// Whether everything is as [`config`] says: on vfio-pci, set, and never seen by a
/// native driver.
fn is_right(guest: &mut Guest, pf: &Pf, when: &str) -> Result<()> {
    // What takes a link is tried again, less and less often.
    guest.ok_for("vfio-bindctl resolve vfs --wait 90s >/dev/null", SOON * 6)?;
    let all = vfs(guest, &pf.address)?;
    same(
        &format!("the number of VFs {when}"),
        &all.len().to_string(),
        "7",
    )?;
    wait_resolved(
        guest,
        "vfs",
        &all.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    for vf in &all {
        same(
            &format!("the driver of {vf} {when}"),
            &guest.driver(vf)?,
            "vfio-pci",
        )?;
    }
    for (index, wanted) in [
        (0, "52:54:00:a0:00:00 100 3 0 false true auto"),
        (3, "52:54:00:a0:00:03 100 3 0 false true auto"),
        (4, "52:54:00:a0:00:04 0 0 0 true false auto"),
        (5, "52:54:00:a0:00:05 0 0 200 true false auto"),
    ] {
        same(
            &format!("VF {index} {when}"),
            &pf.settings(guest, index)?,
            wanted,
        )?;
    }
    let met = guest.run("dmesg | grep 'igbvf [0-9a-f]*:'")?;
    ensure(met.status != 0, || {
        format!("a native driver met a VF {when}: {}", met.stdout)
    })
}

fn is_made_and_set(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok("dmesg --clear")?;
    let pf = Pf::up(guest, IGB)?;
    let other = Pf::up(guest, IGB_NODE1)?;
    let interface = &pf.interface;
    guest.ok(&format!("ip addr add 10.9.1.1/24 dev {interface}"))?;
    let before = [pf.carrier_changes(guest)?, other.carrier_changes(guest)?];
    fresh(guest, &config(&pf))?;
    is_right(guest, &pf, "at first")?;
    // igb itself resets its NIC when it makes VFs.
    pf.wait_carrier(guest)?;
    let after = [pf.carrier_changes(guest)?, other.carrier_changes(guest)?];
    same(
        "how often each PF's carrier changed",
        &format!("{} {}", after[0] - before[0], after[1] - before[1]),
        "2 0",
    )?;
    let kept = guest.ok(&format!(
        "ip -4 -o addr show {interface} | grep -c 10.9.1.1"
    ))?;
    same("the host's own address on the PF", &kept, "1")?;
    // Nothing is done twice: not by a restart, not by a look at everything.
    guest.ok("systemctl restart vfio-bindd; vfio-bindctl rescan")?;
    is_right(guest, &pf, "after a restart")?;
    ensure(pf.carrier_changes(guest)? == after[0], || {
        "a restart cost the PF its carrier".to_owned()
    })?;
    // By hand, as an administrator does.
    pf.set(guest, 1, "mac 52:54:00:00:00:99 vlan 7")?;
    guest.ok("vfio-bindctl rescan")?;
    guest.wait_until(
        SOON,
        &format!("ip link show {interface} | grep -q '52:54:00:a0:00:01.*vlan 100'"),
    )?;
    is_right(guest, &pf, "after somebody else set one")?;
    is_told(guest, &pf)?;
    let all = vfs(guest, &pf.address)?;
    let vf = all.get(2).ok_or("no third VF")?;
    nested_qemu_shows(guest, vf, VF)?;
    is_right(guest, &pf, "after a guest")
}

/// What there is to read of it.
fn is_told(guest: &mut Guest, pf: &Pf) -> Result<()> {
    let address = &pf.address;
    let path = format!(
        "/org/vfiobindd1/sriov/pci_{}",
        address.replace([':', '.'], "_")
    );
    let told = guest.ok(&format!(
        "for name in Name Address State Driver Wanted TotalVfs; do
             busctl get-property org.vfiobindd1 {path} org.vfiobindd1.Sriov $name
         done | cut -d' ' -f2 | xargs"
    ))?;
    same(
        "the PF on D-Bus",
        &told,
        &format!("nic {address} ready igb 7 7"),
    )?;
    for (command, wanted) in [
        ("status", "ready"),
        ("plan", "has its 7 VFs"),
        ("doctor", "has its 7 VFs"),
        (
            &*format!("explain {address}"),
            "sriov nic: it has its 7 VFs",
        ),
    ] {
        let told = guest.run(&format!("vfio-bindctl {command}"))?;
        ensure(
            told.stdout.contains(wanted) && told.stdout.contains("nic"),
            || format!("{command} does not say {wanted:?}: {}", told.words()),
        )?;
    }
    let journal = guest.ok("journalctl -b -u vfio-bindd VFIO_SRIOV=nic -o cat")?;
    ensure(
        journal.contains("has 7 VFs for sriov nic") && journal.contains("VF 5: mac 52:54:00:a0"),
        || format!("the journal does not tell of it:\n{journal}"),
    )
}

fn is_so_after_a_boot(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let pf = Pf::up(guest, IGB)?;
    guest.write_file(CONFIG, &config(&pf))?;
    guest.reboot()?;
    // Nobody has brought the interface up, and a rate takes a link. udev loads its
    // driver when the boot is said to be over, or later.
    let interface = &pf.interface;
    guest.wait_until(
        SOON * 4,
        &format!("ip link set {interface} up && grep -qx 1 /sys/class/net/{interface}/carrier"),
    )?;
    guest.ok("vfio-bindctl rescan")?;
    is_right(guest, &pf, "after a boot")
}

/// All that a PF's driver takes along is there again with it.
fn outlives_the_driver(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok("dmesg --clear")?;
    let pf = Pf::up(guest, IGB)?;
    fresh(guest, &config(&pf))?;
    is_right(guest, &pf, "before the driver went")?;
    let rounds = if is_full() { 100 } else { 1 };
    let mut half = None;
    for round in 0..rounds {
        guest.ok("modprobe -r igb; modprobe igb")?;
        guest.wait_until(
            SOON,
            &format!(
                "ip link set {0} up && grep -qx 1 /sys/class/net/{0}/carrier",
                pf.interface
            ),
        )?;
        is_right(guest, &pf, &format!("in round {round}"))?;
        if rounds > 1 && round == rounds / 2 {
            half = Some(held(guest)?);
        }
    }
    if let Some(half) = half {
        let after = held(guest)?;
        guest.figure(format!(
            "{rounds} reloads of the PF's driver: memory {} half-way and {} KiB, files {} and {}",
            half.memory, after.memory, half.files, after.files
        ));
        after.ensure_no_leak(&half)?;
    }
    // Made anew under us, by hand.
    guest.ok(&format!(
        "cd /sys/bus/pci/devices/{} && echo 0 >sriov_numvfs",
        pf.address
    ))?;
    guest.wait_until(
        SOON,
        &format!(
            "[ $(ls -d /sys/bus/pci/devices/{}/virtfn* | wc -l) = 7 ]",
            pf.address
        ),
    )?;
    is_right(guest, &pf, "after somebody took them away")?;
    // The kernel restores the VFs of a PF that is reset.
    guest.ok(&format!(
        "echo 1 >/sys/bus/pci/devices/{}/reset; vfio-bindctl rescan",
        pf.address
    ))?;
    is_right(guest, &pf, "after a reset of the PF")
}

/// A VF that is used keeps its PF from another number, and nothing else.
fn keeps_what_is_used(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let pf = Pf::up(guest, IGB)?;
    let disk = guest.behind(NVME_PF, 0)?;
    let twin = guest.behind(TWIN_A, 0)?;
    let with = |count: u8, more: &str| {
        format!(
            "[sriov.nic]\npf = {{ address = \"{}\" }}\nvfs = {count}\n\
             [mapping.vfs]\nmatch = {{ vf_of = \"{}\" }}\nexpect = {{ min = 1, max = 7 }}\n{more}",
            pf.address, pf.address
        )
    };
    fresh(guest, &with(4, ""))?;
    guest.ok("vfio-bindctl resolve vfs --wait 60s")?;
    let four = vfs(guest, &pf.address)?;
    same("how many there are", &four.len().to_string(), "4")?;
    let used = four.get(1).ok_or("no second VF")?;
    guest.ok(&format!(
        "vfio-bindctl claim vfs --owner lab --address {used}"
    ))?;
    let more = format!(
        "[mapping.twin]\nmatch = {{ address = \"{twin}\" }}\n\
         [sriov.disk]\npf = {{ address = \"{disk}\" }}\nvfs = 2\n"
    );
    guest.write_file(CONFIG, &with(2, &more))?;
    guest.ok("vfio-bindctl reload; vfio-bindctl resolve twin --wait 30s")?;
    let path = format!("/sys/bus/pci/devices/{disk}/virtfn1");
    guest.wait_until(SOON, &format!("[ -e {path} ]"))?;
    kept(
        guest,
        &format!("keeps its 4 VFs: VF 1, {used}, is claimed by \"lab\""),
    )?;
    // A guest that was not claimed for does the same.
    guest.write_file("/run/lab-holder", HOLDER)?;
    guest.ok(&format!(
        "systemd-run --quiet --collect --unit=lab-holder perl /run/lab-holder {used}"
    ))?;
    guest.wait_until(
        SOON,
        "ls -l /proc/$(systemctl show --value --property=MainPID lab-holder)/fd \
            | grep -q vfio-device",
    )?;
    guest.ok("vfio-bindctl release lab; vfio-bindctl rescan")?;
    kept(
        guest,
        &format!("keeps its 4 VFs: VF 1, {used}, is in use: perl"),
    )?;
    same(
        "what there is meanwhile",
        &vfs(guest, &pf.address)?.join(" "),
        &four.join(" "),
    )?;
    let four: Vec<_> = four.iter().map(String::as_str).collect();
    wait_resolved(guest, "vfs", &four)?;
    guest.ok("systemctl stop lab-holder")?;
    guest.wait_until(
        SOON * 4,
        &format!(
            "[ $(ls -d /sys/bus/pci/devices/{}/virtfn* | wc -l) = 2 ]",
            pf.address
        ),
    )?;
    guest.ok("vfio-bindctl resolve vfs --wait 30s")?;
    same(
        "what is bound",
        &guest.ok("vfio-bindctl resolve vfs | wc -l")?,
        "2",
    )?;
    fresh(guest, "")?;
    make(guest, &disk, 0)?;
    make(guest, &pf.address, 0)
}

/// The daemon says so of a PF.
fn kept(guest: &mut Guest, wanted: &str) -> Result<()> {
    let told = "vfio-bindctl status --json | jq -r '.pfs[].reason'";
    guest
        .wait_until(
            SOON,
            &format!("{told} | grep -F '{wanted}' || {{ {told} >&2; false; }}"),
        )
        .map(drop)
}

/// A PF without a network interface has VFs as well, and nothing to set.
fn of_a_disk(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let disk = guest.behind(NVME_PF, 0)?;
    let config = format!(
        "[sriov.disk]\npf = {{ address = \"{disk}\" }}\nvfs = \"max\"\n\
         [mapping.disks]\nmatch = {{ vf_of = \"{disk}\" }}\nexpect = 4\n"
    );
    fresh(guest, &config)?;
    guest.ok("vfio-bindctl resolve disks --wait 60s")?;
    // The kernel removes none of them with the driver of this one.
    let drivers = "/sys/bus/pci/drivers";
    for round in 0..3 {
        guest.ok(&format!(
            "echo {disk} >{drivers}/nvme/unbind; sleep 1; echo {disk} >{drivers}/nvme/bind"
        ))?;
        guest.ok("vfio-bindctl resolve disks --wait 60s")?;
        let taken = guest.ok(&format!(
            "for vf in /sys/bus/pci/devices/{disk}/virtfn*; do basename $(readlink $vf/driver); done \
             | sort | uniq -c | xargs"
        ))?;
        same(
            &format!("who has the VFs in round {round}"),
            &taken,
            "4 vfio-pci",
        )?;
    }
    guest.write_file(CONFIG, &format!("{config}[[sriov.disk.vf]]\nvlan = 5\n"))?;
    guest.ok("vfio-bindctl reload")?;
    guest.wait_until(
        SOON,
        "vfio-bindctl status | grep -F 'has no network interface'",
    )?;
    let refused = guest.run("vfio-bindctl resolve disks --wait 3s")?;
    ensure(
        refused.status == 3 && refused.stderr.contains("no network interface"),
        || format!("VFs without their VLAN are handed out: {}", refused.words()),
    )?;
    fresh(guest, "")?;
    make(guest, &disk, 0)
}

fn bad_input(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let pf = Pf::up(guest, IGB)?;
    let other = Pf::up(guest, IGB_NODE1)?;
    let twin = guest.behind(TWIN_A, 0)?;
    for (text, wanted) in [
        ("vfs = 70000", "`vfs` is 70000; expected"),
        (
            "vfs = 4\n[[sriov.nic.vf]]\nmac = \"01:00:5e:00:00:01\"\nindex = 0",
            "multicast",
        ),
        (
            "vfs = 4\n[[sriov.nic.vf]]\nvlan = 4095",
            "expected a VLAN from 1 to 4094",
        ),
        (
            "vfs = 4\n[[sriov.nic.vf]]\nindex = \"3-1\"\ntrust = true",
            "runs backwards",
        ),
        (
            "vfs = 4\n[[sriov.nic.vf]]\nindex = 0\nmac = \"52:54:00:00:00:01\"\n\
             [[sriov.nic.vf]]\nindex = 1\nmac = \"52:54:00:00:00:01\"",
            "two VFs",
        ),
    ] {
        let config = format!("[sriov.nic]\npf = {{ address = \"01:00.0\" }}\n{text}\n");
        guest.write_file("/run/lab-config.toml", &config)?;
        let told = guest.run("vfio-bindctl check /run/lab-config.toml")?;
        ensure(told.status == 2 && told.stderr.contains(wanted), || {
            format!("{text} is not said to be wrong: {}", told.words())
        })?;
    }
    // What only the host knows: each is told, and all else goes on.
    let config = format!(
        "[sriov.toomany]\npf = {{ address = \"{}\" }}\nvfs = 8\n\
         [sriov.absent]\npf = {{ id = \"1234:5678\" }}\nvfs = 1\n\
         [sriov.plain]\npf = {{ address = \"{twin}\" }}\nvfs = 1\n\
         [sriov.other]\npf = {{ address = \"{}\" }}\nvfs = 3\n\
         [[sriov.other.vf]]\nindex = 1\nlink_state = \"enable\"\n\
         [mapping.one]\nmatch = {{ vf_of = \"{}\", vf = 0 }}\n\
         [mapping.two]\nmatch = {{ vf_of = \"{}\", vf = 1 }}\n\
         [mapping.taken]\nmatch = {{ address = \"{}\" }}\n",
        pf.address, other.address, other.address, other.address, other.address
    );
    fresh(guest, &config)?;
    guest.ok("vfio-bindctl resolve one --wait 60s")?;
    for wanted in [
        "can have at most 7 VFs, and vfs is 8",
        "sriov absent is absent",
        "has no SR-IOV",
        "cannot have link_state enable: igb has no such setting",
        "is the PF of [sriov.other]",
    ] {
        guest.wait_until(SOON, &format!("vfio-bindctl status | grep -F '{wanted}'"))?;
    }
    let failed = guest.run("vfio-bindctl resolve two --wait 2s")?;
    ensure(failed.status == 3, || {
        format!("a VF without its setting is handed out: {}", failed.words())
    })?;
    same(
        "what the first PF has",
        &vfs(guest, &pf.address)?.concat(),
        "",
    )?;
    fresh(guest, "")?;
    make(guest, &other.address, 0)
}

/// From the write to sriov_numvfs until all are on vfio-pci, against the least that
/// could be done.
fn makes_64(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let pf = guest.behind(NVME_PF, 0)?;
    fresh(guest, "")?;
    make(guest, &pf, 0)?;
    guest.ok("modprobe vfio-pci")?;
    let bare = guest.ok_for(
        &format!(
            "cd /sys/bus/pci/devices/{pf} && echo 0 >sriov_drivers_autoprobe
             start=$(date +%s%N); echo 64 >sriov_numvfs
             for vf in virtfn*; do
                 echo vfio-pci >$vf/driver_override
                 echo $(basename $(readlink $vf)) >/sys/bus/pci/drivers/vfio-pci/bind
             done
             end=$(date +%s%N); echo $(( (end - start) / 1000000 ))"
        ),
        SOON * 6,
    )?;
    let count = "ls -d /sys/bus/pci/drivers/vfio-pci/0000:* | wc -l";
    same("how many the loop bound", &guest.ok(count)?, "64")?;
    fresh(guest, "")?;
    make(guest, &pf, 0)?;
    let config = format!(
        "[sriov.disk]\npf = {{ address = \"{pf}\" }}\nvfs = 64\n\
         [mapping.disks]\nmatch = {{ vf_of = \"{pf}\" }}\nexpect = 64\n"
    );
    guest.write_file(CONFIG, &config)?;
    let own = guest.ok_for(
        "start=$(date +%s%N); vfio-bindctl reload
         vfio-bindctl resolve disks --wait 110s >/dev/null || { vfio-bindctl status; exit 1; }
         end=$(date +%s%N); echo $(( (end - start) / 1000000 ))",
        SOON * 6,
    )?;
    same("how many the daemon bound", &guest.ok(count)?, "64")?;
    let number = |text: &str| {
        text.trim()
            .parse::<f64>()
            .map_err(|error| format!("{text}: {error}"))
    };
    let (bare, own) = (number(&bare)?, number(&own)?);
    guest.figure(format!(
        "64 VFs made and bound: bare loop {:.1} s, reload to bound {:.1} s, ratio {:.2}",
        bare / 1e3,
        own / 1e3,
        own / bare
    ));
    fresh(guest, "")?;
    make(guest, &pf, 0)
}
