//! LVM: which volume group a physical volume is a part of, also while none of
//! its logical volumes is active.
//!
//! Never asks the LVM tools, which scan disks. Source: lvm2 2.03
//! lib/device/online.c (`online_pvid_file_create`: a file by the volume's UUID
//! with lines `8:3` and `vg:NAME`), lib/format_text/archiver.c (a backup by the
//! group's name, which lists the UUIDs of its physical volumes).

use crate::kernel::usage::{
    Look,
    files::{directory, file},
};

const ONLINE: &str = "/run/lvm/pvs_online";
const BACKUP: &str = "/etc/lvm/backup";

/// The backups of the host: a group's name and its text.
pub(super) type Backups = (Vec<(String, String)>, Vec<String>);

fn backups(look: Look<'_>) -> Backups {
    let mut unchecked = Vec::new();
    let names = directory(look, BACKUP, &mut unchecked);
    let read = |name: String| {
        let text = file(look, &format!("{BACKUP}/{name}"), &mut unchecked);
        (name, text)
    };
    (names.into_iter().map(read).collect::<Vec<_>>(), unchecked)
}

/// Adds the groups of the physical volume with `uuid`.
pub(super) fn groups(
    look: Look<'_>,
    uuid: &str,
    groups: &mut Vec<String>,
    unchecked: &mut Vec<String>,
) {
    let short: String = uuid.chars().filter(|c| *c != '-').collect();
    let online = file(look, &format!("{ONLINE}/{short}"), unchecked);
    let named = online.lines().find_map(|line| line.strip_prefix("vg:"));
    groups.extend(named.map(str::to_owned));
    let storage = &look.tables.storage;
    let (backups, unread) = storage.backups.get_or_init(|| backups(look));
    unchecked.extend(unread.iter().cloned());
    let id = format!("\"{uuid}\"");
    let listed = backups.iter().filter(|(_, text)| text.contains(&id));
    groups.extend(listed.map(|(name, _)| name.clone()));
    groups.sort();
    groups.dedup();
}
