//! Disks of a function: whether the kernel, the host's configuration or what is
//! written on them speaks for a use.

use super::{Look, Subject, words};
use crate::{kernel::sysfs::text, pci::usage::Fact};

const ENOMEDIUM: i32 = rustix::io::Errno::NOMEDIUM.raw_os_error();

pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    for device in subject.of("block") {
        let attribute = |what: &str| text(look.sysfs, &format!("{}/{what}", device.place));
        if attribute("partition").is_some() {
            continue;
        }
        let disk = device.name.clone();
        // A path of an NVMe multipath namespace: the disk that is mounted hangs
        // below /sys/devices/virtual, where no function owns it.
        if attribute("hidden").as_deref() == Some("1") {
            let text = format!("{disk} is a path of a multipath disk");
            facts.push(Fact::Unchecked { text });
            continue;
        }
        match look.host.open_exclusively(&disk) {
            Ok(()) => {}
            // An empty drive.
            Err(error) if error.raw_os_error() == Some(ENOMEDIUM) => {}
            Err(error) => facts.push(Fact::DiskHeld {
                disk,
                error: words(&error),
            }),
        }
    }
    facts
}
