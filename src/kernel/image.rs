//! Image: what an initramfs holds of vfio-bindd, and whether that is what the
//! host has now.
//!
//! Owns the stamp that whoever makes an image leaves for each kernel in
//! `images` of the state directory, since nobody can look into an image that is
//! compressed. A stamp is written before its image is complete: one that is newer
//! than the image is of one that was never finished. Never changes an image.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use serde::{Deserialize, Serialize};

use super::{config_files, host::Host, usage::words, verdicts::Verdicts};
use crate::policy::doctor::image::{Carried, Holding};

/// Where the daemon keeps what outlasts a boot.
const STATE: &str = "/var/lib/vfio-bindd";
/// Where the stamps are in it, each under the release of its kernel.
const STAMPS: &str = "images";

const FORMAT: u32 = 1;
const CONFIG: &str = "etc/vfio-bindd";
const VERDICTS: &str = "var/lib/vfio-bindd/verdicts.json";

/// Who makes images with an early stage in them: a file of ours, the program that
/// uses it, and how it is run for one kernel.
const MAKERS: [(&str, &str, &str); 2] = [
    (
        "/usr/share/initramfs-tools/hooks/vfio-bindd",
        "/usr/sbin/mkinitramfs",
        "update-initramfs -u -k",
    ),
    (
        "/usr/lib/dracut/modules.d/90vfio-bindd/module-setup.sh",
        "/usr/bin/dracut",
        "dracut --force --kver",
    ),
];

/// What was put into an image, in so many digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    #[serde(rename = "vfio-bindd-image")]
    format: u32,
    config: String,
    verdicts: String,
}

/// The initramfs of the kernel of this release, if there is one.
#[must_use]
pub fn file(host: &dyn Host, kernel: &str) -> Option<String> {
    let places = [
        format!("/boot/initrd.img-{kernel}"),
        format!("/boot/initramfs-{kernel}.img"),
    ];
    places.into_iter().find(|place| host.stat(place).is_ok())
}

/// Leaves a stamp in the directory `state` of what the tree at `tree` holds, which
/// becomes the image of the kernel of this release.
///
/// # Errors
/// With a clause that says what cannot be read or written; the image has no stamp
/// then.
pub fn put_stamp(host: &dyn Host, tree: &str, state: &Path, kernel: &str) -> Result<(), String> {
    let stamp = stamp(host, tree)?;
    let folder = state.join(STAMPS);
    let place = folder.join(kernel);
    let new = folder.join(format!("{kernel}.new"));
    let written = serde_json::to_vec(&stamp)
        .map_err(io::Error::from)
        .and_then(|text| {
            fs::create_dir_all(&folder)?;
            fs::write(&new, text)?;
            // Whoever makes images may do it under a mask that hides them.
            fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
            fs::rename(&new, &place)
        });
    written.map_err(|error| format!("{}: {}", place.display(), words(&error)))
}

/// What the initramfs in `file`, of the kernel of this release, holds; `None`
/// where no early stage is put into images.
///
/// # Errors
/// With a clause that says what cannot be read.
pub fn carried(host: &dyn Host, kernel: &str, file: &str) -> Result<Option<Carried>, String> {
    let is_there = |path: &str| host.stat(path).is_ok();
    let maker = MAKERS
        .iter()
        .find(|(ours, program, _)| is_there(ours) && is_there(program));
    let Some((_, _, renew)) = maker else {
        return Ok(None);
    };
    Ok(Some(Carried {
        renew: format!("{renew} {kernel}"),
        holding: holding(host, kernel, file)?,
    }))
}

fn holding(host: &dyn Host, kernel: &str, file: &str) -> Result<Holding, String> {
    let place = format!("{STATE}/{STAMPS}/{kernel}");
    let Some(bytes) = present(host, &place)? else {
        return Ok(Holding::Nothing);
    };
    let modified = |path: &str| {
        let found = host.stat(path);
        let found = found.map_err(|error| format!("{path}: {}", words(&error)))?;
        Ok::<_, String>(found.modified)
    };
    // One of another format is of another version, whose stage is another one.
    let Ok(held) = serde_json::from_slice::<Stamp>(&bytes) else {
        return Ok(Holding::Nothing);
    };
    let now = stamp(host, "")?;
    Ok(
        if held.format != FORMAT || modified(&place)? > modified(file)? {
            Holding::Nothing
        } else if held.config != now.config {
            Holding::OtherConfig
        } else if held.verdicts != now.verdicts {
            Holding::OtherVerdicts
        } else {
            Holding::Same
        },
    )
}

