//! Keys: all the names that a block device goes by, and what a text that means
//! a device names.
//!
//! Owns the grammar of device specifications. Pure; never asks whether there is
//! such a device.
//!
//! Source: fstab(5), mount(8), systemd's src/shared/fstab-util.c
//! (`fstab_node_to_udev_node`, v257), dm-lvm names: lvm(8).

/// A name of a block device, or of what it is a part of. Two that are equal
/// mean the same; one device has many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Major and minor number.
    Number(u32, u32),
    /// A path in `/dev` without detours.
    Path(String),
    /// The UUID of a file system, array, pool, physical volume or LUKS header,
    /// squeezed.
    Uuid(String),
    /// The label of a file system, or an array's name.
    Label(String),
    /// The UUID of a partition, squeezed.
    PartUuid(String),
    /// The name of a partition.
    PartLabel(String),
    /// A ZFS pool's name.
    Pool(String),
    /// Whatever ZFS pool there is.
    AnyPool,
    /// An LVM volume group's name.
    VolumeGroup(String),
}

/// What `text` names, as fstab, crypttab or the kernel's command line spell a
/// device; nothing if it is no block device, as `tmpfs` or `host:/export`.
pub(super) fn keys(text: &str) -> Vec<Key> {
    let text = text.trim_matches(['"', '\'']);
    if text.starts_with("/dev/") {
        return path_keys(text);
    }
    if let Some(number) = number(text) {
        return vec![number];
    }
    let Some((tag, value)) = text.split_once('=') else {
        return Vec::new();
    };
    let value = value.trim_matches(['"', '\'']);
    match tag.to_ascii_uppercase().as_str() {
        "UUID" => vec![Key::Uuid(squeezed(value))],
        "LABEL" => vec![Key::Label(value.to_owned())],
        // Linux allows an offset: another partition of the same disk.
        "PARTUUID" => {
            let own = value.split('/').next().unwrap_or_default();
            vec![Key::PartUuid(squeezed(own))]
        }
        "PARTLABEL" => vec![Key::PartLabel(value.to_owned())],
        "ID" => vec![Key::Path(format!("/dev/disk/by-id/{value}"))],
        "ZFS" => vec![pool(value)],
        _ => Vec::new(),
    }
}

/// The pool of the data set `name`, `rpool` of `rpool/ROOT/pve-1`.
pub(super) fn pool(name: &str) -> Key {
    match name.split(['/', '@']).next().unwrap_or_default() {
        "AUTO" => Key::AnyPool,
        pool => Key::Pool(pool.to_owned()),
    }
}

/// What the path of a node names, by itself and by what it is made of.
pub(super) fn path_keys(path: &str) -> Vec<Key> {
    let path = straight(path);
    let mut keys = Vec::new();
    let parts: Vec<_> = path.split('/').skip(2).collect();
    match parts.as_slice() {
        ["disk", "by-uuid", uuid] => keys.push(Key::Uuid(squeezed(uuid))),
        ["disk", "by-label", label] => keys.push(Key::Label(unhexed(label))),
        ["disk", "by-partuuid", uuid] => keys.push(Key::PartUuid(squeezed(uuid))),
        ["disk", "by-partlabel", label] => keys.push(Key::PartLabel(unhexed(label))),
        ["block", text] => keys.extend(number(text)),
        ["zvol", name, ..] => keys.push(pool(name)),
        ["mapper", name] => {
            keys.extend(logical_volume(name).map(|(group, _)| Key::VolumeGroup(group)));
            // What systemd and dracut call an opened LUKS device.
            keys.extend(name.strip_prefix("luks-").map(|id| Key::Uuid(squeezed(id))));
        }
        [group, _] => keys.push(Key::VolumeGroup((*group).to_owned())),
        _ => {}
    }
    keys.push(Key::Path(path));
    keys
}

/// The path without empty parts, `.` and `..`.
fn straight(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn number(text: &str) -> Option<Key> {
    let (major, minor) = device_number(text)?;
    Some(Key::Number(major, minor))
}

/// `259:2` as major and minor number.
pub(super) fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The volume group and the logical volume of the device mapper's name: a `-`
/// stands between them, and is doubled where it is a part of either.
pub(super) fn logical_volume(name: &str) -> Option<(String, String)> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while let Some(found) = name.get(at..)?.find('-') {
        let dash = at + found;
        if bytes.get(dash + 1) != Some(&b'-') {
            let (group, volume) = (name.get(..dash)?, name.get(dash + 1..)?);
            let whole = !group.is_empty() && !volume.is_empty();
            return whole.then(|| (group.replace("--", "-"), volume.replace("--", "-")));
        }
        at = dash + 2;
    }
    None
}

