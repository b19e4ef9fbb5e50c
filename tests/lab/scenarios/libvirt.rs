//! libvirt's domains: definitions that follow the functions, and the hook that
//! stops a start rather than have it go wrong.

use std::time::Duration;

use super::{NIC as NIC_ID, SOON, ensure, fresh, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{PAIR, TWIN_NODE1};

/// What holds there, each after the one before.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::of_package(
    "libvirt_hook_stops_a_start",
    hook_stops_a_start,
)];

/// Those that take longest.
pub(crate) const MORE: &[Scenario] = &[
    Scenario::of_package("libvirt_definition_is_mended", definition_is_mended),
    Scenario::of_package("libvirt_definition_by_metadata", definition_by_metadata),
    Scenario::of_package("libvirt_two_domains_one_function", two_domains),
    Scenario::of_package("libvirt_daemon_is_down", daemon_is_down),
    Scenario::of_package("libvirt_slot_is_one_device", slot_is_one_device),
];

const CONFIG: &str = r#"[mapping.nic]
match = { id = "8086:10d3", numa = 1 }

[mapping.pair]
match = { path = "0000:00:12.0/00.*" }
"#;

/// A domain starts and ends within that, under emulation.
const LONG: Duration = Duration::from_secs(120);

/// A host whose libvirt calls the hook; the address of the NIC.
fn host(guest: &mut Guest) -> Result<String> {
    // What a failed scenario left running would never let go of its card.
    guest.ok_for(
        "for name in $(virsh list --all --name); do
             virsh destroy $name; virsh undefine $name
         done 2>/dev/null; true",
        LONG,
    )?;
    fresh(guest, CONFIG)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let restart = guest.ok("vfio-bindctl libvirt enable")?;
    guest.ok_for(&restart, LONG)?;
    Ok(nic)
}

/// Defines a domain with these devices. The text may have shell expressions in it.
fn define(guest: &mut Guest, name: &str, devices: &str) -> Result<()> {
    let domain = format!(
        "<domain type='qemu'>\n  <name>{name}</name>\n  <memory unit='MiB'>64</memory>\n  \
         <vcpu>1</vcpu>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  \
         <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n{devices}    \
         <memballoon model='none'/>\n  </devices>\n</domain>"
    );
    guest
        .ok(&format!(
            "virsh define --validate /dev/stdin <<LAB-DOMAIN\n{domain}\nLAB-DOMAIN"
        ))
        .map(drop)
}

/// What the domain asks for, said as the documentation has it.
fn ask(guest: &mut Guest, name: &str, mapping: &str) -> Result<()> {
    let command = format!(
        "virsh metadata {name} --config --uri https://vfio-bindd.org/libvirt/1 --key vfio-bindd \
         --set '<devices><mapping name=\"{mapping}\"/></devices>'"
    );
    guest.ok(&command).map(drop)
}

fn start(guest: &mut Guest, name: &str) -> Result<()> {
    guest.ok_for(&format!("virsh start {name}"), LONG).map(drop)
}

/// A start that fails, in words that have these; nothing is claimed then.
fn no_start(guest: &mut Guest, name: &str, words: &[&str]) -> Result<String> {
    let output = guest.run_for(&format!("virsh start {name}"), LONG)?;
    ensure(output.status != 0, || format!("{name} started"))?;
    for word in words {
        ensure(output.stderr.contains(word), || {
            format!("no {word:?} in {}", output.stderr)
        })?;
    }
    Ok(output.stderr)
}

/// What a domain's monitor says of its cards.
fn cards(guest: &mut Guest, name: &str, count: usize) -> Result<String> {
    guest.wait_until(
        LONG,
        &format!(
            "virsh qemu-monitor-command {name} --hmp info pci >/run/lab-pci
             grep -B1 {NIC_ID} /run/lab-pci; [ $(grep -c {NIC_ID} /run/lab-pci) = {count} ]"
        ),
    )
}

/// Waits until it is claimed for whom it should be.
fn wait_claims(guest: &mut Guest, mapping: &str, claims: &str) -> Result<()> {
    let command = format!(
        "found=$(vfio-bindctl status --json | jq -Mc .mappings.{mapping}.claims)
         echo \"$found\"; [ \"$found\" = '{claims}' ]"
    );
    guest.wait_until(SOON, &command).map(drop)
}

fn undefine(guest: &mut Guest, name: &str) -> Result<()> {
    guest.ok_for(
        &format!("virsh destroy {name} 2>/dev/null; virsh undefine {name}"),
        LONG,
    )?;
    Ok(())
}

