//! What the machine itself needs of a function: terminals, clocks, watchdogs,
//! the way to the BMC, devices made for virtual machines, DMA channels.
//!
//! Open terminals are `nodes`'.

use std::{cell::OnceCell, collections::BTreeSet};

use super::{
    Device, Look, Subject,
    files::{Files, attribute},
};
use crate::pci::usage::Fact;

/// What is read once for all functions.
#[derive(Debug, Default)]
pub(super) struct Tables {
    consoles: OnceCell<Result<BTreeSet<String>, String>>,
}

/// What speaks for a use by the machine itself.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if subject.class.subclass() == 0x0c07 {
        facts.push(Fact::Ipmi {
            device: subject.driver.unwrap_or_default().to_owned(),
        });
    }
    for device in subject.devices {
        let name = device.name.clone();
        match device.subsystem.as_str() {
            "tpm" => facts.push(Fact::Tpm { device: name }),
            "rtc" => facts.push(Fact::Rtc { device: name }),
            "ipmi" => facts.push(Fact::Ipmi { device: name }),
            "mdev" => facts.push(Fact::Mediated { device: name }),
            "watchdog" => facts.extend(watchdog(look, device)),
            "tty" => facts.extend(terminal(look, device)),
            "dma" => facts.extend(channel(look, device)),
            _ => {}
        }
    }
    facts
}

/// A watchdog that runs resets the machine when nobody feeds it any more
/// (Documentation/ABI/testing/sysfs-class-watchdog, v6.12).
fn watchdog(look: Look<'_>, device: &Device) -> Option<Fact> {
    let name = &device.name;
    let text = match attribute(look.sysfs, &format!("{}/state", device.place)) {
        Ok(Some(state)) if state == "active" => {
            let device = name.clone();
            return Some(Fact::WatchdogActive { device });
        }
        Ok(Some(state)) if state == "inactive" => return None,
        Ok(_) => format!("the watchdog {name} does not say whether it runs"),
        Err(text) => text,
    };
    Some(Fact::Unchecked { text })
}

fn terminal(look: Look<'_>, device: &Device) -> Option<Fact> {
    let consoles = &look.tables.system.consoles;
    match consoles.get_or_init(|| read_consoles(look)) {
        Ok(consoles) => consoles
            .contains(&device.name)
            .then(|| Fact::ConsoleTerminal {
                terminal: device.name.clone(),
            }),
        Err(text) => Some(Fact::Unchecked { text: text.clone() }),
    }
}

/// The terminals that the kernel's console is on: /sys/class/tty/console/active
/// has those that take its messages, /proc/consoles all.
fn read_consoles(look: Look<'_>) -> Result<BTreeSet<String>, String> {
    let active = attribute(look.sysfs, "class/tty/console/active")?.unwrap_or_default();
    let mut files = Files::new(look.host);
    let all = files.read("/proc/consoles");
    if let Some(trouble) = files.troubles.pop() {
        return Err(trouble);
    }
    let all = all
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let active = active.split_whitespace();
    Ok(active.chain(all).map(str::to_owned).collect())
}

/// A DMA channel that a part of the kernel holds
/// (Documentation/ABI/testing/sysfs-class-dma `in_use`, v6.12).
fn channel(look: Look<'_>, device: &Device) -> Option<Fact> {
    let users = attribute(look.sysfs, &format!("{}/in_use", device.place));
    let text = match users {
        Ok(Some(users)) if users == "0" => return None,
        Ok(Some(_)) => format!("the kernel uses the DMA channel {}", device.name),
        Ok(None) => format!(
            "the DMA channel {} does not say whether it is used",
            device.name
        ),
        Err(text) => text,
    };
    Some(Fact::Unchecked { text })
}
