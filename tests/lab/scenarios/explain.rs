//! Why it is as it is, and what became of it since the last boot.

use super::{CONFIG, SOON, ensure, fresh, manager_property, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{NVME_DISK, PAIR, TWIN_A, TWIN_NODE1};

/// Scenarios about explanations, pins and drift.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("explain_by_bus_and_by_a_look", by_bus_and_by_a_look),
    Scenario::of_package("explain_pins_still_resolve", pins_still_resolve),
    Scenario::of_package("explain_drift_after_a_boot", drift_after_a_boot),
];

const POLICY: &str = r#"[mapping.nic]
match = { id = "8086:10d3", numa = 1 }

[mapping.pair]
match = { path = "0000:00:12.0/00.0" }
functions = "slot"
"#;

/// The lab's first twin, which the host uses.
const BUSY: &str = r#"
[mapping.busy]
match = { path = "0000:00:10.0/00.0" }
"#;

/// What the daemon says and what a look says are the same but for how far the
/// daemon is: of what is bound, refused, and not wanted at all.
fn by_bus_and_by_a_look(guest: &mut Guest) -> Result<()> {
    fresh(guest, "")?;
    let busy = guest.behind(TWIN_A, 0)?;
    wait_driver(guest, &busy, "e1000e")?;
    guest.ok(&format!(
        "ip link set \"$(ls /sys/bus/pci/devices/{busy}/net)\" up"
    ))?;
    guest.write_file(CONFIG, &format!("{POLICY}{BUSY}"))?;
    guest.ok("vfio-bindctl reload")?;
    let bound = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&bound])?;
    for target in [&bound, &busy, "nic", "pair", "busy"] {
        // An interface that just came up has its address a moment later.
        guest.wait_until(
            SOON,
            &format!(
                "vfio-bindctl rescan
                 vfio-bindctl explain {target} --json >/run/lab-bus &&
                 vfio-bindctl explain {target} --json --offline >/run/lab-look &&
                 jq -e '.[].live.state' /run/lab-bus >/dev/null &&
                 jq -e '.[].live == null' /run/lab-look >/dev/null &&
                 jq -S 'del(.[].live)' /run/lab-bus >/run/lab-bus.dead &&
                 jq -S 'del(.[].live)' /run/lab-look >/run/lab-look.dead &&
                 diff /run/lab-bus.dead /run/lab-look.dead"
            ),
        )?;
    }
    let refused = guest.ok(&format!("vfio-bindctl explain {busy}"))?;
    for words in [
        "the daemon says: refused: is in use: ",
        "busy: matched by path=0000:00:10.0/00.0; refused",
        "nic: nearly matched: numa=1 fails: its node is not known (id=8086:10d3 holds)",
        "guards against it: network",
    ] {
        ensure(refused.contains(words), || {
            format!("{words:?} is not in:\n{refused}")
        })?;
    }
    let disk = guest.behind(NVME_DISK, 0)?;
    let short = disk.trim_start_matches("0000:");
    let unwanted = guest.ok(&format!("vfio-bindctl explain {short}"))?;
    ensure(
        unwanted.contains("not inspected: no mapping wants it")
            && unwanted.contains("what would be done: nothing, no mapping takes it"),
        || format!("{disk}:\n{unwanted}"),
    )?;
    guest.ok("systemctl stop vfio-bindd")?;
    let look = guest.run("vfio-bindctl explain nic")?;
    ensure(
        look.status == 0 && look.stderr.contains("vfio-bindd is not running"),
        || look.words(),
    )?;
    guest
        .ok(&format!(
            "ip link set \"$(ls /sys/bus/pci/devices/{busy}/net)\" down"
        ))
        .map(drop)
}

fn pins_still_resolve(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let pair = [guest.behind(PAIR, 0)?, guest.behind(PAIR, 1)?];
    wait_resolved(guest, "nic", &[&nic])?;
    let pinned = guest.ok("vfio-bindctl pin nic")?;
    ensure(pinned.contains("serial = \"52-54-00-"), || {
        format!("an e1000e has a serial number, and pin says:\n{pinned}")
    })?;
    guest.ok(&format!(
        "{{ echo '[mapping.nic]'; vfio-bindctl pin nic; echo '[mapping.pair]'; \
         vfio-bindctl pin pair; echo 'functions = \"slot\"'; }} >/run/lab-pinned && \
         cp /run/lab-pinned {CONFIG} && vfio-bindctl reload"
    ))?;
    wait_resolved(guest, "nic", &[&nic])?;
    wait_resolved(guest, "pair", &[&pair[0], &pair[1]])
}

/// Nothing renumbers in the lab: what a former boot left is written by hand.
fn drift_after_a_boot(guest: &mut Guest) -> Result<()> {
    const FILE: &str = "/var/lib/vfio-bindd/last-map.json";
    const DRIFTED: &str = "51104d32e2df487f90a53c74e60fc8f1";
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    guest.wait_until(
        SOON,
        &format!(
            "jq -e '.mappings.nic[0].address == \"{nic}\" and \
             (.mappings.nic[0].serial | startswith(\"52-54-00-\")) and \
             (.mappings.pair | length) == 2' {FILE}"
        ),
    )?;
    guest.ok(&format!(
        "systemctl stop vfio-bindd
         jq '.boot_id = \"another\" | .told = false | .mappings.nic[0].address = \"0000:77:00.0\"' \
             {FILE} >/run/lab-map && cp /run/lab-map {FILE}
         systemctl start vfio-bindd"
    ))?;
    let moved = format!("nic moved from 0000:77:00.0 to {nic} (same path)");
    let drift = format!("as 1 \"{moved}\"");
    for _ in 0..2 {
        guest.wait_until(
            SOON,
            &format!("vfio-bindctl status | grep -F 'since the last boot: {moved}'"),
        )?;
        same("Drift", &manager_property(guest, "Drift")?, &drift)?;
        // The second start of this boot shows it and does not tell it again.
        let told = guest.ok(&format!(
            "journalctl -b -o cat MESSAGE_ID={DRIFTED} VFIO_MAPPING=nic | grep -cF '{moved}'"
        ))?;
        same("how often it was told", &told, "1")?;
        guest.wait_until(SOON, &format!("jq -e .told {FILE}"))?;
        guest.ok("systemctl restart vfio-bindd")?;
    }
    guest.ok(&format!(
        "systemctl stop vfio-bindd; truncate --size=40 {FILE}; systemctl start vfio-bindd"
    ))?;
    guest.wait_until(
        SOON,
        &format!("[ -s {FILE}.bad ] && jq -e '.mappings.nic | length == 1' {FILE}"),
    )?;
    same("Drift", &manager_property(guest, "Drift")?, "as 0")?;
    guest
        .ok("journalctl -b -u vfio-bindd -o cat | grep -F 'last-map.json cannot be understood'")
        .map(drop)
}
