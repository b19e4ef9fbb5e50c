//! Early: what is named on the host, and found nowhere yet.
//!
//! A disk that udev has not looked at yet, as at boot, has no names but the
//! kernel's. It may be the one that fstab names by a UUID: as long as something
//! that is named is not found, such a disk counts as in use.

use std::collections::BTreeSet;

use super::{
    identity::{identity, mapper_keys},
    key::{Key, device_number},
    references::{References, Use},
    stack::mapper,
};
use crate::kernel::{
    sysfs::text,
    usage::{Look, files::found},
};

/// All block devices, by the kernel's names.
const BLOCK: &str = "class/block";

/// What is named by the configuration or to the kernel, and by no block device
/// that there is: the first of it, as a clause about the device.
pub(super) fn missing(look: Look<'_>, references: &References) -> Option<String> {
    let mut unchecked = Vec::new();
    let names = found(
        &format!("/sys/{BLOCK}"),
        look.sysfs.list(BLOCK),
        &mut unchecked,
    );
    let mut seen = BTreeSet::new();
    for name in names {
        let number = text(look.sysfs, &format!("{BLOCK}/{name}/dev"));
        let Some(number) = number.and_then(|number| device_number(&number)) else {
            continue;
        };
        let known = identity(look, &name, number, &mut unchecked);
        let mut keys = known.keys;
        keys.extend(known.groups.into_iter().map(Key::VolumeGroup));
        if let Some(mapper) = mapper(look, &name) {
            keys.extend(mapper_keys(&mapper.name));
            keys.extend(mapper.group().map(Key::VolumeGroup));
        }
        seen.extend(references.naming(&keys));
    }
    // What could not be asked could have been found.
    if let Some(text) = unchecked.pop() {
        return Some(format!("cannot be told from others: {text}"));
    }
    let unseen = references.all().filter(|(index, _)| !seen.contains(index));
    unseen.into_iter().find_map(|(_, one)| match one {
        // The kernel has these devices, whatever they are called.
        Use::Mounted { .. } | Use::Swap => None,
        Use::KernelParameter { parameter } => Some(format!("may be what {parameter} names")),
        Use::Listed { file, entry } => Some(format!("may be what {file} has for {entry}")),
    })
}
