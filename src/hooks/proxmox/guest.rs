//! The config file of a guest, `/etc/pve/qemu-server/VMID.conf`.
//!
//! Owns which lines of it count at a start: those before the first section
//! (snapshots, pending changes and special sections follow). Source:
//! qemu-server, src/PVE/QemuServer.pm, `parse_vm_config`.

use std::collections::BTreeMap;

use super::hostpci::{Hostpci, HostpciError};

/// How many `hostpciN` there are, from 0.
const MOST_HOSTPCI: u8 = 16;

/// What a guest's config says about functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its name, `None` where the config has none.
    pub name: Option<String>,
    /// Its `hostpciN` in the order of their numbers.
    pub hostpci: Vec<HostpciLine>,
}

/// One `hostpciN` of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostpciLine {
    /// The N, 0 to 15.
    pub index: u8,
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its value.
    pub value: Hostpci,
}

impl HostpciLine {
    /// `hostpciN`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("hostpci{}", self.index)
    }
}

/// A line of a guest's config that PVE would leave out with a warning only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {key}: {error}")]
pub struct GuestError {
    line: usize,
    key: String,
    error: LineError,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum LineError {
    #[error("it is no 'key: value': write it as hostpci0: 0000:3b:00 or hostpci0: mapping=NAME")]
    NoPair,
    #[error("there is no such option: expected hostpci0 to hostpci15 at the start of a line")]
    NoSuchKey,
    #[error(transparent)]
    Value(#[from] HostpciError),
}

/// Reads the `text` of a guest's config. A key that is there more than once has
/// its last value, as for PVE.
///
/// # Errors
///
/// A line that is about a `hostpci` and that PVE cannot read: PVE would start
/// the guest without that device.
pub fn parse(text: &str) -> Result<Guest, GuestError> {
    let mut name = None;
    let mut hostpci = BTreeMap::new();
    let lines = text.split('\n').map(str::trim_ascii_end);
    for (line, text) in (1..).zip(lines.take_while(|line| !is_section(line))) {
        if let Some(value) = text.strip_prefix("name:") {
            let value = value.trim_ascii_start();
            name = (!value.is_empty()).then(|| value.to_owned()).or(name);
        } else if is_about_hostpci(text) {
            let (key, value) = text.split_once(':').unwrap_or((text, ""));
            let (index, value) = entry(key, value).map_err(|error| GuestError {
                line,
                key: key.trim_ascii().to_owned(),
                error,
            })?;
            hostpci.insert(index, HostpciLine { index, line, value });
        }
    }
    Ok(Guest {
        name,
        hostpci: hostpci.into_values().collect(),
    })
}

fn is_section(line: &str) -> bool {
    let name = line
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    name.is_some_and(|name| !name.contains(']'))
}

/// Whether whoever wrote `line` meant a `hostpciN` by it. PVE reads no line with
/// a space before its key or with a key in upper case, and says nothing to who
/// starts the guest.
fn is_about_hostpci(line: &str) -> bool {
    let start = line.trim_ascii_start().get(..7);
    start.is_some_and(|start| start.eq_ignore_ascii_case("hostpci"))
}

fn entry(key: &str, value: &str) -> Result<(u8, Hostpci), LineError> {
    let value = value.trim_ascii_start();
    if value.is_empty() {
        return Err(LineError::NoPair);
    }
    let index = (0..MOST_HOSTPCI).find(|index| key == format!("hostpci{index}"));
    let index = index.ok_or(LineError::NoSuchKey)?;
    Ok((index, value.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::proxmox::hostpci::Source;

    #[test]
    fn only_what_comes_before_the_first_section_counts() {
        let text = "#hostpci5: a comment\n# [PENDING]\nboot: order=scsi0\nhostpci10: mapping=nic0\n\
                    hostpci2: 0000:01:00,pcie=1\r\nname:  gpu-vm \nargs: -device x,y=[z]\nhostpci0: 02:00\n\
                    hostpci0:03:00.1,driver=keep\n\n[PENDING]\nhostpci1: 04:00\nname: other\n\n\
                    [before]\nhostpci3: broken\n";
        let guest = parse(text).unwrap();
        assert_eq!(guest.name.as_deref(), Some("gpu-vm"));
        let found: Vec<_> = guest
            .hostpci
            .iter()
            .map(|one| (one.key(), one.line))
            .collect();
        assert_eq!(
            found,
            [
                ("hostpci0".to_owned(), 9),
                ("hostpci2".to_owned(), 5),
                ("hostpci10".to_owned(), 4),
            ]
        );
        assert_eq!(
            guest.hostpci[0].value,
            "03:00.1,driver=keep".parse().unwrap()
        );
        assert_eq!(
            guest.hostpci[2].value.source,
            Source::Mapping("nic0".into())
        );
    }

    #[test]
    fn every_kind_of_section_ends_it() {
        for section in [
            "[PENDING]",
            "[special:cloudinit]",
            "[snap-1] \t",
            "[]",
            "[?]\r",
        ] {
            let text = format!("hostpci0: 01:00\n{section}\nhostpci0: 02:00\n");
            let guest = parse(&text).unwrap();
            assert_eq!(guest.hostpci[0].line, 1, "{section}");
        }
        // PVE warns of these and reads on.
        for section in ["[snap", "[snap] x", " [snap]"] {
            let text = format!("{section}\nhostpci0: 02:00\n");
            assert_eq!(parse(&text).unwrap().hostpci.len(), 1, "{section}");
        }
        assert_eq!(parse(""), Ok(Guest::default()));
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (line, said) in [
            (
                "hostpci0: gpu0",
                "line 2: hostpci0: host: 'gpu0' is no PCI ID: the name of a mapping is given as mapping=gpu0",
            ),
            (
                "hostpci0: 01:00,pcie=maybe",
                "line 2: hostpci0: pcie: 'maybe' is not 0 or 1",
            ),
            ("hostpci0:", "line 2: hostpci0: it is no 'key: value'"),
            ("hostpci0", "line 2: hostpci0: it is no 'key: value'"),
            (
                "hostpci0=01:00",
                "line 2: hostpci0=01: there is no such option",
            ),
            (
                "hostpci16: 01:00",
                "line 2: hostpci16: there is no such option",
            ),
            (
                "hostpci00: 01:00",
                "line 2: hostpci00: there is no such option",
            ),
            ("hostpci: 01:00", "line 2: hostpci: there is no such option"),
            (
                "Hostpci0: 01:00",
                "line 2: Hostpci0: there is no such option",
            ),
            (
                " hostpci0: 01:00",
                "line 2: hostpci0: there is no such option: expected hostpci0 to hostpci15 at the start of a line",
            ),
            (
                "hostpci0 : 01:00",
                "line 2: hostpci0: there is no such option",
            ),
        ] {
            let error = parse(&format!("name: x\n{line}\n"))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(said), "{line:?}: {error}");
        }
    }
}
