//! Functions for one owner: many who want few, and what ends a claim.

use std::time::Duration;

use super::{READER, SOON, ensure, fresh, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{PAIR, TWIN_A, TWIN_B};

/// On a host with ten NICs in IOMMU groups of their own.
pub(crate) const TEN: &[Scenario] = &[Scenario::of_package("claims_of_two_hundred", two_hundred)];

/// On the host with everything.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("claims_outlive_the_daemon", outlive_the_daemon),
    Scenario::of_package("claims_end_with_what_they_are_tied_to", end_with_their_tie),
    Scenario::of_package("claims_leave_alone_what_is_used", leave_alone_what_is_used),
    Scenario::of_package("claims_of_whom_polkit_allows", of_whom_polkit_allows),
];

const POOL_OF_TEN: &str =
    "[mapping.ten]\nmatch = { id = \"8086:10d3\", address = \"0000:00:*\" }\nexpect = 10\n";

/// What a claimer does with what it got: nobody else may have it meanwhile.
const WORK: &str = "
mkdir /run/lab-claims/$VFIO_BINDD_ADDRESSES || { echo \"$VFIO_BINDD_ADDRESSES twice\"; exit 9; }
sleep 0.3
rmdir /run/lab-claims/$VFIO_BINDD_ADDRESSES
";

/// Each of them has one for a moment, and none has one that another has.
fn two_hundred(guest: &mut Guest) -> Result<()> {
    fresh(guest, POOL_OF_TEN)?;
    guest.ok_for(
        "vfio-bindctl resolve ten --wait 60s",
        Duration::from_secs(70),
    )?;
    guest.write_file("/run/lab-claimer", WORK)?;
    let took = guest.ok_for(
        "mkdir -p /run/lab-claims; began=$(date +%s)
         for i in $(seq 200); do
             vfio-bindctl claim ten --owner \"vm $i\" --count 1 --wait 10min \
                 --exec sh /run/lab-claimer >/run/lab-claim.$i 2>&1 || echo failed >>/run/lab-claim.$i &
         done
         wait
         cat /run/lab-claim.* >&2
         [ -z \"$(cat /run/lab-claim.*)\" ] && echo $(( $(date +%s) - began ))",
        Duration::from_secs(600),
    )?;
    let left = guest.wait_until(
        SOON,
        "left=$(vfio-bindctl status --json | jq -Mc .mappings.ten.claims); echo \"$left\"
         [ \"$left\" = '{}' ]",
    )?;
    same("what is claimed in the end", &left, "{}")?;
    let granted = guest
        .ok("journalctl -b -u vfio-bindd -o cat --no-pager | grep -c 'of ten claimed by \"vm '")?;
    same("how often one was granted", &granted, "200")?;
    guest.figure(format!(
        "200 claimers at once on ten functions, each for 0.3 s: {took} s, none doubled, none left"
    ));
    fresh(guest, "")
}

const POOL: &str = "[mapping.pool]\nmatch = { path = [\"0000:00:10.0/00.0\", \
                    \"0000:00:11.0/00.0\"] }\nexpect = 2\n\n\
                    [mapping.pair]\nmatch = { path = \"0000:00:12.0/00.*\" }\n";

/// The host with two NICs in a pool, and their addresses.
fn pool(guest: &mut Guest) -> Result<[String; 2]> {
    fresh(guest, POOL)?;
    let two = [guest.behind(TWIN_A, 0)?, guest.behind(TWIN_B, 0)?];
    wait_resolved(guest, "pool", &[&two[0], &two[1]])?;
    Ok(two)
}

/// Claims one of the pool; its address.
fn one(guest: &mut Guest, owner: &str, more: &str) -> Result<String> {
    guest.ok(&format!(
        "vfio-bindctl claim pool --owner '{owner}' --count 1 {more}"
    ))
}

/// Fails unless nothing is free, in words that have these.
fn none_free(guest: &mut Guest, owner: &str, words: &str) -> Result<()> {
    let refused = guest.run(&format!(
        "vfio-bindctl claim pool --owner '{owner}' --count 1"
    ))?;
    ensure(
        refused.status == 3 && refused.stdout.is_empty() && refused.stderr.contains(words),
        || format!("wanted {words:?}: {}", refused.words()),
    )
}

fn outlive_the_daemon(guest: &mut Guest) -> Result<()> {
    let [first, second] = pool(guest)?;
    same("what web got", &one(guest, "web", "")?, &first)?;
    guest.ok("systemctl restart vfio-bindd; vfio-bindctl resolve pool --wait 20s")?;
    same("what db got", &one(guest, "db", "")?, &second)?;
    guest.ok("systemctl kill -s KILL vfio-bindd; sleep 2; vfio-bindctl resolve pool --wait 20s")?;
    none_free(guest, "more", &format!("{first} is claimed by 'web'"))?;
    same("what web has", &one(guest, "web", "")?, &first)?;
    let status = guest.ok("vfio-bindctl status")?;
    ensure(
        status.contains(&format!("{second} of pool is claimed by \"db\"")),
        || format!("status does not say who has it:\n{status}"),
    )?;
    let map = guest.ok("jq -Mc .mappings.pool.claims /run/vfio-bindd/map.json")?;
    let wanted = format!("{{\"{first}\":\"web\",\"{second}\":\"db\"}}");
    same("the claims in map.json", &map, &wanted)?;
    let refused = guest.run(&format!("vfio-bindctl restore {first}"))?;
    ensure(
        refused.status == 5 && refused.stderr.contains("claimed by 'web'"),
        || format!("what is claimed was given back: {}", refused.words()),
    )?;
    // Both of an IOMMU group.
    let pair = guest.ok("vfio-bindctl claim pair --owner web --count 1 --format slot")?;
    let slot = guest.behind(PAIR, 0)?;
    same("the slot", &format!("{pair}.0"), &slot)?;
    guest.ok("vfio-bindctl release web; vfio-bindctl release web; vfio-bindctl release db")?;
    same("what more got", &one(guest, "more", "")?, &first)?;
    for (wrong, status) in [
        ("gpu --owner a", 4),
        ("pool --owner a --count 3", 5),
        ("pool --owner a --count 0", 2),
        ("pool --owner ''", 2),
        ("pool --owner $'a\\nb'", 2),
        ("pool", 2),
        ("pool --owner a --address 0000:00:1f.0", 5),
        ("pool --owner a --pid 999999999", 5),
        ("pool --count 1 --exec /nowhere --flag", 1),
    ] {
        let output = guest.run(&format!("vfio-bindctl claim {wrong}"))?;
        ensure(
            output.status == status && output.stdout.is_empty() && !output.stderr.is_empty(),
            || format!("claim {wrong}: wanted {status}: {}", output.words()),
        )?;
    }
    fresh(guest, "")
}

fn end_with_their_tie(guest: &mut Guest) -> Result<()> {
    let [first, second] = pool(guest)?;
    guest.ok("sleep 1000 & echo $! >/run/lab-pid")?;
    same(
        "the first",
        &one(guest, "process", "--pid $(cat /run/lab-pid)")?,
        &first,
    )?;
    same("the second", &one(guest, "time", "--ttl 5s")?, &second)?;
    none_free(guest, "more", "is claimed by")?;
    // At once: whoever comes next must not find it taken.
    guest.ok("kill $(cat /run/lab-pid); wait; true")?;
    same("what more got", &one(guest, "more", "")?, &first)?;
    let wait = "vfio-bindctl claim pool --owner late --count 1 --wait 20s";
    same("what came free in time", &guest.ok(wait)?, &second)?;
    guest.ok("vfio-bindctl release more; vfio-bindctl release late")?;
    // A command's end frees, whatever ended it, and its exit status is passed on.
    let command = "vfio-bindctl claim pool --count 2 --exec sh -c 'echo $VFIO_BINDD_MAPPING \
                   $VFIO_BINDD_ADDRESSES; kill -KILL $$'";
    for _ in 0..3 {
        let output = guest.run(command)?;
        same(
            "its words",
            &output.stdout,
            &format!("pool {first} {second}"),
        )?;
        ensure(output.status == 137, || output.words())?;
    }
    // Whoever leaves the bus frees, too.
    let by_busctl = "busctl call org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager ClaimWith \
                     'ssa{sv}' pool guest 2 caller b true count u 1";
    guest.ok(by_busctl)?;
    guest.wait_until(
        SOON,
        "[ \"$(vfio-bindctl status --json | jq -Mc .mappings.pool.claims)\" = '{}' ]",
    )?;
    fresh(guest, "")
}

/// A QEMU that claimed nothing has the first, and Proxmox VE reserved the second.
fn leave_alone_what_is_used(guest: &mut Guest) -> Result<()> {
    let [first, second] = pool(guest)?;
    guest.ok(&format!(
        "systemd-run -q --unit=lab-qemu qemu-system-x86_64 -accel tcg -m 64 -M q35 -nodefaults \
             -display none -device vfio-pci,host={first}
         for i in $(seq 100); do
             ls -l /proc/$(systemctl show --value --property=MainPID lab-qemu)/fd 2>/dev/null |
                 grep -q vfio-device && exit 0
             sleep 0.2
         done; exit 1"
    ))?;
    same("what web got", &one(guest, "web", "")?, &second)?;
    none_free(guest, "more", "is in use: qemu-system-x86")?;
    guest.ok(&format!(
        "vfio-bindctl release web; mkdir -p /run/qemu-server
         echo \"{second} 100 time:$(( $(date +%s) + 100 ))\" >/run/qemu-server/pci-id-reservations"
    ))?;
    let claim = format!("vfio-bindctl claim pool --address {second} --owner");
    let refused = guest.run(&format!("{claim} more"))?;
    ensure(
        refused.status == 3
            && refused
                .stderr
                .contains("reserved by Proxmox VE for the start of VM 100"),
        || format!("what is reserved was granted: {}", refused.words()),
    )?;
    // The one that it is reserved for may have it.
    same(
        "what VM 100 got",
        &guest.ok(&format!("{claim} pve-100"))?,
        &second,
    )?;
    guest.ok("rm -r /run/qemu-server; systemctl stop lab-qemu")?;
    same("what more got", &one(guest, "more", "")?, &first)?;
    fresh(guest, "")
}

fn of_whom_polkit_allows(guest: &mut Guest) -> Result<()> {
    let [first, _] = pool(guest)?;
    let claim = format!("{READER} vfio-bindctl claim pool --owner theirs --count 1");
    let refused = guest.run(&claim)?;
    ensure(
        refused.status == 1 && refused.stderr.contains("org.vfiobindd1.claim"),
        || format!("nobody may claim: {}", refused.words()),
    )?;
    guest.write_file(
        "/etc/polkit-1/rules.d/50-lab.rules",
        "polkit.addRule(function(action, subject) {
             if (action.id == \"org.vfiobindd1.claim\" && subject.user == \"nobody\")
                 return polkit.Result.YES;
         });\n",
    )?;
    guest.ok("systemctl restart polkit")?;
    same("what nobody got", &guest.ok(&claim)?, &first)?;
    let reload = guest.run(&format!("{READER} vfio-bindctl reload"))?;
    ensure(
        reload.status == 1 && reload.stderr.contains("org.vfiobindd1.manage"),
        || format!("nobody may reload: {}", reload.words()),
    )?;
    one(guest, "web", "")?;
    let foreign = guest.run(&format!("{READER} vfio-bindctl release web"))?;
    ensure(foreign.status == 5, || {
        format!("nobody released what root claimed: {}", foreign.words())
    })?;
    guest.ok(&format!("{READER} vfio-bindctl release theirs"))?;
    guest.ok("rm /etc/polkit-1/rules.d/50-lab.rules; systemctl restart polkit")?;
    fresh(guest, "")
}
