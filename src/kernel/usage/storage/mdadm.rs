//! Arrays that mdadm is told to assemble.
//!
//! Source: mdadm.conf(5), config.c of mdadm 4.2 (`conf_line`, `match_keyword`).

use super::{
    key::{Key, path_keys, squeezed},
    references::{Loose, References, Use},
};
use crate::kernel::usage::{
    Look,
    files::{directory, file},
};

const FILES: &[&str] = &["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"];
const FOLDERS: &[&str] = &["/etc/mdadm/mdadm.conf.d", "/etc/mdadm.conf.d"];

/// All arrays of all of mdadm's files.
pub(super) fn arrays(look: Look<'_>, all: &mut References) {
    let mut paths: Vec<_> = FILES.iter().map(|path| (*path).to_owned()).collect();
    for folder in FOLDERS {
        let names = directory(look, folder, &mut all.unchecked);
        let names = names.iter().filter(|name| name.ends_with(".conf"));
        paths.extend(names.map(|name| format!("{folder}/{name}")));
    }
    for path in paths {
        let text = file(look, &path, &mut all.unchecked);
        for line in lines(&text) {
            array(&path, &line, all);
        }
    }
}

/// The words of each line; one that begins with a space goes on the line before.
fn lines(text: &str) -> Vec<Vec<String>> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        let goes_on = line.starts_with([' ', '\t']);
        let line = line.split('#').next().unwrap_or_default();
        let words = line.split_whitespace().map(|word| word.replace('"', ""));
        match lines.last_mut() {
            Some(last) if goes_on => last.extend(words),
            _ => lines.push(words.collect()),
        }
    }
    lines
}

/// mdadm takes the first three letters of a keyword, in any case.
fn is_array(word: &str) -> bool {
    word.len() >= 3 && "array".starts_with(&word.to_ascii_lowercase())
}

fn array(path: &str, words: &[String], all: &mut References) {
    let Some((_, words)) = words.split_first().filter(|(first, _)| is_array(first)) else {
        return;
    };
    let (mut keys, mut loose) = (Vec::new(), Vec::new());
    let mut entry = None;
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            if !word.starts_with('<') {
                keys.extend(device_keys(word));
                entry = Some(word.as_str());
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "uuid" => keys.push(Key::Uuid(squeezed(value))),
            "name" => keys.push(Key::Label(value.to_owned())),
            "super-minor" => keys.push(Key::Path(format!("/dev/md{value}"))),
            "devices" => {
                for pattern in value.split(',') {
                    match pattern.parse() {
                        Ok(glob) => loose.push(Loose::Paths(glob)),
                        Err(error) => all.unchecked.push(format!(
                            "{path} lists devices by a pattern that cannot be read: {pattern}: \
                             {error}"
                        )),
                    }
                }
            }
            _ => continue,
        }
        entry = entry.or(Some(word.as_str()));
    }
    let listed = Use::Listed {
        file: path.to_owned(),
        entry: entry.unwrap_or("an array").to_owned(),
    };
    all.add_loosely(listed, keys, loose);
}

/// What an array's device is called: `/dev/md0`, `md0` or `data`.
fn device_keys(name: &str) -> Vec<Key> {
    if name.starts_with('/') {
        return path_keys(name);
    }
    ["/dev/", "/dev/md/"]
        .iter()
        .map(|folder| Key::Path(format!("{folder}{name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_name_devices_in_all_ways() {
        let mut all = References::default();
        let text = "# ARRAY /dev/md9\nDEVICE partitions\nMAILADDR root\n\
                    ARRAY /dev/md0 metadata=1.2\n  UUID=3AAA:0122 # x\n\
                    arr data name=host:data\nARRAY <ignore> devices=/dev/sd[ab]1,/dev/x\n\
                    ARRAY super-minor=3\nARRAY devices=/dev/[\n";
        for line in lines(text) {
            array("f", &line, &mut all);
        }
        for (key, entry) in [
            (Key::Path("/dev/md0".to_owned()), Some("/dev/md0")),
            (Key::Uuid("3aaa0122".to_owned()), Some("/dev/md0")),
            (Key::Label("host:data".to_owned()), Some("data")),
            (Key::Path("/dev/md/data".to_owned()), Some("data")),
            (
                Key::Path("/dev/sdb1".to_owned()),
                Some("devices=/dev/sd[ab]1,/dev/x"),
            ),
            (Key::Path("/dev/md3".to_owned()), Some("super-minor=3")),
            (Key::Path("/dev/sdc1".to_owned()), None),
            (Key::Path("/dev/md9".to_owned()), None),
        ] {
            let found = all.naming([&key]);
            let found = found.first().and_then(|index| all.get(*index));
            let wanted = entry.map(|entry| Use::Listed {
                file: "f".to_owned(),
                entry: entry.to_owned(),
            });
            assert_eq!(found, wanted.as_ref(), "{key:?}");
        }
        assert_eq!(all.unchecked.len(), 1, "{:?}", all.unchecked);
    }
}