fn stamp(host: &dyn Host, tree: &str) -> Result<Stamp, String> {
    let mut config = Digits::default();
    let main = format!("{tree}/{CONFIG}/config.toml");
    let folder = format!("{tree}/{CONFIG}/config.d");
    let mut files = vec![("config.toml".to_owned(), main)];
    let names = match host.list(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|error| format!("{folder}: {}", words(&error)))?,
    };
    let drop_ins = names
        .into_iter()
        .filter(|name| config_files::is_drop_in(name));
    files.extend(drop_ins.map(|name| {
        let path = format!("{folder}/{name}");
        (name, path)
    }));
    for (name, path) in files {
        if let Some(text) = present(host, &path)? {
            config.add(name.as_bytes());
            config.add(&text);
        }
    }
    let mut verdicts = Digits::default();
    let bytes = present(host, &format!("{tree}/{VERDICTS}"))?.unwrap_or_default();
    // What does not count is as good as none.
    if let Ok(read) = serde_json::from_slice::<Verdicts>(&bytes)
        && read.ready
    {
        let functions = serde_json::to_vec(&read.functions);
        verdicts.add(&functions.map_err(|error| error.to_string())?);
    }
    Ok(Stamp {
        format: FORMAT,
        config: config.text(),
        verdicts: verdicts.text(),
    })
}

/// The file's content, `None` if there is none.
fn present(host: &dyn Host, path: &str) -> Result<Option<Vec<u8>>, String> {
    match host.read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{path}: {}", words(&error))),
        Ok(bytes) => Ok(Some(bytes)),
    }
}

/// FNV-1a with 64 bits: tells texts apart that nobody makes alike on purpose, and
/// is the same in every build, which the standard library's hash need not be.
struct Digits(u64);

impl Default for Digits {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digits {
    /// Adds these bytes and an end, so that what is cut elsewhere is another text.
    fn add(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        for byte in bytes.iter().chain(&length.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::host::ThisHost;

    #[test]
    fn digits_are_the_same_in_every_build() {
        let mut digits = Digits::default();
        assert_eq!(digits.text(), "cbf29ce484222325");
        digits.add(b"a");
        assert_eq!(digits.text(), "b9e95bb63a7ed51b");
        let [mut one, mut other] = [Digits::default(), Digits::default()];
        one.add(b"ab");
        one.add(b"c");
        other.add(b"a");
        other.add(b"bc");
        assert_ne!(one.text(), other.text());
    }

    #[test]
    fn a_stamp_is_of_names_and_texts_and_of_verdicts_that_count() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().to_str().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut seen = vec![stamp(&ThisHost, tree).unwrap()];
        let mut next = |name: &str, text: &str, changes: [bool; 2]| {
            put(name, text);
            let now = stamp(&ThisHost, tree).unwrap();
            let before = seen.last().unwrap();
            let found = [now.config != before.config, now.verdicts != before.verdicts];
            assert_eq!(found, changes, "{name}");
            seen.push(now);
        };
        next("etc/vfio-bindd/config.toml", "", [true, false]);
        next("etc/vfio-bindd/config.toml", "[mapping.a]", [true, false]);
        next("etc/vfio-bindd/config.d/10.toml", "x", [true, false]);
        next("etc/vfio-bindd/config.d/10.toml.old", "y", [false, false]);
        let of = |boot: &str, ready: bool, functions: &str| {
            format!(
                "{{\"vfio-bindd-verdicts\": 1, \"boot_id\": \"{boot}\", \"ready\": {ready}, \
                 \"functions\": [{functions}]}}"
            )
        };
        let one = r#"{"address": "0000:01:00.0", "path": "0000:00:01.0/00.0", "id": "8086:10d3",
                      "subsystem": null, "class": "020000", "serial": null}"#;
        next(VERDICTS, &of("a", false, one), [false, false]);
        next(VERDICTS, &of("a", true, one), [false, true]);
        next(VERDICTS, &of("b", true, one), [false, false]);
        next(VERDICTS, "garbled", [false, true]);
    }
}
