//! What is kept for the early stage of the next boot.
//!
//! Owns when that is written: that this boot is not ready, before anything is
//! taken; who is vouched for, once it is. Beside the loop: a disk may be slow.

use std::{io, path::Path};

use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    kernel::{host::ThisHost, verdicts::VerdictFile},
    policy::early::Known,
};

/// The file, and what is to be written to it.
#[derive(Debug)]
pub(super) struct Verdicts {
    file: Option<VerdictFile>,
    sender: Option<watch::Sender<Vec<Known>>>,
}

impl Verdicts {
    /// The file in the state directory that systemd made. Started by hand there
    /// is none, and a dry run leaves it alone: nothing is kept then.
    pub(super) fn new(dry_run: bool) -> Self {
        // systemd.exec(5), StateDirectory=.
        let directory = std::env::var_os("STATE_DIRECTORY").filter(|_| !dry_run);
        let file = directory.and_then(|directory| {
            VerdictFile::new(Path::new(&directory), &ThisHost)
                .inspect_err(|error| tracing::warn!("{error}; the next boot takes less early"))
                .ok()
        });
        let sender = file.clone().map(|file| {
            let (sender, verdicts) = watch::channel(Vec::new());
            tokio::spawn(keep(file, verdicts));
            sender
        });
        Self { file, sender }
    }

    /// What begins this boot's file. Blocks on a disk.
    pub(super) fn beginning(&self) -> impl FnOnce() -> Vec<Known> + Send + 'static {
        let file = self.file.clone();
        move || {
            let known = file.map_or_else(|| Ok(Vec::new()), |file| file.begin());
            known.unwrap_or_else(|error| {
                tracing::warn!("{error}; what it says is not counted");
                Vec::new()
            })
        }
    }

    /// Has this kept.
    pub(super) fn write(&self, known: Vec<Known>) {
        if let Some(sender) = &self.sender {
            sender.send_replace(known);
        }
    }
}

/// Writes whatever comes, one after another and only the newest of what came
/// meanwhile, until nobody can send any more.
async fn keep(file: VerdictFile, mut verdicts: watch::Receiver<Vec<Known>>) {
    let mut told = false;
    while verdicts.changed().await.is_ok() {
        let known = verdicts.borrow_and_update().clone();
        let file = file.clone();
        let written = spawn_blocking(move || file.write(true, &known)).await;
        let written = written.map_err(|error| io::Error::from(error).to_string());
        match written.map(|result| result.map_err(|error| error.to_string())) {
            Ok(Ok(())) => told = false,
            Ok(Err(error)) | Err(error) if !told => {
                tracing::warn!("{error}; the next boot takes less early");
                told = true;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
