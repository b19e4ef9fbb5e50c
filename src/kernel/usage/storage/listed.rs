//! What the host's configuration has disks for, mounted or not.
//!
//! Source: fstab(5), crypttab(5), systemd.mount(5), systemd.swap(5),
//! initramfs-tools's `RESUME` (initramfs.conf(5)).

use super::{
    key::{Key, keys, pool, unescaped},
    mdadm,
    references::{References, Use},
};
use crate::kernel::usage::{
    Look,
    files::{directory, file},
};

const UNITS: &str = "/etc/systemd/system";

/// All such files.
pub(super) fn all(look: Look<'_>, all: &mut References) {
    fstab(look, all);
    crypttab(look, all);
    units(look, all);
    hibernation(look, all);
    mdadm::arrays(look, all);
}

/// Adds what `path` lists with `entry`.
pub(super) fn add(all: &mut References, path: &str, entry: &str, keys: Vec<Key>) {
    let listed = Use::Listed {
        file: path.to_owned(),
        entry: entry.to_owned(),
    };
    all.add(listed, keys);
}

/// The fields of the lines of a table, without comments and escapes.
fn table(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().map(unescaped).collect())
}

/// The values in comma-separated `options` that one of `names` has.
fn options<'o>(options: &'o str, names: &[&str]) -> impl Iterator<Item = &'o str> {
    let pairs = options.split(',').filter_map(|one| one.split_once('='));
    pairs.filter_map(|(name, value)| names.contains(&name).then_some(value))
}

fn fstab(look: Look<'_>, all: &mut References) {
    const PATH: &str = "/etc/fstab";
    let text = file(look, PATH, &mut all.unchecked);
    for fields in table(&text) {
        let field = |index: usize| fields.get(index).map_or("", String::as_str);
        let (device, on, kind) = (field(0), field(1), field(2));
        let mut named = keys(device);
        if kind == "zfs" && named.is_empty() {
            named.push(pool(device));
        }
        // Devices beside the first one: a journal's, or a member's.
        let more = ["logdev", "rtdev", "journal_path", "device"];
        named.extend(options(field(3), &more).flat_map(keys));
        let entry = if kind == "swap" { "swap" } else { on };
        add(all, PATH, entry, named);
    }
}

fn crypttab(look: Look<'_>, all: &mut References) {
    const PATH: &str = "/etc/crypttab";
    let text = file(look, PATH, &mut all.unchecked);
    for fields in table(&text) {
        let field = |index: usize| fields.get(index).map_or("", String::as_str);
        let (name, device, key) = (field(0), field(1), field(2));
        let mut named = keys(device);
        // A key can be a device, or a file on one: `/keys/root:LABEL=stick`.
        named.extend(keys(key));
        named.extend(key.split_once(':').into_iter().flat_map(|(_, on)| keys(on)));
        named.extend(options(field(3), &["header"]).flat_map(keys));
        add(all, PATH, name, named);
    }
}

/// Units of the administrator, and what is dropped in beside them.
fn units(look: Look<'_>, all: &mut References) {
    for name in directory(look, UNITS, &mut all.unchecked) {
        let path = format!("{UNITS}/{name}");
        let is_ours = |name: &str| name.ends_with(".mount") || name.ends_with(".swap");
        if is_ours(&name) {
            unit(look, &path, &name, all);
        } else if let Some(of) = name.strip_suffix(".d").filter(|name| is_ours(name)) {
            let dropped = directory(look, &path, &mut all.unchecked);
            for part in dropped.iter().filter(|part| part.ends_with(".conf")) {
                unit(look, &format!("{path}/{part}"), of, all);
            }
        }
    }
}

fn unit(look: Look<'_>, path: &str, name: &str, all: &mut References) {
    let text = file(look, path, &mut all.unchecked);
    let setting = |wanted: &'static str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let ours = pairs.filter(move |(setting, _)| setting.trim() == wanted);
        ours.map(|(_, value)| value.trim())
    };
    let on = setting("Where").next_back().unwrap_or(name);
    let is_zfs = setting("Type").next_back() == Some("zfs");
    for what in setting("What") {
        let mut named = keys(what);
        if is_zfs && named.is_empty() {
            named.push(pool(what));
        }
        add(all, path, on, named);
    }
}

/// Where Debian's initramfs wakes the machine up from.
fn hibernation(look: Look<'_>, all: &mut References) {
    const PATH: &str = "/etc/initramfs-tools/conf.d/resume";
    let text = file(look, PATH, &mut all.unchecked);
    let lines = text.lines().map(str::trim);
    for device in lines.filter_map(|line| line.strip_prefix("RESUME=")) {
        add(all, PATH, "hibernation", keys(device));
    }
}
