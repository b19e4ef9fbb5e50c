//! Verdicts: what one boot proved idle and bound, for the early stage of the
//! next: `verdicts.json` in the state directory.
//!
//! Owns the file: its format, and that it is written whole or not at all and is
//! on the disk afterwards. What a verdict is good for is `policy::early`'s.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{host::Host, undo::BOOT_ID, usage::words};
use crate::policy::early::{Former, Known};

const FORMAT: u32 = 1;

/// Why nothing is proven to an image that was made without the file.
pub(super) const NO_VERDICT_IN_IMAGE: &str = "this initramfs has no verdict";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VerdictError {
    /// It cannot be read or written.
    #[error("{}: {}", path.display(), words(source))]
    Io {
        /// The file, or what was read for it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is of a format that is not known.
    #[error("{}: format {format} is not known, expected {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// It is cut short or something else.
    #[error("{}: cannot be understood: {text}", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
}

/// What every format begins with.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "vfio-bindd-verdicts")]
    format: u32,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    #[serde(rename = "vfio-bindd-verdicts")]
    format: u32,
    /// The boot that it is of.
    pub boot_id: String,
    /// Whether the daemon got ready in that boot.
    pub ready: bool,
    /// What it had found idle, and had bound then.
    pub functions: Vec<Known>,
}

/// The file's place, and the boot that this is.
#[derive(Clone, Debug)]
pub struct VerdictFile {
    path: PathBuf,
    boot_id: String,
}

impl VerdictFile {
    /// `verdicts.json` in `directory`, in this boot.
    ///
    /// # Errors
    /// If the kernel does not say which boot this is.
    pub fn new(directory: &Path, host: &dyn Host) -> Result<Self, VerdictError> {
        let boot_id = host.read(BOOT_ID).map_err(|source| VerdictError::Io {
            path: BOOT_ID.into(),
            source,
        })?;
        Ok(Self {
            path: directory.join("verdicts.json"),
            boot_id: String::from_utf8_lossy(&boot_id).trim().to_owned(),
        })
    }

