//! The D-Bus interface as an operator meets it, with the system's own tools.

use super::{READER, SOON, ensure, fresh, manager_property, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{PAIR, TWIN_NODE1};

/// Scenarios about the bus.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package(
        "bus_shows_the_documented_members",
        shows_the_documented_members,
    ),
    Scenario::of_package("bus_answers_calls", answers_calls),
    Scenario::of_package("bus_real_errors", real_errors),
    Scenario::of_package("bus_objects_of_mappings_and_functions", objects),
    Scenario::of_package("bus_readers_may_not_change", readers_may_not_change),
    Scenario::of_package("bus_answers_hooks_without_it", answers_hooks),
    Scenario::of_package("bus_outlives_the_broker", outlives_the_broker),
];

const POLICY: &str = r#"[mapping.nic]
description = "the NIC on node 1"
match = { id = "8086:10d3", numa = 1 }

[mapping.two-ports]
match = { path = "0000:00:12.0/00.0" }
functions = "slot"
"#;

const MANAGER: &str = "org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager";

fn shows_the_documented_members(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let busctl = guest.ok(&format!("busctl introspect --no-pager {MANAGER}"))?;
    let gdbus = guest
        .ok("gdbus introspect --system --dest org.vfiobindd1 --object-path /org/vfiobindd1")?;
    for member in [
        "Resolve",
        "ResolveWait",
        "Plan",
        "Reload",
        "Rescan",
        "Claim",
        "ClaimWith",
        "Release",
        "Version",
        "State",
        "Generation",
        "Map",
        "Iommu",
        "MappingChanged",
        "Changed",
    ] {
        ensure(busctl.contains(&format!(".{member} ")), || {
            format!("no {member} in:\n{busctl}")
        })?;
        ensure(gdbus.contains(member), || {
            format!("no {member} in:\n{gdbus}")
        })?;
    }
    // Arguments have names, or the picture is of no use to a reader.
    ensure(gdbus.contains("mapping"), || {
        format!("arguments without names:\n{gdbus}")
    })?;
    let tree = guest.ok("busctl tree --list --no-pager org.vfiobindd1")?;
    ensure(tree.contains("/org/vfiobindd1/mapping/nic"), || {
        format!("no mapping in:\n{tree}")
    })
}

fn answers_calls(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let answer = guest.ok(&format!("busctl call {MANAGER} Resolve s nic"))?;
    same("Resolve", &answer, &format!("as 1 \"{nic}\""))?;
    let answer = guest.ok(&format!("busctl call {MANAGER} ResolveWait st nic 5000000"))?;
    same("ResolveWait", &answer, &format!("as 1 \"{nic}\""))?;
    same("Iommu", &manager_property(guest, "Iommu")?, "b true")?;
    same("State", &manager_property(guest, "State")?, "s \"ready\"")?;
    let map = manager_property(guest, "Map")?;
    ensure(map.contains(&nic) && map.contains("two-ports"), || {
        format!("Map is {map}")
    })?;
    guest.ok(&format!(
        "busctl --json=short call {MANAGER} Plan | jq -er '.data[0]' | jq -e ."
    ))?;
    let before = manager_property(guest, "Generation")?;
    guest.ok(&format!("busctl call {MANAGER} Rescan"))?;
    guest.ok(&format!("busctl call {MANAGER} Reload"))?;
    wait_resolved(guest, "nic", &[&nic])?;
    let after = manager_property(guest, "Generation")?;
    let number = |text: &str| {
        text.trim_start_matches("t ")
            .parse::<u64>()
            .unwrap_or_default()
    };
    ensure(number(&after) >= number(&before), || {
        format!("the generation went from {before} to {after}")
    })
}

fn real_errors(guest: &mut Guest) -> Result<()> {
    fresh(guest, "[mapping.none]\nmatch = { id = \"dead:beef\" }\n")?;
    for (call, error) in [
        ("Resolve nobody", "org.vfiobindd1.Error.UnknownMapping"),
        ("ResolveWait none 1000000", "org.vfiobindd1.Error."),
    ] {
        let output = guest.run(&format!(
            "gdbus call --system --dest org.vfiobindd1 --object-path /org/vfiobindd1 \
             --method org.vfiobindd1.Manager.{call}"
        ))?;
        ensure(output.status != 0 && output.stderr.contains(error), || {
            format!("{call}, wanted {error}: {}", output.words())
        })?;
    }
    Ok(())
}

