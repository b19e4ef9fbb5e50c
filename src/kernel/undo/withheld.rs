//! The journal of PFs whose VFs native drivers are kept from, one file a PF:
//! `ADDRESS.autoprobe.json`.
//!
//! Owns the files. There is one where `sriov_drivers_autoprobe` was 1 and is 0 by
//! us, or is about to be; what it means for a write is `kernel::autoprobe`'s.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Identity, Journal, UndoError, boot};
use crate::{kernel::host::Host, pci::address::Address};

/// What the names of the files end with after the address.
const SUFFIX: &str = ".autoprobe.json";

/// A PF whose VFs native drivers are kept from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::kernel) struct Withheld {
    /// Who it is.
    pub(in crate::kernel) function: Identity,
    /// How far that is.
    pub(in crate::kernel) stage: Stage,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::kernel) enum Stage {
    /// The value is being written, or put back.
    Changing,
    /// It was written: another one is somebody else's.
    Changed,
}

impl Journal {
    /// The file about the PF at `address`, of whichever boot. One that cannot be
    /// read says nothing.
    pub(in crate::kernel) fn of_pf(&self, address: Address) -> Option<Withheld> {
        let text = fs::read(self.of_pf_file(address)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes that file, whole or not at all.
    pub(in crate::kernel) fn note_pf(&self, pf: &Withheld) -> Result<(), UndoError> {
        self.put(&self.of_pf_file(pf.function.address), pf)
    }

    /// Deletes that file.
    pub(in crate::kernel) fn drop_pf(&self, address: Address) -> Result<(), UndoError> {
        self.remove(&self.of_pf_file(address))
    }

    /// The PFs that there are files of in this boot. With `tidy`, those of other
    /// boots are deleted: the value does not outlive one.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file not be deleted.
    pub fn withheld(&self, host: &dyn Host, tidy: bool) -> Result<Vec<Address>, UndoError> {
        let failed = |source| UndoError::Io {
            path: self.folder.clone(),
            source,
        };
        let names = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(failed)?,
        };
        let boot = boot(host)?;
        let mut pfs = Vec::new();
        for name in names {
            let path = name.map_err(failed)?.path();
            let Some(address) = address(&path) else {
                continue;
            };
            match self.of_pf(address) {
                Some(pf) if pf.function.boot == boot => pfs.push(address),
                _ if tidy => self.remove(&path)?,
                _ => {}
            }
        }
        pfs.sort();
        Ok(pfs)
    }

    fn of_pf_file(&self, address: Address) -> PathBuf {
        self.folder.join(format!("{address}{SUFFIX}"))
    }
}

fn address(path: &Path) -> Option<Address> {
    path.file_name()?
        .to_str()?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}
