//! The map as a file, for those who cannot speak D-Bus, and for this daemon
//! itself after a restart: `map.json` in the runtime directory.
//!
//! Written whole or not at all. `/run` is empty after a boot, so what it says
//! is of this boot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{engine::snapshot::Snapshot, pci::address::Address, policy::resolve::Held};

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Map {
    /// Of the publication that changed the rest.
    generation: u64,
    state: String,
    mappings: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    state: String,
    addresses: Vec<Address>,
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
                    };
                    (name.clone(), entry)
                })
                .collect(),
        };
        let written = self.written.as_ref();
        if written.is_some_and(|old| old.state == map.state && old.mappings == map.mappings) {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(&map)?;
        text.push('\n');
        let new = self.path.with_extension("json.new");
        fs::write(&new, text)?;
        // For everyone to read, whatever the umask.
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, &self.path)?;
        self.written = Some(map);
        Ok(())
    }

    /// What mappings held when the file was written; nothing if there is none.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn held(&self) -> io::Result<Held> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::new()),
            text => text?,
        };
        let map: Map = serde_json::from_slice(&text)?;
        let addresses = |entry: Entry| -> BTreeSet<_> { entry.addresses.into_iter().collect() };
        Ok(map
            .mappings
            .into_iter()
            .map(|(name, entry)| (name, addresses(entry)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MapFile::new(folder.path());
        assert_eq!(file.held().unwrap(), Held::new());
        file.write(&Snapshot::starting()).unwrap();
        assert_eq!(file.held().unwrap(), Held::new());
        let written = fs::metadata(folder.path().join("map.json")).unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o644);
        fs::write(folder.path().join("map.json"), "{").unwrap();
        assert!(file.held().is_err());
    }
}
