//! The undo journal as the daemon sees it: where it is, what it says at the
//! start, and who waits for a restore.
//!
//! What functions were is written down by helpers, never here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tokio::sync::oneshot;

use crate::{
    engine::{
        event::{Event, Noted, Standing},
        target::Target,
        undo::Unrestored,
    },
    kernel::{
        host::ThisHost,
        sysfs::Sysfs,
        undo::{Entry, Journal, Phase},
    },
    pci::address::Address,
};

type Caller = oneshot::Sender<Result<(), Unrestored>>;

/// The journal's folder, if there is one, and those who wait for a restore.
#[derive(Debug)]
pub(super) struct Undo {
    folder: Option<PathBuf>,
    asked: u64,
    callers: BTreeMap<u64, Caller>,
}

impl Undo {
    /// The journal in the state directory that systemd made.
    pub(super) fn new(dry_run: bool) -> Self {
        // systemd.exec(5), StateDirectory=. Started by hand there is none.
        let directory = std::env::var_os("STATE_DIRECTORY");
        if directory.is_none() && !dry_run {
            tracing::warn!(
                "there is no state directory (STATE_DIRECTORY): what functions were is not \
                 written down, and none can be given back"
            );
        }
        Self {
            folder: directory.map(|directory| Path::new(&directory).join("undo")),
            asked: 0,
            callers: BTreeMap::new(),
        }
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    pub(super) fn owned(&self) -> Option<PathBuf> {
        self.folder.clone()
    }

    /// Somebody wants functions given back.
    pub(super) fn ask(&mut self, target: Target, caller: Caller) -> Option<Event> {
        if self.folder.is_none() {
            let text = "the daemon was started without a state directory (STATE_DIRECTORY), so \
                        what functions were was not written down";
            answer(caller, Err(Unrestored::Failed(text.to_owned())));
            return None;
        }
        self.asked += 1;
        let asker = self.asked;
        self.callers.insert(asker, caller);
        Some(Event::Restore { asker, target })
    }

    /// Answers whoever asked as this one.
    pub(super) fn answer(&mut self, asker: u64, result: Result<(), Unrestored>) {
        if let Some(caller) = self.callers.remove(&asker) {
            answer(caller, result);
        }
    }
}

fn answer(caller: Caller, result: Result<(), Unrestored>) {
    if caller.send(result).is_err() {
        tracing::debug!("a caller did not wait for its answer");
    }
}

/// What the journal in `folder` says of this boot.
pub(super) fn read(folder: &Path, sysfs: &dyn Sysfs, tidy: bool) -> Event {
    let contents = Journal::new(folder).contents(sysfs, &ThisHost, tidy);
    let entries = contents.entries.into_iter().map(noted);
    // An entry that cannot be read is one still: who wants it back is told.
    let unreadable = contents.unreadable.into_iter().map(|address| Noted {
        address,
        mappings: Vec::new(),
        standing: Standing::Taken,
        tuned: false,
    });
    Event::Journal {
        entries: entries.chain(unreadable).collect(),
        trouble: contents.trouble,
    }
}

/// The PFs whose VFs an earlier daemon of this boot keeps native drivers from.
pub(super) fn withheld(folder: &Path, tidy: bool) -> Event {
    let pfs = Journal::new(folder).withheld(&ThisHost, tidy);
    Event::Withheld(pfs.unwrap_or_else(|error| {
        tracing::warn!("{error}; what sriov_drivers_autoprobe was is not put back");
        Vec::new()
    }))
}

fn noted(entry: Entry) -> Noted {
    Noted {
        address: entry.function.address,
        mappings: entry.mappings,
        tuned: !entry.former.settings.is_empty(),
        standing: match entry.phase {
            Phase::Taken => Standing::Taken,
            Phase::Returning => Standing::Returning,
            Phase::Released => Standing::Released,
        },
    }
}

/// Has the journal forget that the function was given back.
pub(super) fn retake(folder: Option<&Path>, address: Address) -> Event {
    let result = folder.map_or(Ok(false), |folder| Journal::new(folder).retake(address));
    Event::Retaken(address, result.map_err(|error| error.to_string()))
}
