//! What is mounted, and what is swapped to.
//!
//! Source: proc_pid_mountinfo(5), proc_swaps(5), fs/btrfs/sysfs.c (the devices
//! of each mounted file system, v6.1).

use super::{
    identity::mapper_keys,
    key::{Key, device_number, path_keys, pool, unescaped},
    references::{References, Use},
    stack::mapper,
};
use crate::kernel::usage::{
    Look,
    files::{file, found},
};

const MOUNTS: &str = "/proc/1/mountinfo";
const SWAPS: &str = "/proc/swaps";
const BTRFS: &str = "fs/btrfs";

/// The mounts that PID 1 sees.
pub(super) fn mounts(look: Look<'_>, all: &mut References) {
    let table = file(look, MOUNTS, &mut all.unchecked);
    let mut pools: Option<Vec<Vec<Key>>> = None;
    for line in table.lines() {
        let Some(mount) = Mount::parse(line) else {
            let text = format!("{MOUNTS} has a line that is no mount: {line}");
            all.unchecked.push(text);
            continue;
        };
        let mut keys = mount.keys();
        if mount.kind == "btrfs" {
            let pools = pools.get_or_insert_with(|| btrfs(look, &mut all.unchecked));
            let shared = |members: &&mut Vec<Key>| keys.iter().any(|key| members.contains(key));
            if let Some(members) = pools.iter_mut().find(shared) {
                keys.extend(members.iter().cloned());
            }
        }
        let on = unescaped(mount.on);
        all.add(Use::Mounted { on }, keys);
    }
}

struct Mount<'a> {
    number: (u32, u32),
    on: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let number = device_number(fields.next()?)?;
        let on = fields.nth(1)?;
        // Any number of optional fields ends with a lone hyphen.
        fields.find(|field| *field == "-")?;
        Some(Self {
            number,
            on,
            kind: fields.next()?,
            source: fields.next()?,
        })
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        // A file system of several devices, or of none, has no device's number.
        let (major, minor) = self.number;
        if major != 0 {
            keys.push(Key::Number(major, minor));
        }
        let source = unescaped(self.source);
        if self.kind == "zfs" {
            keys.push(pool(&source));
        } else if source.starts_with("/dev/") {
            // bcachefs names all its devices: `/dev/sda:/dev/sdb`.
            let mut sources = source.split(":/dev/");
            keys.extend(path_keys(sources.next().unwrap_or_default()));
            keys.extend(sources.flat_map(|rest| path_keys(&format!("/dev/{rest}"))));
        }
        keys
    }
}

/// The names of all devices of each mounted btrfs: a mount names only one.
fn btrfs(look: Look<'_>, unchecked: &mut Vec<String>) -> Vec<Vec<Key>> {
    let list = |dir: &str, unchecked: &mut Vec<String>| {
        found(&format!("/sys/{dir}"), look.sysfs.list(dir), unchecked)
    };
    let mut pools = Vec::new();
    for uuid in list(BTRFS, unchecked) {
        let mut members = Vec::new();
        for name in list(&format!("{BTRFS}/{uuid}/devices"), unchecked) {
            members.push(Key::Path(format!("/dev/{}", name.replace('!', "/"))));
            let mapped = mapper(look, &name);
            members.extend(mapped.iter().flat_map(|mapper| mapper_keys(&mapper.name)));
        }
        pools.push(members);
    }
    pools
}

/// What the kernel swaps to. A swap file is on a mount.
pub(super) fn swaps(look: Look<'_>, all: &mut References) {
    let table = file(look, SWAPS, &mut all.unchecked);
    // The first line is a heading.
    for line in table.lines().skip(1) {
        let path = line.split_whitespace().next().unwrap_or_default();
        let path = unescaped(path);
        if path.starts_with("/dev/") {
            all.add(Use::Swap, path_keys(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let path = |path: &str| Key::Path(path.to_owned());
        for (line, wanted) in [
            (
                "30 1 259:2 / /var/a\\040b rw,relatime shared:1 master:2 - ext4 /dev/nvme0n1p2 rw",
                Some(vec![Key::Number(259, 2), path("/dev/nvme0n1p2")]),
            ),
            (
                "30 1 0:27 /@ / rw - btrfs /dev/sda1 rw",
                Some(vec![path("/dev/sda1")]),
            ),
            (
                "30 1 0:27 / / rw - zfs rpool/ROOT/pve-1 rw",
                Some(vec![Key::Pool("rpool".to_owned())]),
            ),
            (
                "30 1 0:27 / / rw - bcachefs /dev/sda:/dev/sdb rw",
                Some(vec![path("/dev/sda"), path("/dev/sdb")]),
            ),
            ("22 27 0:21 / /proc rw - proc proc rw", Some(vec![])),
            ("30 1 259:2 / /var rw,relatime", None),
            ("nonsense", None),
        ] {
            let keys = Mount::parse(line).map(|mount| mount.keys());
            assert_eq!(keys, wanted, "{line}");
        }
    }
}
