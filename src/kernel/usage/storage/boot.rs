//! What the kernel's command line and its setting for hibernation name.
//!
//! Source: Documentation/admin-guide/kernel-parameters.rst, init/do_mounts.c
//! (`name_to_dev_t`, v6.1), dracut.cmdline(7), systemd-cryptsetup-generator(8),
//! initramfs-tools(7).

use super::{
    key::{Key, keys, pool, squeezed},
    references::{Loose, References, Use},
};
use crate::kernel::usage::{
    Look,
    files::{file, found},
};

const COMMAND_LINE: &str = "/proc/cmdline";
const RESUME: &str = "power/resume";

/// What a parameter's value is.
#[derive(Clone, Copy)]
enum Value {
    /// A device, in any of the ways of initramfs tools.
    Device,
    /// The beginning of a UUID, maybe with a name behind `=`.
    UuidStart,
    /// A device and a name behind `:`.
    Named,
    /// A volume group, maybe with a logical volume.
    VolumeGroup,
}

const PARAMETERS: &[(&str, Value)] = &[
    ("root", Value::Device),
    ("resume", Value::Device),
    ("mount.usr", Value::Device),
    ("zfs", Value::Device),
    ("luks.uuid", Value::UuidStart),
    ("luks.name", Value::UuidStart),
    ("rd.luks.uuid", Value::UuidStart),
    ("rd.luks.name", Value::UuidStart),
    ("rd.md.uuid", Value::UuidStart),
    ("rd.lvm.vg", Value::VolumeGroup),
    ("rd.lvm.lv", Value::VolumeGroup),
    ("cryptdevice", Value::Named),
];

/// The parameters of the running kernel.
pub(super) fn command_line(look: Look<'_>, all: &mut References) {
    let line = file(look, COMMAND_LINE, &mut all.unchecked);
    for parameter in parameters(&line) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let known = PARAMETERS.iter().find(|(known, _)| *known == name);
        let Some((_, kind)) = known else {
            continue;
        };
        let (keys, loose) = kind.names(value);
        all.add_loosely(Use::KernelParameter { parameter }, keys, loose);
    }
}

/// The words of the command line; a quote keeps spaces together and is left out
/// (lib/cmdline.c, `next_arg`, v6.1).
fn parameters(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match (c, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (c, _) if c.is_whitespace() && !quoted => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

impl Value {
    fn names(self, value: &str) -> (Vec<Key>, Vec<Loose>) {
        match self {
            Self::Device => (device(value), Vec::new()),
            Self::Named => {
                let named = value.split(':').next().unwrap_or_default();
                (device(named), Vec::new())
            }
            Self::VolumeGroup => {
                let group = value.split('/').next().unwrap_or_default();
                (vec![Key::VolumeGroup(group.to_owned())], Vec::new())
            }
            Self::UuidStart => {
                let uuid = value.split('=').next().unwrap_or_default();
                let uuid = squeezed(uuid.strip_prefix("luks-").unwrap_or(uuid));
                let named = !uuid.is_empty();
                let loose = named.then_some(Loose::UuidStart(uuid));
                (Vec::new(), loose.into_iter().collect())
            }
        }
    }
}

/// What `root=` and the like name.
fn device(value: &str) -> Vec<Key> {
    let value = value.strip_prefix("block:").unwrap_or(value);
    if let Some(set) = value.strip_prefix("zfs:") {
        return vec![pool(set.strip_prefix("AUTO").map_or(set, |_| "AUTO"))];
    }
    let named = keys(value);
    if !named.is_empty() {
        return named;
    }
    if value.is_empty() || value.starts_with('/') {
        return Vec::new();
    }
    // `root=801`: the number in hexadecimal, as `new_decode_dev` takes it.
    let hex = value.strip_prefix("0x").unwrap_or(value);
    if let Ok(number) = u32::from_str_radix(hex, 16) {
        let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
        return vec![Key::Number((number & 0xf_ff00) >> 8, minor)];
    }
    // `zfs=rpool/ROOT`; what is none is no pool's name.
    vec![pool(value)]
}

/// The device that the kernel would wake up from.
pub(super) fn resume(look: Look<'_>, all: &mut References) {
    let path = format!("/sys/{RESUME}");
    let number = found(&path, look.sysfs.read(RESUME), &mut all.unchecked);
    let number = String::from_utf8_lossy(&number).trim().to_owned();
    if number != "0:0" {
        let parameter = Use::KernelParameter { parameter: path };
        all.add(parameter, keys(&number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parameters_name() {
        let uuid = Key::Uuid("ab12".to_owned());
        let group = Key::VolumeGroup("pve".to_owned());
        let pool = |name: &str| Key::Pool(name.to_owned());
        for (value, wanted) in [
            ("UUID=ab-12", vec![uuid.clone()]),
            ("block:UUID=ab-12", vec![uuid]),
            ("ZFS=rpool/ROOT/pve-1", vec![pool("rpool")]),
            ("zfs:rpool/x", vec![pool("rpool")]),
            ("zfs:AUTO", vec![Key::AnyPool]),
            ("801", vec![Key::Number(8, 1)]),
            ("0x10010301", vec![Key::Number(259, 0x1_0001)]),
            ("259:3", vec![Key::Number(259, 3)]),
            ("/nowhere", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(device(value), wanted, "{value}");
        }
        let (keys, _) = Value::VolumeGroup.names("pve/root");
        assert_eq!(keys, [group]);
        for value in ["luks-AB-12", "ab12=name", "ab:12"] {
            let (_, loose) = Value::UuidStart.names(value);
            let [Loose::UuidStart(start)] = loose.as_slice() else {
                panic!("{value}");
            };
            assert_eq!(start, "ab12");
        }
        let (keys, loose) = Value::UuidStart.names("");
        assert!(keys.is_empty() && loose.is_empty(), "names everything");
    }

    #[test]
    fn quotes_keep_a_parameter_together() {
        let line = "quiet root=\"LABEL=a b\" \"resume=x y\"\n";
        let wanted = ["quiet", "root=LABEL=a b", "resume=x y"];
        assert_eq!(parameters(line), wanted);
    }
}
