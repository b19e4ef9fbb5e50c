//! Identity: by which names a block device goes, and what it carries, as udev
//! found it out.
//!
//! Owns the reading of udev's database. Never reads the disk itself: that can
//! hang. Source: systemd's src/libsystemd/sd-device/sd-device.c
//! (`device_read_db_internal`), rules.d/60-persistent-storage.rules (v252,
//! v257); the names of values: libblkid, util-linux 2.38.

use std::io;

use super::{
    key::{Key, logical_volume, pool, squeezed, unhexed},
    lvm,
};
use crate::kernel::usage::{Look, words};

/// Where udev keeps what it knows.
pub(super) const DATABASE: &str = "/run/udev/data";

/// A block device as it is known to others.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// All its names.
    pub(super) keys: Vec<Key>,
    /// What it carries, as `ext4`; `None` where udev found nothing.
    pub(super) carries: Option<String>,
    /// Whether udev has a record of it.
    pub(super) recorded: bool,
    /// The volume groups that it is a part of.
    pub(super) groups: Vec<String>,
}

/// What goes by the kernel's `name` and by `number`; what could not be found
/// out is said in `unchecked`.
pub(super) fn identity(
    look: Look<'_>,
    name: &str,
    number: (u32, u32),
    unchecked: &mut Vec<String>,
) -> Identity {
    let mut identity = Identity::default();
    let (major, minor) = number;
    identity.keys.push(Key::Number(major, minor));
    // Names with a slash in /dev have a '!' in sysfs.
    let node = format!("/dev/{}", name.replace('!', "/"));
    identity.keys.push(Key::Path(node));
    let path = format!("{DATABASE}/b{major}:{minor}");
    identity.recorded = true;
    match look.host.read(&path) {
        Ok(record) => {
            let record = String::from_utf8_lossy(&record);
            let volume = identity.take(&record);
            if let Some(uuid) = volume {
                lvm::groups(look, &uuid, &mut identity.groups, unchecked);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => identity.recorded = false,
        Err(error) => {
            let error = words(&error);
            unchecked.push(format!(
                "what udev knows of {name} ({path}) cannot be read: {error}"
            ));
        }
    }
    identity
}

/// The paths that the device mapper's `name` stands for.
pub(super) fn mapper_keys(name: &str) -> Vec<Key> {
    let mut keys = vec![Key::Path(format!("/dev/mapper/{name}"))];
    let volume = logical_volume(name);
    keys.extend(volume.map(|(group, volume)| Key::Path(format!("/dev/{group}/{volume}"))));
    keys
}

impl Identity {
    /// Takes what a record of udev's says; the UUID of a physical volume is
    /// handed back.
    fn take(&mut self, record: &str) -> Option<String> {
        let (mut uuid, mut label, mut ambivalent) = (None, None, None);
        for line in record.lines() {
            if let Some(link) = line.strip_prefix("S:") {
                self.keys.push(Key::Path(format!("/dev/{link}")));
                continue;
            }
            let Some((name, value)) = line
                .strip_prefix("E:")
                .and_then(|entry| entry.split_once('='))
            else {
                continue;
            };
            match name {
                "ID_FS_TYPE" => self.carries = Some(value.to_owned()),
                // More than one kind of thing is on it, and udev chose none.
                "ID_FS_AMBIVALENT" => ambivalent = Some(value.to_owned()),
                "ID_FS_UUID" | "ID_FS_UUID_ENC" | "ID_FS_UUID_SUB" | "MD_UUID" => {
                    if name == "ID_FS_UUID" {
                        uuid = Some(value.to_owned());
                    }
                    self.keys.push(Key::Uuid(squeezed(&unhexed(value))));
                }
                "ID_FS_LABEL" | "ID_FS_LABEL_ENC" | "MD_NAME" => {
                    let value = unhexed(value);
                    if name != "MD_NAME" {
                        label = Some(value.clone());
                    }
                    self.keys.push(Key::Label(value));
                }
                "ID_PART_ENTRY_UUID" => self.keys.push(Key::PartUuid(squeezed(value))),
                "ID_PART_ENTRY_NAME" => self.keys.push(Key::PartLabel(unhexed(value))),
                "LVM_VG_NAME_COMPLETE" | "LVM_VG_NAME_INCOMPLETE" => {
                    self.groups.push(value.to_owned());
                }
                _ => {}
            }
        }
        if self.carries.is_none() {
            self.carries = ambivalent.map(|kinds| format!("more than one thing ({kinds})"));
        }
        match self.carries.as_deref() {
            Some("zfs_member") => {
                self.keys.push(Key::AnyPool);
                self.keys.extend(label.as_deref().map(pool));
                None
            }
            Some("LVM2_member") => uuid,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_names_and_contents() {
        let mut zfs = Identity::default();
        let volume = zfs.take(
            "S:disk/by-id/nvme-X-part3\nI:12\nE:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\n\
             E:ID_FS_UUID=123\nE:ID_PART_ENTRY_NAME=a\\x20b\nE:ODD\nV:1\n",
        );
        assert_eq!(volume, None);
        assert_eq!(zfs.carries.as_deref(), Some("zfs_member"));
        let named = |key| zfs.keys.contains(&key);
        assert!(named(Key::Path("/dev/disk/by-id/nvme-X-part3".to_owned())));
        assert!(named(Key::Pool("rpool".to_owned())));
        assert!(named(Key::Uuid("123".to_owned())));
        assert!(named(Key::PartLabel("a b".to_owned())));
        let mut lvm = Identity::default();
        let volume = lvm.take("E:ID_FS_TYPE=LVM2_member\nE:ID_FS_UUID=a-b\n");
        assert_eq!(volume.as_deref(), Some("a-b"));
        let mut two = Identity::default();
        two.take("E:ID_FS_AMBIVALENT=filesystem:ext4:1.0 raid:zfs_member:5000\n");
        let carries = two.carries.unwrap();
        assert!(carries.contains("zfs_member"), "{carries}");
        let mut none = Identity::default();
        none.take("E:ID_PART_TABLE_TYPE=gpt\n");
        assert_eq!(none.carries, None);
    }
}
