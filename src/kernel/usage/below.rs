//! The devices that hang below a function.

use std::io;

use crate::kernel::sysfs::Sysfs;

/// A device below a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    /// The class or bus that it belongs to.
    pub(super) subsystem: String,
    /// The kernel's name for it.
    pub(super) name: String,
    /// Its directory in sysfs.
    pub(super) place: String,
}

/// Groups of attributes that have no devices in them, and of which a disk or a
/// network card can have hundreds.
const NO_DEVICES: &[&str] = &[
    "power",
    "queue",
    "queues",
    "mq",
    "statistics",
    "msi_irqs",
    "integrity",
    "trace",
    "holders",
    "slaves",
    "link",
];

/// The devices below the function in `dir`. A device's place in sysfs is below
/// its parent's, and its `subsystem` link says what it is
/// (Documentation/admin-guide/sysfs-rules.rst).
pub(super) fn below(sysfs: &dyn Sysfs, dir: &str) -> io::Result<Vec<Device>> {
    let mut found = Vec::new();
    let mut places = vec![dir.to_owned()];
    while let Some(place) = places.pop() {
        let names = match sysfs.directories(&place) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && place != dir => continue,
            names => names?,
        };
        for name in names {
            if NO_DEVICES.contains(&name.as_str()) {
                continue;
            }
            let child = format!("{place}/{name}");
            match sysfs.read_link(&format!("{child}/subsystem")) {
                Ok(link) => found.push(Device {
                    subsystem: link.rsplit('/').next().unwrap_or_default().to_owned(),
                    name,
                    place: child.clone(),
                }),
                // A mere group of attributes or devices, as `net`.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            places.push(child);
        }
    }
    found.sort();
    Ok(found)
}