fn hostdev(address: &str, alias: &str) -> String {
    let parts: Vec<_> = address.split([':', '.']).collect();
    let [domain, bus, slot, function] = parts[..] else {
        return String::new();
    };
    format!(
        "    <hostdev mode='subsystem' type='pci' managed='no'>\n      <source>\n        \
         <address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>\n      \
         </source>\n      <alias name='{alias}'/>\n    </hostdev>\n"
    )
}

/// From a definition without the device to a domain that runs with it and ends.
fn definition_by_metadata(guest: &mut Guest) -> Result<()> {
    let nic = host(guest)?;
    define(guest, "web", "")?;
    // Not a function of ours, and not a look at the daemon.
    start(guest, "web")?;
    guest.ok_for("virsh destroy web", LONG)?;
    ask(guest, "web", "nic")?;
    no_start(
        guest,
        "web",
        &[&format!(
            "has no {nic}; run: vfio-bindctl libvirt update web"
        )],
    )?;
    let shown = guest.ok("vfio-bindctl libvirt update web --dry-run")?;
    same(
        "what was defined in a dry run",
        &guest.ok("virsh dumpxml --inactive web | grep -c '<hostdev' || true")?,
        "0",
    )?;
    same(
        "what is changed",
        &guest.ok("vfio-bindctl libvirt update web")?,
        &shown,
    )?;
    ensure(
        shown.contains("+       <alias name='ua-vfio-bindd-nic-0'/>"),
        || shown.clone(),
    )?;
    same(
        "what is changed then",
        &guest.ok("vfio-bindctl libvirt update web")?,
        "",
    )?;
    start(guest, "web")?;
    cards(guest, "web", 1)?;
    let claims = format!("{{\"{nic}\":\"libvirt-web\"}}");
    wait_claims(guest, "nic", &claims)?;
    let refused = guest.run("vfio-bindctl claim nic --owner other")?;
    ensure(
        refused.status == 3 && refused.stderr.contains("is claimed by 'libvirt-web'"),
        || refused.words(),
    )?;
    // A libvirt that starts anew finds it running, and leaves it so.
    guest.ok_for("systemctl restart libvirtd", LONG)?;
    same(
        "its state",
        &guest.ok_for("virsh domstate web", LONG)?,
        "running",
    )?;
    wait_claims(guest, "nic", &claims)?;
    let told = guest.run("vfio-bindctl libvirt update web")?;
    ensure(
        told.status == 0 && told.words().trim() == "status 0",
        || told.words(),
    )?;
    guest.ok_for("virsh destroy web", LONG)?;
    wait_claims(guest, "nic", "{}")?;
    // A process that dies frees as well.
    start(guest, "web")?;
    wait_claims(guest, "nic", &claims)?;
    guest.ok("kill -KILL $(cat /run/libvirt/qemu/web.pid)")?;
    wait_claims(guest, "nic", "{}")?;
    guest.wait_until(SOON, "virsh domstate web | grep -q 'shut off'")?;
    undefine(guest, "web")
}

fn hook_stops_a_start(guest: &mut Guest) -> Result<()> {
    let nic = host(guest)?;
    define(guest, "web", &hostdev(&nic, "ua-vfio-bindd-nic-0"))?;
    define(guest, "plain", &hostdev(&nic, "ua-mine"))?;
    guest.ok("vfio-bindctl restore nic")?;
    let words = format!("is {nic}, and mapping 'nic' is released");
    let told = no_start(
        guest,
        "web",
        &["vfio-bindctl: hostdev 'ua-vfio-bindd-nic-0' ", &words],
    )?;
    no_start(
        guest,
        "plain",
        &["vfio-bindctl: hostdev 'ua-mine' ", &words],
    )?;
    let line = told.lines().find(|line| line.contains("vfio-bindctl: "));
    guest.figure(format!(
        "virsh start of a domain whose function is not bound: {}",
        line.unwrap_or_default()
    ));
    guest.ok("vfio-bindctl rescan --take; vfio-bindctl resolve nic --wait 20s")?;
    start(guest, "plain")?;
    wait_claims(guest, "nic", &format!("{{\"{nic}\":\"libvirt-plain\"}}"))?;
    undefine(guest, "plain")?;
    undefine(guest, "web")
}

