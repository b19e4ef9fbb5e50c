//! Those who use a bound function: QEMU by hand and libvirt.

use std::time::Duration;

use super::{NIC, READER, SOON, ensure, fresh, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;

/// Scenarios about the programs that ask for addresses.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("client_nested_qemu", starts_nested_qemu),
    Scenario::of_package("client_libvirt", starts_libvirt_guest),
    Scenario::of_package("client_exit_codes", exit_codes),
    Scenario::of_package("client_terraform_and_shells", terraform_and_shells),
];

const CONFIG: &str = r#"[mapping.nic]
match = { id = "8086:10d3", numa = 1 }
"#;

/// Starts a QEMU in the guest that owns a function; returns what its monitor
/// says about it. `device` may be a shell expression.
pub(crate) fn nested_qemu(guest: &mut Guest, device: &str) -> Result<String> {
    nested_qemu_shows(guest, device, NIC)
}

/// The same for a function with this ID.
pub(crate) fn nested_qemu_shows(guest: &mut Guest, device: &str, id: &str) -> Result<String> {
    let output = guest.run_for(
        &format!(
            "device={device}; printf 'info pci\\nquit\\n' | timeout 90 qemu-system-x86_64 -accel tcg \
             -m 64 -M q35 -nodefaults -display none -monitor stdio -device vfio-pci,host=$device"
        ),
        Duration::from_secs(120),
    )?;
    ensure(output.status == 0 && output.stdout.contains(id), || {
        format!(
            "a nested QEMU with {device} does not show {id}: {}",
            output.words()
        )
    })?;
    let lines = output
        .stdout
        .lines()
        .filter(|line| line.contains("PCI device"));
    Ok(lines.map(str::trim).collect::<Vec<_>>().join("\n"))
}

/// Starts a libvirt guest with this hostdev element and ends it again. The
/// element may have shell expressions in it.
pub(crate) fn libvirt_guest(guest: &mut Guest, hostdev: &str, limit: Duration) -> Result<()> {
    let domain = format!(
        "<domain type='qemu'><name>lab</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{hostdev}\
         <memballoon model='none'/></devices></domain>"
    );
    guest.ok_for(
        &format!("cat >/run/lab-domain.xml <<LAB-DOMAIN\n{domain}\nLAB-DOMAIN\nvirsh create /run/lab-domain.xml"),
        limit,
    )?;
    // The card sits behind a root port, so it shows once the firmware has counted the buses.
    let shown = guest.wait_until(
        limit,
        &format!("virsh qemu-monitor-command lab --hmp info pci | grep {NIC}"),
    );
    guest.ok_for("virsh destroy lab", limit)?;
    shown
        .map(drop)
        .map_err(|error| format!("the libvirt guest does not show the card: {error}"))
}

fn starts_nested_qemu(guest: &mut Guest) -> Result<()> {
    fresh(guest, CONFIG)?;
    nested_qemu(guest, "$(vfio-bindctl resolve nic)")?;
    // The ready-made argument says the same.
    let argument = guest.ok("vfio-bindctl resolve nic --format qemu")?;
    let address = guest.ok("vfio-bindctl resolve nic")?;
    ensure(
        argument.contains("vfio-pci") && argument.contains(&address),
        || format!("--format qemu gives {argument:?} for {address}"),
    )
}

fn starts_libvirt_guest(guest: &mut Guest) -> Result<()> {
    fresh(guest, CONFIG)?;
    let element = guest.ok("vfio-bindctl resolve nic --format libvirt")?;
    ensure(
        element.contains("<hostdev") && element.contains("managed='no'"),
        || format!("--format libvirt gives no unmanaged hostdev: {element}"),
    )?;
    libvirt_guest(
        guest,
        "$(vfio-bindctl resolve nic --format libvirt)",
        Duration::from_secs(120),
    )
}

/// Those who do not speak D-Bus: an external program of Terraform, a shell, a unit.
fn terraform_and_shells(guest: &mut Guest) -> Result<()> {
    fresh(guest, CONFIG)?;
    let address = guest.ok("vfio-bindctl resolve nic --wait 20s")?;
    let answer = guest.ok(&format!(
        "echo '{{\"mapping\": \"nic\"}}' | {READER} vfio-bindctl terraform |
             jq -er '[.bdf, .id, .iommu_group, .driver, .node] | join(\" \")'"
    ))?;
    let group = guest.ok(&format!(
        "basename $(readlink /sys/bus/pci/devices/{address}/iommu_group)"
    ))?;
    let wanted = format!("{address} 8086:10d3 {group} vfio-pci lab");
    same("Terraform's answer", &answer, &wanted)?;
    for query in ["{\"mapping\": \"nobody\"}", "{}", "", "{\"mapping\": 1}"] {
        let output = guest.run(&format!("echo '{query}' | vfio-bindctl terraform"))?;
        ensure(
            output.status != 0 && output.stdout.is_empty() && output.stderr.lines().count() == 1,
            || format!("{query:?} is answered: {}", output.words()),
        )?;
    }
    let shell = guest.ok("sh -euc '. /run/vfio-bindd/map.env; echo $VFIO_BINDD_MAPPING_NIC'")?;
    same("what a shell has", &shell, &address)?;
    let unit = guest.ok(
        "systemd-run -q --pipe -p EnvironmentFile=/run/vfio-bindd/map.env \
             sh -c 'echo $VFIO_BINDD_MAPPING_NIC'",
    )?;
    same("what a unit has", &unit, &address)
}

/// A hook decides by the exit code, so the codes are part of the contract.
fn exit_codes(guest: &mut Guest) -> Result<()> {
    fresh(guest, "[mapping.none]\nmatch = { id = \"dead:beef\" }\n")?;
    guest.wait_until(SOON, "vfio-bindctl status >/dev/null")?;
    for (command, wanted) in [
        ("vfio-bindctl resolve nobody", 4),
        ("vfio-bindctl resolve none --wait 1s", 3),
        ("vfio-bindctl --no-such-option", 2),
        ("vfio-bindctl status", 0),
    ] {
        let output = guest.run(command)?;
        ensure(output.status == wanted, || {
            format!("`{command}`, wanted {wanted}: {}", output.words())
        })?;
        ensure(wanted == 0 || output.stdout.is_empty(), || {
            format!("`{command}` failed and still wrote data: {}", output.stdout)
        })?;
    }
    Ok(())
}
