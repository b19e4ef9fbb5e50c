//! The last map, kept over boots: `last-map.json` in the state directory.
//!
//! Owns its format, and which boot it is of. Written whole or not at all, and
//! beside the loop: a disk may be slow. A file that cannot be understood is put
//! aside and nothing is compared with it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use crate::{
    engine::event::Event,
    policy::drift::{Map, Memory},
};

const FORMAT: u32 = 1;
/// Another number at each boot (Documentation/admin-guide/sysctl/kernel.rst,
/// v6.12).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "vfio-bindd-last-map")]
    format: u32,
    /// The boot that `mappings` is of.
    boot_id: String,
    /// Whether that boot's drift was told.
    told: bool,
    mappings: Map,
    /// The map when the boot before that one ended.
    previous: Map,
}

/// The file's place, and the boot that this is.
#[derive(Clone, Debug)]
pub struct LastMap {
    path: PathBuf,
    boot_id: String,
}

impl LastMap {
    /// `last-map.json` in `directory`, in this boot.
    ///
    /// # Errors
    /// If the kernel does not say which boot this is.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let boot_id = fs::read_to_string(BOOT_ID)?;
        Ok(Self::of_boot(directory, boot_id.trim()))
    }

    /// `last-map.json` in `directory`, in the boot `boot_id`.
    #[must_use]
    pub fn of_boot(directory: &Path, boot_id: &str) -> Self {
        Self {
            path: directory.join("last-map.json"),
            boot_id: boot_id.to_owned(),
        }
    }

    /// What was kept; nothing if there is no file, or none that can be read,
    /// which is told. Reads a disk.
    #[must_use]
    pub fn recall(&self) -> Memory {
        let path = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Memory::default(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return self.put_aside(&error.to_string());
            }
            Err(error) => {
                tracing::warn!("{path} cannot be read: {error}; nothing is compared with it");
                return Memory::default();
            }
        };
        let kept: Kept = match serde_json::from_str(&text) {
            Ok(kept) => kept,
            Err(error) => return self.put_aside(&error.to_string()),
        };
        if kept.format != FORMAT {
            let format = kept.format;
            return self.put_aside(&format!("format {format} is not known; expected {FORMAT}"));
        }
        if kept.boot_id == self.boot_id {
            Memory {
                map: kept.mappings,
                previous: kept.previous,
                told: kept.told,
            }
        } else {
            Memory {
                map: Map::new(),
                previous: kept.mappings,
                told: false,
            }
        }
    }

    fn put_aside(&self, why: &str) -> Memory {
        let (path, aside) = (self.path.display(), self.path.with_extension("json.bad"));
        let kept = match fs::rename(&self.path, &aside) {
            Ok(()) => format!("it is {} now", aside.display()),
            Err(error) => format!("it cannot be put aside either: {error}"),
        };
        tracing::warn!(
            "{path} cannot be understood: {why}; nothing is compared with it, and {kept}"
        );
        Memory::default()
    }

    /// Replaces the file by `memory`. Comes back when the disk has it.
    ///
    /// # Errors
    /// If it cannot be written; the old one is still there then.
    pub fn write(&self, memory: &Memory) -> io::Result<()> {
        let kept = Kept {
            format: FORMAT,
            boot_id: self.boot_id.clone(),
            told: memory.told,
            mappings: memory.map.clone(),
            previous: memory.previous.clone(),
        };
        let mut text = serde_json::to_string_pretty(&kept)?;
        text.push('\n');
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        // The name, too, must be there after a loss of power.
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Writes whatever comes, one after another and only the newest of what
    /// came meanwhile, until nobody can send any more.
    async fn keep(self, mut memories: watch::Receiver<Memory>) {
        let mut told = false;
        while memories.changed().await.is_ok() {
            let memory = memories.borrow_and_update().clone();
            let this = self.clone();
            let written = spawn_blocking(move || this.write(&memory)).await;
            match written.map_err(io::Error::from).flatten() {
                Ok(()) => told = false,
                Err(error) if !told => {
                    let path = self.path.display();
                    tracing::warn!("{path} cannot be written: {error}");
                    told = true;
                }
                Err(_) => {}
            }
        }
    }
}

/// Has what was kept read, which comes back as an event, and then written what
/// is sent. Started by hand there is no state directory, and nothing is kept.
pub(super) fn start(events: &mpsc::UnboundedSender<Event>) -> Option<watch::Sender<Memory>> {
    // systemd.exec(5), StateDirectory=.
    let directory = std::env::var_os("STATE_DIRECTORY")?;
    let file = match LastMap::new(Path::new(&directory)) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("{BOOT_ID}: {error}; nothing is kept for the next boot");
            return None;
        }
    };
    let (sender, memories) = watch::channel(Memory::default());
    let events = events.clone();
    tokio::spawn(async move {
        let reader = file.clone();
        let recalled = spawn_blocking(move || reader.recall()).await;
        let recalled = Event::Recalled(recalled.unwrap_or_default());
        // At the daemon's end nobody listens, and nothing comes to be kept.
        if events.send(recalled).is_ok() {
            file.keep(memories).await;
        }
    });
    Some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::drift::Entry;

    fn memory(address: &str) -> Memory {
        let entry = Entry {
            address: address.parse().unwrap(),
            id: "10de:2684".parse().unwrap(),
            subsystem: None,
            class: "030000".parse().unwrap(),
            serial: Some("48-b0-2d-ff-ff-12-34-56".to_owned()),
            pf: None,
            path: "0000:00:01.1/00.0".to_owned(),
            slot: None,
        };
        Memory {
            map: Map::from([("gpu".to_owned(), vec![entry])]),
            previous: Map::new(),
            told: true,
        }
    }

    #[test]
    fn a_restart_finds_the_same_and_a_boot_finds_it_as_the_former() {
        let folder = tempfile::tempdir().unwrap();
        let first = LastMap::of_boot(folder.path(), "one");
        assert_eq!(first.recall(), Memory::default());
        let kept = memory("0000:01:00.0");
        first.write(&kept).unwrap();
        assert_eq!(first.recall(), kept);
        let second = LastMap::of_boot(folder.path(), "two");
        let recalled = second.recall();
        assert_eq!(
            (recalled.map, recalled.previous, recalled.told),
            (Map::new(), kept.map, false)
        );
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_bad_file_is_put_aside_and_not_compared_with() {
        let good = serde_json::json!({
            "vfio-bindd-last-map": 2, "boot_id": "one", "told": false,
            "mappings": {}, "previous": {},
        });
        for bad in [
            b"{".to_vec(),
            Vec::new(),
            b"{}".to_vec(),
            vec![0xff, 0xfe],
            good.to_string().into_bytes(),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("last-map.json");
            fs::write(&path, &bad).unwrap();
            let file = LastMap::of_boot(folder.path(), "one");
            assert_eq!(file.recall(), Memory::default());
            let aside = folder.path().join("last-map.json.bad");
            assert_eq!(fs::read(aside).unwrap(), bad);
            assert!(!path.exists());
            // The next one is kept again.
            file.write(&memory("0000:01:00.0")).unwrap();
            assert_eq!(file.recall(), memory("0000:01:00.0"));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = LastMap::of_boot(folder.path(), "one");
        file.write(&memory("0000:01:00.0")).unwrap();
        fs::create_dir(folder.path().join("last-map.json.new")).unwrap();
        assert!(file.write(&memory("0000:02:00.0")).is_err());
        assert_eq!(file.recall(), memory("0000:01:00.0"));
    }
}