    /// What the file says, `None` if there is none.
    ///
    /// # Errors
    /// If there is one and it cannot be used.
    pub fn read(&self) -> Result<Option<Verdicts>, VerdictError> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed(source)),
            Ok(bytes) => bytes,
        };
        let garbled = |error: serde_json::Error| VerdictError::Garbled {
            path: self.path.clone(),
            text: error.to_string(),
        };
        let head: Head = serde_json::from_slice(&bytes).map_err(garbled)?;
        if head.format != FORMAT {
            return Err(VerdictError::Newer {
                path: self.path.clone(),
                format: head.format,
            });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(garbled)
    }

    /// Replaces the file by one of this boot. Comes back when the disk has it.
    ///
    /// # Errors
    /// If it cannot be written; the old one is still there then.
    pub fn write(&self, ready: bool, functions: &[Known]) -> Result<(), VerdictError> {
        let verdicts = Verdicts {
            format: FORMAT,
            boot_id: self.boot_id.clone(),
            ready,
            functions: functions.to_vec(),
        };
        let written = serde_json::to_vec_pretty(&verdicts)
            .map_err(io::Error::from)
            .and_then(|mut text| {
                text.push(b'\n');
                let new = self.path.with_extension("json.new");
                let mut file = File::create(&new)?;
                file.write_all(&text)?;
                file.sync_all()?;
                fs::rename(&new, &self.path)?;
                // The name, too, must be there after a loss of power.
                let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
                File::open(folder)?.sync_all()
            });
        written.map_err(|source| self.failed(source))
    }

    /// What the former boot proved, asked by the early stage of this one. The
    /// file says from now on that this boot did not get ready: should what is
    /// taken keep it from that, the next one takes nothing of the kind. Where
    /// that cannot be written, nothing counts as proven. A `dry_run` leaves the
    /// file alone.
    #[must_use]
    pub fn former(&self, dry_run: bool) -> Former {
        let because = |text: String| Former::Nothing(text);
        let verdicts = match self.read() {
            Ok(Some(verdicts)) => verdicts,
            Ok(None) => return because("no former boot left a verdict".to_owned()),
            Err(error) => return because(error.to_string()),
        };
        // Of this boot only the daemon judges, which has more to see.
        if verdicts.boot_id == self.boot_id {
            return because("the verdicts are of this boot, not of a former one".to_owned());
        }
        if !verdicts.ready {
            return because("vfio-bindd did not get ready in the former boot".to_owned());
        }
        if !dry_run && let Err(error) = self.write(false, &verdicts.functions) {
            return because(format!("the verdicts cannot be marked as used up: {error}"));
        }
        Former::Idle(verdicts.functions)
    }

    /// What the boot proved in which the image was made that this file is in. It
    /// counts until the image is made anew: nothing that is written to an
    /// initramfs stays. So the stage of the real root judges again.
    #[must_use]
    pub fn of_image(&self) -> Former {
        match self.read() {
            Ok(Some(verdicts)) if verdicts.ready => Former::Idle(verdicts.functions),
            Ok(Some(_)) => {
                Former::Nothing("vfio-bindd was not ready when this initramfs was made".to_owned())
            }
            Ok(None) => Former::Nothing(NO_VERDICT_IN_IMAGE.to_owned()),
            Err(error) => Former::Nothing(error.to_string()),
        }
    }

    /// Has the file be of this boot, which is not ready, when the daemon
    /// starts. Says which functions earlier stages of this boot found in it:
    /// those that are bound still need no other verdict.
    ///
    /// # Errors
    /// If it could not be used, or cannot be written.
    pub fn begin(&self) -> Result<Vec<Known>, VerdictError> {
        let found = self.read();
        if let Ok(Some(verdicts)) = &found
            && verdicts.boot_id == self.boot_id
        {
            return Ok(verdicts.functions.clone());
        }
        self.write(false, &[])?;
        found.map(|_| Vec::new())
    }

    fn failed(&self, source: io::Error) -> VerdictError {
        VerdictError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::id::ClassCode;

    fn known() -> Vec<Known> {
        vec![Known {
            address: "0000:01:00.0".parse().unwrap(),
            path: "0000:00:01.0/00.0".to_owned(),
            id: "8086:10d3".parse().unwrap(),
            subsystem: None,
            class: ClassCode::new(0x02_0000),
            serial: Some("48-b0-2d-ff-ff-12-34-56".to_owned()),
        }]
    }

    fn boot(folder: &tempfile::TempDir, boot_id: &str) -> VerdictFile {
        VerdictFile {
            path: folder.path().join("verdicts.json"),
            boot_id: boot_id.to_owned(),
        }
    }

    fn reason(former: Former) -> String {
        let Former::Nothing(why) = former else {
            unreachable!("{former:?} counts");
        };
        why
    }

    #[test]
    fn a_verdict_counts_in_the_next_boot_only_and_once_until_that_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, third] = ["one", "two", "three"].map(|id| boot(&folder, id));
        assert_eq!(reason(first.former(false)), "no former boot left a verdict");
        assert_eq!(first.begin().unwrap(), []);
        assert_eq!(
            reason(second.former(false)),
            "vfio-bindd did not get ready in the former boot"
        );
        first.write(true, &known()).unwrap();
        assert!(reason(first.former(false)).contains("of this boot"));
        assert_eq!(second.former(true), Former::Idle(known()));
        assert_eq!(second.former(false), Former::Idle(known()));
        // It hangs before the daemon is ready.
        assert_eq!(second.begin().unwrap(), known());
        assert_eq!(
            reason(third.former(false)),
            "vfio-bindd did not get ready in the former boot"
        );
        // The one after it starts, and has nothing of the boot that failed.
        assert_eq!(third.begin().unwrap(), []);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_daemon_of_the_same_boot_finds_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = boot(&folder, "one");
        file.write(true, &known()).unwrap();
        assert_eq!(file.begin().unwrap(), known());
        assert!(file.read().unwrap().unwrap().ready);
        // One of another boot, whose early stage was off, does not.
        assert_eq!(boot(&folder, "two").begin().unwrap(), []);
        assert!(!file.read().unwrap().unwrap().ready);
    }

    #[test]
    fn a_bad_file_proves_nothing_and_is_replaced_by_the_daemon() {
        let newer = r#"{"vfio-bindd-verdicts": 2, "boot_id": 7}"#;
        let more =
            r#"{"vfio-bindd-verdicts": 1, "boot_id": "a", "ready": true, "functions": [], "x": 1}"#;
        let short =
            r#"{"vfio-bindd-verdicts": 1, "boot_id": "a", "ready": true, "functions": [{}]}"#;
        for (bad, says) in [
            ("", "cannot be understood: "),
            ("{}", "cannot be understood: missing field"),
            (newer, "format 2 is not known, expected 1"),
            (more, "unknown field `x`"),
            (short, "missing field `address`"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = boot(&folder, "one");
            fs::write(&file.path, bad).unwrap();
            let why = reason(file.former(false));
            assert!(why.contains("verdicts.json: "), "{why}");
            assert!(why.contains(says), "{why}");
            assert_eq!(fs::read_to_string(&file.path).unwrap(), bad);
            assert_eq!(file.begin().unwrap_err().to_string(), why);
            assert_eq!(file.begin().unwrap(), []);
        }
    }

    #[test]
    fn what_cannot_be_marked_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        boot(&folder, "one").write(true, &known()).unwrap();
        // As on a file system that is read-only yet.
        fs::create_dir(folder.path().join("verdicts.json.new")).unwrap();
        let file = boot(&folder, "two");
        let why = reason(file.former(false));
        assert!(why.contains("cannot be marked as used up: "), "{why}");
        assert!(file.read().unwrap().unwrap().ready);
    }
}