/// A UUID for comparing: mdadm groups the digits otherwise than udev does, and
/// case is no matter.
pub(super) fn squeezed(uuid: &str) -> String {
    let digits = uuid.chars().filter(|c| !matches!(c, '-' | ':'));
    digits.map(|c| c.to_ascii_lowercase()).collect()
}

/// `text` with `\040`, as the kernel, fstab and crypttab write what would end a
/// field (fs/seq_file.c, `mangle_path`; getmntent(3)).
pub(super) fn unescaped(text: &str) -> String {
    decoded(text, "\\", 3, 8)
}

/// `text` with `\x20`, as udev writes what a link's name may not have
/// (systemd's src/shared/device-nodes.c, `encode_devnode_name`).
pub(super) fn unhexed(text: &str) -> String {
    decoded(text, "\\x", 2, 16)
}

fn decoded(text: &str, mark: &str, digits: usize, base: u32) -> String {
    if !text.contains(mark) {
        return text.to_owned();
    }
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(mark) {
        bytes.extend(before.as_bytes());
        let code = after.get(..digits);
        match code.and_then(|code| u8::from_str_radix(code, base).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(digits..).unwrap_or_default();
            }
            None => {
                bytes.extend(mark.as_bytes());
                rest = after;
            }
        }
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_names() {
        let path = |path: &str| Key::Path(path.to_owned());
        let uuid = |uuid: &str| Key::Uuid(uuid.to_owned());
        let group = |name: &str| Key::VolumeGroup(name.to_owned());
        let rows: &[(&str, Vec<Key>)] = &[
            ("tmpfs", vec![]),
            ("nas:/export", vec![]),
            ("//nas/share", vec![]),
            ("/swapfile", vec![]),
            ("SOMETHING=x", vec![]),
            ("/dev/sda1", vec![path("/dev/sda1")]),
            ("/dev//./x/../sda1", vec![path("/dev/sda1")]),
            ("259:2", vec![Key::Number(259, 2)]),
            (
                "/dev/block/8:1",
                vec![Key::Number(8, 1), path("/dev/block/8:1")],
            ),
            ("UUID=\"AB-cd\"", vec![uuid("abcd")]),
            ("uuid=ab", vec![uuid("ab")]),
            ("LABEL=a b", vec![Key::Label("a b".to_owned())]),
            (
                "PARTUUID=0a-01/PARTNROFF=1",
                vec![Key::PartUuid("0a01".to_owned())],
            ),
            ("PARTLABEL=x", vec![Key::PartLabel("x".to_owned())]),
            ("ID=nvme-X", vec![path("/dev/disk/by-id/nvme-X")]),
            ("ZFS=rpool/ROOT", vec![Key::Pool("rpool".to_owned())]),
            ("ZFS=AUTO", vec![Key::AnyPool]),
            (
                "/dev/disk/by-uuid/AB-cd",
                vec![uuid("abcd"), path("/dev/disk/by-uuid/AB-cd")],
            ),
            (
                "/dev/disk/by-label/a\\x20b",
                vec![
                    Key::Label("a b".to_owned()),
                    path("/dev/disk/by-label/a\\x20b"),
                ],
            ),
            (
                "/dev/mapper/my--vg-root",
                vec![group("my-vg"), path("/dev/mapper/my--vg-root")],
            ),
            (
                "/dev/mapper/luks-1-2",
                vec![group("luks"), uuid("12"), path("/dev/mapper/luks-1-2")],
            ),
            (
                "/dev/my-vg/root",
                vec![group("my-vg"), path("/dev/my-vg/root")],
            ),
            (
                "/dev/zvol/tank/swap",
                vec![Key::Pool("tank".to_owned()), path("/dev/zvol/tank/swap")],
            ),
        ];
        for (text, wanted) in rows {
            assert_eq!(keys(text), *wanted, "{text}");
        }
    }

    #[test]
    fn names_of_logical_volumes_are_taken_apart() {
        for (name, wanted) in [
            ("pve-root", Some(("pve", "root"))),
            ("my--vg-a--b", Some(("my-vg", "a-b"))),
            ("vg--", None),
            ("cryptroot", None),
            ("-x", None),
            ("x-", None),
        ] {
            let wanted = wanted.map(|(group, volume)| (group.to_owned(), volume.to_owned()));
            assert_eq!(logical_volume(name), wanted, "{name}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        for (text, wanted) in [
            ("/mnt/a\\040b", "/mnt/a b"),
            ("\\134040", "\\040"),
            ("\\303\\244", "ä"),
            ("a\\9b\\", "a\\9b\\"),
            ("\\777x", "\\777x"),
        ] {
            assert_eq!(unescaped(text), wanted, "{text}");
        }
        assert_eq!(unhexed("a\\x20b\\xzz"), "a b\\xzz");
    }
}
