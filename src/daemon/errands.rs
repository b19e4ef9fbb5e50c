//! What helpers are at that may outlive this daemon, as a file for the next
//! one: `errands.json` in the runtime directory.
//!
//! A helper that hangs can tell nobody, and cannot be ended: whoever starts next
//! has to know whom to leave alone. Written whole or not at all; `/run` is empty
//! after a boot, so what it says is of this boot.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use super::runtime_file;
use crate::{
    engine::event::Unfinished,
    kernel::{helper::process::Process, usage::Handles},
    pci::address::Address,
};

/// What a helper takes down, before it unbinds, for whoever asks who holds the
/// function.
pub(super) type TakenDown = Arc<OnceLock<Handles>>;

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    helpers: BTreeMap<Address, Entry>,
}

/// A helper at a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// What it does, for "does not come back from ...".
    doing: String,
    /// The IOMMU group that it changes, if it changes one.
    group: Option<u32>,
    /// Whether it has a PF make VFs.
    #[serde(default)]
    makes_vfs: bool,
    /// Whether it was past its deadline.
    late: bool,
    helper: Process,
    /// By what the function was held before it began.
    handles: Handles,
}

/// Which helper is at which function, and the file that says so.
#[derive(Debug)]
pub(super) struct Errands {
    path: Option<PathBuf>,
    /// All that helpers were asked about a function.
    sent: BTreeMap<Address, (Process, TakenDown)>,
    /// What of it is kept.
    kept: BTreeMap<Address, Unfinished>,
}

