//! The map as a file, for those who cannot speak D-Bus, and for this daemon
//! itself after a restart: `map.json` in the runtime directory, and `map.env` for
//! shells.
//!
//! Written whole or not at all. `/run` is empty after a boot, so what it says
//! is of this boot.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::runtime_file;
use crate::{
    engine::snapshot::{DaemonState, MappingState, Snapshot},
    pci::address::Address,
    policy::resolve::Held,
};

/// What the file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Map {
    /// Of the publication that changed the rest.
    generation: u64,
    state: String,
    mappings: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    state: String,
    addresses: Vec<Address>,
    /// What it means, or needs, and does not hand out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Address>,
    /// Who has which of them for themselves.
    #[serde(default)]
    claims: BTreeMap<Address, String>,
    /// The ID of Proxmox VE's resource mapping that is kept in step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxmox: Option<String>,
}

/// The file.
#[derive(Debug)]
pub struct MapFile {
    path: PathBuf,
    /// What is in it, once it was written.
    written: Option<Map>,
}

impl MapFile {
    /// `map.json` in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("map.json"),
            written: None,
        }
    }

    /// Replaces the file by what `snapshot` says, if that is something new.
    ///
    /// # Errors
    /// If it cannot be written; the old one is still there then.
    pub fn write(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let none_yet = matches!(snapshot.state, DaemonState::Starting | DaemonState::Failed)
            && snapshot.mappings.is_empty();
        // A daemon that has no config, or is not through, knows less than the one before,
        // whose functions are still bound.
        let kept = if none_yet { self.last()? } else { None };
        let kept = kept.into_iter().flat_map(|map| map.mappings);
        let map = Map {
            generation: snapshot.generation,
            state: snapshot.state.to_string(),
            mappings: snapshot
                .mappings
                .iter()
                .map(|(name, mapping)| {
                    let entry = Entry {
                        state: mapping.state.to_string(),
                        addresses: mapping.addresses.clone(),
                        beside: mapping.beside.clone(),
                        claims: mapping.claims.clone(),
                        proxmox: mapping.proxmox.clone(),
                    };
                    (name.clone(), entry)
                })
                .chain(kept)
                .collect(),
        };
        let written = self.written.as_ref();
        if written.is_some_and(|old| old.state == map.state && old.mappings == map.mappings) {
            return Ok(());
        }
        // For everyone to read.
        runtime_file::write(&self.path, &map, 0o644)?;
        runtime_file::write_text(&self.path.with_extension("env"), &environment(&map), 0o644)?;
        self.written = Some(map);
        Ok(())
    }

    /// What is in the file, `None` if there is none.
    fn last(&self) -> io::Result<Option<Map>> {
        match &self.written {
            Some(map) => Ok(Some(map.clone())),
            None => runtime_file::read(&self.path),
        }
    }

    /// What mappings held when the file was written; nothing if there is none.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn held(&self) -> io::Result<Held> {
        let Some(map) = runtime_file::read::<Map>(&self.path)? else {
            return Ok(Held::new());
        };
        let addresses = |entry: Entry| -> BTreeSet<_> { entry.addresses.into_iter().collect() };
        Ok(map
            .mappings
            .into_iter()
            .map(|(name, entry)| (name, addresses(entry)))
            .collect())
    }
}

/// The addresses of each mapping that is bound as a shell's variables, which systemd
/// takes as an environment file as well. A variable that two mappings would have is
/// neither's.
fn environment(map: &Map) -> String {
    let variable =
        |name: &str| format!("VFIO_BINDD_MAPPING_{}", name.replace('-', "_")).to_uppercase();
    let mut text = format!("VFIO_BINDD_GENERATION={}\n", map.generation);
    for (name, entry) in &map.mappings {
        let own = variable(name);
        let mut others = map.mappings.keys().filter(|other| *other != name);
        if let Some(other) = others.find(|other| variable(other) == own) {
            text += &format!("# {own} would be both {name} and {other}\n");
        } else if entry.state == MappingState::Bound.as_str() {
            let addresses: Vec<_> = entry.addresses.iter().map(Address::to_string).collect();
            text += &format!("{own}=\"{}\"\n", addresses.join(" "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn shells_get_the_addresses_of_what_is_bound() {
        let entry = |state: &str, addresses: &[&str]| Entry {
            state: state.to_owned(),
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
            beside: Vec::new(),
            claims: BTreeMap::new(),
            proxmox: None,
        };
        let map = Map {
            generation: 7,
            state: "degraded".to_owned(),
            mappings: BTreeMap::from([
                (
                    "gpu-0".to_owned(),
                    entry("bound", &["0000:01:00.0", "0000:01:00.1"]),
                ),
                ("nic".to_owned(), entry("pending", &["0000:02:00.0"])),
                ("a-b".to_owned(), entry("bound", &["0000:03:00.0"])),
                ("a_b".to_owned(), entry("bound", &["0000:04:00.0"])),
            ]),
        };
        assert_eq!(
            environment(&map),
            "VFIO_BINDD_GENERATION=7\n\
             # VFIO_BINDD_MAPPING_A_B would be both a-b and a_b\n\
             # VFIO_BINDD_MAPPING_A_B would be both a_b and a-b\n\
             VFIO_BINDD_MAPPING_GPU_0=\"0000:01:00.0 0000:01:00.1\"\n"
        );
    }

    #[test]
    fn what_was_written_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MapFile::new(folder.path());
        assert_eq!(file.held().unwrap(), Held::new());
        file.write(&Snapshot::starting()).unwrap();
        assert_eq!(file.held().unwrap(), Held::new());
        let written = fs::metadata(folder.path().join("map.json")).unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o644);
        // One that has no mappings yet, or no config, leaves those of the one before.
        let held = "{\"generation\":7,\"state\":\"ready\",\"mappings\":{\"nic\":\
                    {\"state\":\"bound\",\"addresses\":[\"0000:01:00.0\"]}}}";
        fs::write(folder.path().join("map.json"), held).unwrap();
        for state in [DaemonState::Starting, DaemonState::Failed] {
            let mut file = MapFile::new(folder.path());
            file.write(&Snapshot {
                state,
                ..Snapshot::starting()
            })
            .unwrap();
            assert_eq!(file.held().unwrap().len(), 1, "{state}");
            let env = fs::read_to_string(folder.path().join("map.env")).unwrap();
            assert!(env.contains("MAPPING_NIC=\"0000:01:00.0\""), "{env}");
        }
        let none = Snapshot {
            state: DaemonState::Ready,
            ..Snapshot::starting()
        };
        file.write(&none).unwrap();
        assert_eq!(file.held().unwrap(), Held::new());
        fs::write(folder.path().join("map.json"), "{").unwrap();
        assert!(file.held().is_err());
    }
}