/// As after a card more: the definition has the address that it had before.
fn definition_is_mended(guest: &mut Guest) -> Result<()> {
    let nic = host(guest)?;
    define(
        guest,
        "web",
        &hostdev("0000:7f:00.0", "ua-vfio-bindd-nic-0"),
    )?;
    let mend = "vfio-bindctl libvirt update web";
    let words = format!("is 0000:7f:00.0, and mapping 'nic' is {nic} now; run: {mend}");
    no_start(guest, "web", &[&words])?;
    guest.ok(mend)?;
    start(guest, "web")?;
    cards(guest, "web", 1)?;
    // Of one that runs the definition can be mended, too.
    let bus = nic.split(':').nth(1).unwrap_or_default();
    guest.ok(&format!(
        "virsh dumpxml --inactive web | sed \"s/bus='0x{bus}'/bus='0x7f'/\" >/run/lab-web.xml
         virsh define /run/lab-web.xml"
    ))?;
    let output = guest.run(mend)?;
    ensure(
        output.status == 0 && output.stderr.contains("from its next start"),
        || output.words(),
    )?;
    undefine(guest, "web")
}

fn two_domains(guest: &mut Guest) -> Result<()> {
    let nic = host(guest)?;
    for name in ["web", "db"] {
        define(guest, name, &hostdev(&nic, "ua-vfio-bindd-nic-0"))?;
    }
    start(guest, "web")?;
    no_start(
        guest,
        "db",
        &[&format!("{nic} is claimed by 'libvirt-web'")],
    )?;
    guest.ok_for("virsh destroy web", LONG)?;
    start(guest, "db")?;
    wait_claims(guest, "nic", &format!("{{\"{nic}\":\"libvirt-db\"}}"))?;
    undefine(guest, "db")?;
    // And whoever claimed without libvirt.
    guest.ok("vfio-bindctl claim nic --owner somebody")?;
    no_start(guest, "web", &[&format!("{nic} is claimed by 'somebody'")])?;
    wait_claims(guest, "nic", &format!("{{\"{nic}\":\"somebody\"}}"))?;
    guest.ok("vfio-bindctl release somebody")?;
    undefine(guest, "web")
}

fn daemon_is_down(guest: &mut Guest) -> Result<()> {
    let nic = host(guest)?;
    define(guest, "web", &hostdev(&nic, "ua-vfio-bindd-nic-0"))?;
    define(guest, "plain", "")?;
    start(guest, "web")?;
    wait_claims(guest, "nic", &format!("{{\"{nic}\":\"libvirt-web\"}}"))?;
    guest.ok("systemctl stop vfio-bindd")?;
    start(guest, "plain")?;
    // No daemon ends a domain that runs, and none is waited for at an end.
    guest.ok_for("systemctl restart libvirtd", LONG)?;
    same(
        "its state",
        &guest.ok_for("virsh domstate web", LONG)?,
        "running",
    )?;
    guest.ok_for("virsh destroy web; virsh destroy plain", LONG)?;
    no_start(
        guest,
        "web",
        &["is not running", "would start with whatever is there"],
    )?;
    guest.ok("systemctl start vfio-bindd; vfio-bindctl resolve nic --wait 20s")?;
    start(guest, "web")?;
    undefine(guest, "web")?;
    undefine(guest, "plain")
}

/// Two functions of a slot, pasted and by metadata, are two functions of one device
/// of the guest.
fn slot_is_one_device(guest: &mut Guest) -> Result<()> {
    host(guest)?;
    let slot = guest.behind(PAIR, 0)?;
    let other = guest.behind(PAIR, 1)?;
    wait_resolved(guest, "pair", &[&slot, &other])?;
    define(
        guest,
        "pasted",
        "$(vfio-bindctl resolve pair --format libvirt)\n",
    )?;
    define(guest, "asked", "")?;
    ask(guest, "asked", "pair")?;
    guest.ok("vfio-bindctl libvirt update asked")?;
    for name in ["pasted", "asked"] {
        start(guest, name)?;
        let shown = cards(guest, name, 2)?;
        let mut places = shown.lines().filter_map(|line| {
            let (place, function) = line
                .trim()
                .trim_end_matches(':')
                .split_once(", function ")?;
            Some((place.to_owned(), function.to_owned()))
        });
        let (first, second) = (places.next(), places.next());
        let pair = first.zip(second);
        ensure(
            pair.is_some_and(|(one, two)| one.0 == two.0 && one.1 == "0" && two.1 == "1"),
            || format!("{name}: {shown}"),
        )?;
        let claims = format!("{{\"{slot}\":\"libvirt-{name}\",\"{other}\":\"libvirt-{name}\"}}");
        wait_claims(guest, "pair", &claims)?;
        undefine(guest, name)?;
    }
    // Other scenarios have a libvirt without the hook.
    guest.ok_for(
        "rm /etc/libvirt/hooks/qemu.d/vfio-bindd; systemctl restart libvirtd",
        LONG,
    )?;
    fresh(guest, "")
}
