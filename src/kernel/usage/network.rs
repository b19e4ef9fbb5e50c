//! Network interfaces of a function: whether they carry anything, or are meant
//! to.

use super::{Look, Subject};
use crate::{
    kernel::sysfs::{link_name, text},
    pci::usage::Fact,
};

pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let is_network = matches!(subject.class.base(), 0x02 | 0x0d);
    if is_network && subject.of("net").next().is_none() {
        let driver = subject.driver.to_owned();
        facts.push(Fact::Elsewhere { driver });
    }
    for device in subject.of("net") {
        let interface = || device.name.clone();
        let flags = text(look.sysfs, &format!("{}/flags", device.place))
            .and_then(|flags| u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok());
        match flags {
            // IFF_UP, include/uapi/linux/if.h.
            Some(flags) if flags & 1 == 0 => {}
            Some(_) => facts.push(Fact::LinkUp {
                interface: interface(),
            }),
            None => facts.push(Fact::Unchecked {
                text: format!("{} does not say whether it is up", device.name),
            }),
        }
        if let Some(master) = link_name(look.sysfs, &format!("{}/master", device.place)) {
            facts.push(Fact::PortOf {
                interface: interface(),
                master,
            });
        }
        let entries = look.sysfs.list(&device.place).unwrap_or_default();
        let uppers = entries
            .iter()
            .filter_map(|entry| entry.strip_prefix("upper_"));
        facts.extend(uppers.map(|upper| Fact::Carries {
            interface: interface(),
            upper: upper.to_owned(),
        }));
    }
    facts
}
