//! `--demo`: the package at work, told step by step, with a shell at the end.

use std::env;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::guest::Guest;
use crate::scenarios::clients::nested_qemu;
use crate::topology::{Release, SPARE, Topology};
use crate::{Result, console};

/// A small config: one NIC chosen by its NUMA node, a card with two functions,
/// and whatever of this kind gets plugged in.
const CONFIG: &str = r#"[mapping.nic]
description = "the NIC on NUMA node 1"
match = { id = "8086:10d3", numa = 1 }

[mapping.pair]
description = "the two-function card"
match = { path = "0000:00:12.0/*" }
functions = "slot"

[mapping.plugged]
description = "whatever is plugged into this slot"
match = { path = "0000:00:18.0/00.0" }
"#;

/// Runs the demonstration.
pub(crate) fn run(package: Option<PathBuf>) -> Result<()> {
    let package = package.ok_or("the demonstration needs VFIO_BINDD_DEB to name the package")?;
    say("Booting an emulated host with an IOMMU and two NUMA nodes (half a minute)");
    let mut guest = Guest::boot("demo", &Topology::full(Release::Trixie), Some(&package))?;

    say("Its network cards and their drivers");
    show(&mut guest, "lspci -nnk -d 8086:10d3")?;

    say("Installing the package and writing /etc/vfio-bindd/config.toml");
    guest.installed()?;
    guest.write_file("/etc/vfio-bindd/config.toml", CONFIG)?;
    show(&mut guest, "cat /etc/vfio-bindd/config.toml")?;

    say("Restarting the host: the devices are to be bound before any guest starts");
    guest.reboot()?;
    show(&mut guest, "vfio-bindctl status")?;
    show(&mut guest, "lspci -nnk -d 8086:10d3")?;
    show(
        &mut guest,
        "busctl get-property org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager Map",
    )?;

    say("A VM's start hook asks for an address");
    let address = show(&mut guest, "vfio-bindctl resolve nic")?;

    say("A nested QEMU guest that owns the device");
    println!("{}", nested_qemu(&mut guest, &address)?);

    say("Plugging a card in that the config wants: nobody runs a command");
    let plugged = guest.plug(SPARE, "late")?;
    guest.wait_until(
        Duration::from_secs(20),
        &format!("readlink /sys/bus/pci/devices/{plugged}/driver | grep -q vfio-pci"),
    )?;
    show(&mut guest, "vfio-bindctl resolve plugged")?;
    say("And out again");
    guest.unplug("late")?;
    sleep(Duration::from_secs(1));
    show(&mut guest, "vfio-bindctl status")?;

    if env::var("RUN").is_ok_and(|value| value == "1") {
        return Ok(());
    }
    say("The rest is yours: vfio-bindctl --help, busctl introspect org.vfiobindd1 /org/vfiobindd1");
    console::hand_over(&guest.console_socket())
}

fn say(words: &str) {
    println!("\n== {words}");
}

/// Runs a command as a person would, with what it says.
fn show(guest: &mut Guest, command: &str) -> Result<String> {
    println!("$ {command}");
    let output = guest.run(command)?;
    let words = [output.stdout.as_str(), output.stderr.as_str()];
    for text in words.iter().filter(|text| !text.is_empty()) {
        println!("{text}");
    }
    if output.status == 0 {
        return Ok(output.stdout);
    }
    Err(format!("`{command}` ended with status {}", output.status))
}