fn objects(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let first = guest.behind(PAIR, 0)?;
    // sd-bus's rule: what is no letter or digit becomes its code.
    let mapping = "org.vfiobindd1 /org/vfiobindd1/mapping/two_2dports org.vfiobindd1.Mapping";
    let name = guest.ok(&format!("busctl get-property {mapping} Name"))?;
    same("Name", &name, "s \"two-ports\"")?;
    let state = guest.ok(&format!("busctl get-property {mapping} State"))?;
    same("State", &state, "s \"bound\"")?;
    let addresses = guest.ok(&format!("busctl get-property {mapping} Addresses"))?;
    ensure(
        addresses.starts_with("as 2 ") && addresses.contains(&first),
        || format!("Addresses is {addresses}"),
    )?;

    let path = first.replace([':', '.'], "_");
    let function =
        format!("org.vfiobindd1 /org/vfiobindd1/function/pci_{path} org.vfiobindd1.Function");
    for (property, wanted) in [
        ("Address", format!("s \"{first}\"")),
        ("VendorId", format!("q {}", 0x8086)),
        ("DeviceId", format!("q {}", 0x10d3)),
        ("Class", format!("u {}", 0x0002_0000)),
        ("NumaNode", "i -1".to_owned()),
        ("Driver", "s \"vfio-pci\"".to_owned()),
        ("Mappings", "as 1 \"two-ports\"".to_owned()),
    ] {
        let found = guest.ok(&format!("busctl get-property {function} {property}"))?;
        same(property, &found, &wanted)?;
    }
    let managed = guest.ok(
        "busctl call org.vfiobindd1 /org/vfiobindd1 org.freedesktop.DBus.ObjectManager GetManagedObjects",
    )?;
    ensure(
        managed.contains("two_2dports") && managed.contains(&path),
        || format!("GetManagedObjects gives {managed}"),
    )
}

fn readers_may_not_change(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    guest.ok(&format!("{READER} busctl get-property {MANAGER} State"))?;
    guest.ok(&format!("{READER} busctl call {MANAGER} Resolve s nic"))?;
    guest.ok(&format!("{READER} vfio-bindctl resolve nic"))?;
    let methods = guest.ok(&format!(
        "busctl introspect --no-legend {MANAGER} | awk '$2 == \"method\" {{ print $1, $3 }}'"
    ))?;
    let reads = [".Resolve", ".ResolveWait", ".Plan", ".Explain"];
    let changes = methods.lines().filter_map(|line| line.split_once(' '));
    let changes: Vec<_> = changes.filter(|(name, _)| !reads.contains(name)).collect();
    ensure(changes.len() >= 8, || {
        format!("what changes something is only {changes:?}")
    })?;
    for (method, signature) in changes {
        let method = method.trim_start_matches('.');
        let arguments = match signature {
            "s" => " s nic",
            "ssu" => " ssu nic vm 0",
            "ssa{sv}" => " 'ssa{sv}' nic vm 0",
            _ => "",
        };
        denied(guest, &format!("call {MANAGER} {method}{arguments}"))?;
    }
    denied(guest, &format!("set-property {MANAGER} State s failed"))?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")
}

/// The socket of hooks, which is there whether the bus is or not.
fn answers_hooks(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    // Whoever has no bus is answered as well.
    let resolve = "unshare --mount sh -c 'mount -t tmpfs none /run/dbus; vfio-bindctl resolve nic'";
    same("the answer without a bus", &guest.ok(resolve)?, &nic)?;
    if guest.run("command -v varlinkctl")?.status != 0 {
        return Ok(());
    }
    let socket = "/run/vfio-bindd/org.vfiobindd1";
    let shown = guest.ok(&format!(
        "{READER} varlinkctl introspect {socket} org.vfiobindd1"
    ))?;
    for part in ["method Resolve(", "method Claim(", "error NoneFree"] {
        ensure(shown.contains(part), || format!("no {part} in {shown}"))?;
    }
    let call = |method: &str, parameters: &str| {
        format!("varlinkctl --json=short call {socket} org.vfiobindd1.{method} '{parameters}'")
    };
    let resolve = call("Resolve", r#"{"mapping":"nic"}"#);
    let answer = guest.ok(&format!("{READER} {resolve}"))?;
    same(
        "the answer",
        &answer,
        &format!(r#"{{"addresses":["{nic}"]}}"#),
    )?;
    let claim = call("Claim", r#"{"mapping":"nic","owner":"vm"}"#);
    let refused = guest.run(&format!("{READER} {claim}"))?;
    ensure(
        refused.status != 0 && refused.words().contains("AccessDenied"),
        || format!("a reader claims: {}", refused.words()),
    )?;
    guest.ok(&claim)?;
    let held = guest.ok("vfio-bindctl status --json | jq -Mc .mappings.nic.claims")?;
    same("the claims", &held, &format!(r#"{{"{nic}":"vm"}}"#))?;
    guest.ok(&call("Release", r#"{"owner":"vm"}"#))?;
    fresh(guest, "")
}

/// A reader who does this with busctl is told that he may not.
fn denied(guest: &mut Guest, what: &str) -> Result<()> {
    let refused = guest.run(&format!("{READER} busctl {what}"))?;
    let words = refused.stderr.to_lowercase();
    // No property can be set, and to zbus one to be set is not there.
    let told = [
        "only root may do this",
        "access",
        "denied",
        "unknown property",
    ];
    ensure(
        refused.status != 0 && told.iter().any(|word| words.contains(word)),
        || format!("{what} by a reader: {}", refused.words()),
    )
}

/// The binding goes on without a bus, and the name comes back with it.
fn outlives_the_broker(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let pid = "systemctl show --value --property=MainPID vfio-bindd";
    let before = guest.ok(pid)?;
    guest.ok("systemctl restart dbus.service")?;
    guest.wait_until(SOON, &format!("busctl get-property {MANAGER} State"))?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the daemon's process", &guest.ok(pid)?, &before)
}
