//! The undo journal: what each function was before it was taken, one file a
//! function, so that it can be given back exactly.
//!
//! Owns the files: each is written whole or not at all, before the function is
//! written to. What an entry says is `entry`'s. Helpers write down what they do;
//! the daemon reads it at its start, and has what was given back forgotten.

mod entry;
mod withheld;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

pub use self::entry::{Entry, Former, Identity, Phase};
use self::entry::{FORMAT, Head};
pub(super) use self::withheld::{Stage, Withheld};
use serde::Serialize;

use super::{
    host::Host,
    sysfs::{Sysfs, function_dir},
    usage::words,
};
use crate::pci::address::Address;

pub(super) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the journal, or an entry of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// A file or the folder cannot be read or written.
    #[error("{}: {}", path.display(), words(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The entry is of a format that is not known.
    #[error(
        "{}: format {format} is not known, expected {FORMAT}; give the function back with the \
         version that took it, or by hand, and delete the file",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The entry is cut short or something else.
    #[error(
        "{}: cannot be read: {text}; give the function back by hand and delete the file",
        path.display()
    )]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// The function cannot be told from another one.
    #[error("{address}: cannot be told from another device: {text}")]
    Unidentified {
        /// The function.
        address: Address,
        /// What is missing.
        text: String,
    },
}

/// The journal's folder.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

/// All that a journal says of this boot.
#[derive(Debug, Default)]
pub struct Contents {
    /// The entries of functions that are still there.
    pub entries: Vec<Entry>,
    /// What cannot be read, each a sentence.
    pub trouble: Vec<String>,
    /// The functions that entries are about which cannot be read.
    pub unreadable: Vec<Address>,
}

impl Journal {
    /// The journal in `folder`, which need not be there yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The entry of the function at `address`, of whichever boot.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn read(&self, address: Address) -> Result<Option<Entry>, UndoError> {
        let path = self.file(address);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(UndoError::Io { path, source }),
            Ok(bytes) => bytes,
        };
        let garbled = |text: String| UndoError::Garbled {
            path: path.clone(),
            text,
        };
        let head: Head =
            serde_json::from_slice(&bytes).map_err(|error| garbled(error.to_string()))?;
        if head.format != FORMAT {
            let format = head.format;
            return Err(UndoError::Newer { path, format });
        }
        let entry: Entry =
            serde_json::from_slice(&bytes).map_err(|error| garbled(error.to_string()))?;
        if entry.function.address != address {
            return Err(garbled(format!("it is about {}", entry.function.address)));
        }
        Ok(Some(entry))
    }

    /// Writes `entry`, whole or not at all, also if the host crashes meanwhile.
    ///
    /// # Errors
    /// If that did not work; what was there before is still there then.
    pub fn write(&self, entry: &Entry) -> Result<(), UndoError> {
        self.put(&self.file(entry.function.address), entry)
    }

    fn put(&self, path: &Path, contents: &impl Serialize) -> Result<(), UndoError> {
        let new = path.with_extension("json.new");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| UndoError::Io { path, source }
        };
        let mut text = serde_json::to_vec_pretty(contents).map_err(|error| UndoError::Io {
            path: path.to_owned(),
            source: error.into(),
        })?;
        text.push(b'\n');
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(failed(&new))?;
        // Without a sync of the folder a crash of the host may lose the name, and
        // with it an entry of a boot that is over.
        fs::rename(&new, path).map_err(failed(path))
    }

    /// Deletes the entry of a function that is what it was: this driver has
    /// it, under this override.
    ///
    /// # Errors
    /// If it cannot be read or deleted.
    pub(super) fn drop_if(
        &self,
        address: Address,
        (driver, driver_override): (Option<&str>, Option<&str>),
    ) -> Result<(), UndoError> {
        let former = self.read(address)?.map(|entry| entry.former);
        let is_what_it_was = former.is_some_and(|former| {
            former.driver.as_deref() == driver
                && former.driver_override.as_deref() == driver_override
        });
        if is_what_it_was {
            self.remove(&self.file(address))?;
        }
        Ok(())
    }

    /// Moves the entry of the function at `address` to `other`, where there is
    /// one.
    ///
    /// # Errors
    /// If it cannot be read, written there or deleted here.
    pub fn hand_over(&self, address: Address, other: &Self) -> Result<(), UndoError> {
        if let Some(entry) = self.read(address)? {
            other.write(&entry)?;
            self.remove(&self.file(address))?;
        }
        Ok(())
    }

    /// Has the function be taken again: an entry of one that was given back is
    /// deleted, and one whose return is not finished still counts as taken.
    /// Says whether there is an entry afterwards.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn retake(&self, address: Address) -> Result<bool, UndoError> {
        match self.read(address)? {
            Some(entry) if entry.phase == Phase::Released => {
                self.remove(&self.file(address))?;
                Ok(false)
            }
            Some(mut entry) => {
                entry.phase = Phase::Taken;
                self.write(&entry).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// All entries of this boot. With `tidy`, what another boot left behind is
    /// deleted: an override does not outlive a boot, nor does a function.
    #[must_use]
    pub fn contents(&self, sysfs: &dyn Sysfs, host: &dyn Host, tidy: bool) -> Contents {
        let mut contents = Contents::default();
        if let Err(error) = self.collect(sysfs, host, tidy, &mut contents) {
            contents.trouble.push(error.to_string());
        }
        contents
    }

    fn collect(
        &self,
        sysfs: &dyn Sysfs,
        host: &dyn Host,
        tidy: bool,
        contents: &mut Contents,
    ) -> Result<(), UndoError> {
        let failed = |source| UndoError::Io {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        let boot = boot(host)?;
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let address = stem.and_then(|stem| stem.parse::<Address>().ok());
            let json = path.extension().is_some_and(|name| name == "json");
            // Half written, or nothing of ours.
            let Some(address) = address.filter(|_| json) else {
                continue;
            };
            match self.read(address) {
                Ok(Some(entry)) if entry.function.boot == boot && is_there(sysfs, &entry) => {
                    contents.entries.push(entry);
                }
                Ok(Some(_)) if tidy => self.remove(&path)?,
                Ok(_) => {}
                Err(error) => {
                    contents.trouble.push(error.to_string());
                    contents.unreadable.push(address);
                }
            }
        }
        contents.entries.sort_by_key(|entry| entry.function.address);
        contents.trouble.sort();
        Ok(())
    }

    fn file(&self, address: Address) -> PathBuf {
        self.folder.join(format!("{address}.json"))
    }

    fn remove(&self, path: &Path) -> Result<(), UndoError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| UndoError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

/// The ID of this boot.
fn boot(host: &dyn Host) -> Result<String, UndoError> {
    let failed = |source| UndoError::Io {
        path: BOOT_ID.into(),
        source,
    };
    let text = host.read(BOOT_ID).map_err(failed)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Whether the function that the entry is about is the one at its address.
fn is_there(sysfs: &dyn Sysfs, entry: &Entry) -> bool {
    let node = sysfs.node(&function_dir(entry.function.address));
    node.is_ok_and(|node| node == entry.function.node)
}