impl Errands {
    /// `errands.json` in `directory`; without one nothing is kept.
    pub(super) fn new(directory: Option<&Path>) -> Self {
        Self {
            path: directory.map(|directory| directory.join("errands.json")),
            sent: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// What helpers of an earlier daemon are still at, and which those are.
    ///
    /// # Errors
    /// If there is a file and it cannot be read: it names the file.
    pub(super) fn take_over(&mut self) -> Result<Vec<(Address, Process, Unfinished)>, String> {
        let Some(path) = &self.path else {
            return Ok(Vec::new());
        };
        let contents = runtime_file::read::<Contents>(path);
        let contents = contents.map_err(|error| format!("{}: {error}", path.display()))?;
        let Some(contents) = contents else {
            return Ok(Vec::new());
        };
        let living = contents.helpers.into_iter();
        let living = living.filter(|(_, entry)| entry.helper.lives());
        Ok(living
            .map(|(address, entry)| {
                let unfinished = Unfinished {
                    doing: entry.doing,
                    group: entry.group,
                    makes_vfs: entry.makes_vfs,
                    late: entry.late,
                };
                let handles = Arc::new(OnceLock::from(entry.handles));
                self.sent.insert(address, (entry.helper, handles));
                self.kept.insert(address, unfinished.clone());
                (address, entry.helper, unfinished)
            })
            .collect())
    }

    /// A helper is wanted for the function; who was sent before is done.
    pub(super) fn wanted(&mut self, address: Address) {
        self.sent.remove(&address);
    }

    /// A helper is about to be sent to the function.
    ///
    /// # Errors
    /// As [`Errands::keep`], if what it is to do is kept.
    pub(super) fn sent(
        &mut self,
        address: Address,
        helper: Process,
        handles: TakenDown,
    ) -> io::Result<()> {
        self.sent.insert(address, (helper, handles));
        if self.kept.contains_key(&address) {
            self.write()
        } else {
            Ok(())
        }
    }

    /// By what the function was held before its helper began.
    pub(super) fn handles(&self, address: Address) -> Handles {
        let taken = self.sent.get(&address).and_then(|(_, taken)| taken.get());
        taken.cloned().unwrap_or_default()
    }

    /// Keeps what the function's helper is at, or will be once there is one.
    ///
    /// # Errors
    /// If it cannot be written; the old file is still there then.
    pub(super) fn keep(&mut self, address: Address, unfinished: Unfinished) -> io::Result<()> {
        self.kept.insert(address, unfinished);
        if self.sent.contains_key(&address) {
            self.write()
        } else {
            Ok(())
        }
    }

    /// The function's helper came back, or has ended. Of one that was not late
    /// the file may say so later: an idle helper ends with its daemon.
    ///
    /// # Errors
    /// As [`Errands::keep`].
    pub(super) fn over(&mut self, address: Address) -> io::Result<()> {
        self.sent.remove(&address);
        match self.kept.remove(&address) {
            Some(unfinished) if unfinished.late => self.write(),
            _ => Ok(()),
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let entry = |(address, unfinished): (&Address, &Unfinished)| {
            // No helper has been sent: there is none yet, or the disk is what
            // does not come back.
            let (helper, _) = self.sent.get(address)?;
            let entry = Entry {
                doing: unfinished.doing.clone(),
                group: unfinished.group,
                makes_vfs: unfinished.makes_vfs,
                late: unfinished.late,
                helper: *helper,
                handles: self.handles(*address),
            };
            Some((*address, entry))
        };
        let helpers = self.kept.iter().filter_map(entry).collect();
        runtime_file::write(path, &Contents { helpers }, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::usage::Handle;

    const A: &str = "0000:01:00.0";

    fn at(address: &str) -> Address {
        address.parse().unwrap()
    }

    fn unbinding(late: bool) -> Unfinished {
        Unfinished {
            doing: "unbinding snd_hda_intel and binding vfio-pci".to_owned(),
            group: Some(7),
            makes_vfs: true,
            late,
        }
    }

    fn control() -> Handles {
        Handles {
            vfs: Vec::new(),
            vfs_only: false,
            driver: Some("snd_hda_intel".to_owned()),
            nodes: vec![Handle {
                subsystem: "sound".to_owned(),
                node: "controlC0".to_owned(),
                device: (116, 7),
            }],
        }
    }

    #[test]
    fn the_next_daemon_knows_the_helpers_that_live() {
        let folder = tempfile::tempdir().unwrap();
        let mut errands = Errands::new(Some(folder.path()));
        assert_eq!(errands.take_over(), Ok(Vec::new()));
        let own = Process::of(std::process::id()).unwrap();
        let earlier = Process {
            started: own.started + 1,
            ..own
        };
        let handles = TakenDown::default();
        let file = folder.path().join("errands.json");
        // One that only read, and is not the one that unbinds.
        errands.sent(at(A), earlier, TakenDown::default()).unwrap();
        errands.wanted(at(A));
        errands.keep(at(A), unbinding(false)).unwrap();
        assert!(!file.exists());
        errands.sent(at(A), own, Arc::clone(&handles)).unwrap();
        assert!(file.exists());
        let second = at("0000:02:00.0");
        errands.keep(second, unbinding(false)).unwrap();
        errands.sent(second, earlier, TakenDown::default()).unwrap();
        // No helper does it.
        errands.keep(at("0000:03:00.0"), unbinding(true)).unwrap();
        handles.set(control()).unwrap();
        errands.keep(at(A), unbinding(true)).unwrap();
        let mut next = Errands::new(Some(folder.path()));
        let found = next.take_over().unwrap();
        assert_eq!(found, [(at(A), own, unbinding(true))]);
        assert_eq!(next.handles(at(A)), control());
        assert_eq!(next.handles(at("0000:02:00.0")), Handles::default());
        next.over(at(A)).unwrap();
        assert_eq!(next.handles(at(A)), Handles::default());
        let mut last = Errands::new(Some(folder.path()));
        assert_eq!(last.take_over(), Ok(Vec::new()));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("errands.json");
        for text in [
            "",
            "{",
            "{\"helpers\": 1}",
            "{\"helpers\": {}, \"more\": 1}",
        ] {
            fs::write(&file, text).unwrap();
            let error = Errands::new(Some(folder.path())).take_over().unwrap_err();
            assert!(error.starts_with(file.to_str().unwrap()), "{error}");
        }
        // Without a directory nothing is kept, and nothing is wrong.
        let mut none = Errands::new(None);
        assert_eq!(none.take_over(), Ok(Vec::new()));
        none.keep(at(A), unbinding(true)).unwrap();
    }
}
