//! Of which functions all that they do for the host can be seen from outside
//! the kernel.

use super::{Look, Subject};
use crate::{kernel::sysfs::link_name, pci::usage::Fact};

/// Why the function cannot be found idle, whatever hangs below it. A crypto
/// engine, a DMA channel or a management interface works for the kernel itself,
/// and nothing in sysfs says whether it does.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if !is_provable(subject) {
        let driver = subject.driver.unwrap_or_default();
        facts.push(format!(
            "{driver} holds it, and nobody can tell whether the host needs it"
        ));
    }
    // As the disks behind a VMD, each of which has a driver of its own.
    if let Some(function) = subject.of("pci").next() {
        facts.push(format!("the function {} hangs below it", function.name));
    }
    let virtio = subject.of("virtio").filter(|_| is_provable(subject));
    for device in virtio {
        let driver = link_name(look.sysfs, &format!("{}/driver", device.place));
        if let Some(driver) = driver.filter(|driver| !VIRTIO.contains(&driver.as_str())) {
            facts.push(format!(
                "{driver} holds {}, and nobody can tell whether the host needs it",
                device.name
            ));
        }
    }
    let unchecked = |text| Fact::Unchecked { text };
    facts.into_iter().map(unchecked).collect()
}

/// Drivers of virtio devices whose use is seen as that of any other disk,
/// interface, display or card. A file system of virtiofs is mounted without any
/// device, and the class of its function is that of storage.
const VIRTIO: &[&str] = &[
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_gpu",
    "virtio-gpu",
    "virtio_snd",
];

/// Kinds of functions that do what they do through devices that are seen.
fn is_provable(subject: &Subject<'_>) -> bool {
    let has = |subsystem: &str| {
        let mut devices = subject.devices.iter();
        devices.any(|device| device.subsystem == subsystem)
    };
    match subject.class.base() {
        0x01..=0x04 | 0x0d => true,
        // Accelerators of these work for whoever opens their node; another may
        // be a crypto engine of the kernel, as hisi_zip.
        0x12 => ["accel", "drm", "habanalabs"].into_iter().any(has),
        _ => match (subject.class.subclass(), subject.class.value() & 0xff) {
            (0x0700 | 0x0701, _) => true,
            // Cards with many ports.
            (0x0702, _) => has("tty"),
            // UHCI, OHCI, EHCI and xHCI; neither USB4, which tunnels PCI, nor
            // the side of a device.
            (0x0c03, interface) => matches!(interface, 0x00 | 0x10 | 0x20 | 0x30),
            // `system` says that it is in use, always.
            (0x0c07, _) => true,
            _ => false,
        },
    }
}
