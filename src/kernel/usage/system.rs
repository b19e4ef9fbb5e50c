//! What the machine itself needs of a function: terminals, clocks, watchdogs.

use super::{Look, Subject};
use crate::pci::usage::Fact;

pub(super) fn facts(_look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    for device in subject.devices {
        let device_name = device.name.clone();
        match device.subsystem.as_str() {
            "tpm" => facts.push(Fact::Tpm {
                device: device_name,
            }),
            "rtc" => facts.push(Fact::Rtc {
                device: device_name,
            }),
            "watchdog" => facts.push(Fact::WatchdogActive {
                device: device_name,
            }),
            "tty" => facts.push(Fact::ConsoleTerminal {
                terminal: device_name,
            }),
            _ => {}
        }
    }
    facts
}
