//! Who is sent to do what may never come back, and what is known of them.
//!
//! Owns where they come from: under systemd from a unit of their own, with rights
//! that the daemon is better without, and a stop of the daemon does not
//! wait for one that hangs.
//!
//! Brings their answers to the loop as events. Never waits for one: a helper
//! that is late answers late, or never.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    answers::{self, helped},
    errands::{Errands, TakenDown},
    work::finish,
};
use crate::{
    engine::event::{Event, Unfinished},
    kernel::helper::{
        pool::{Lease, Pool, PoolError},
        process::Process,
        protocol::{Reply, Request},
    },
    pci::address::Address,
};

/// Where systemd starts a helper for each connection, in the runtime directory
/// (vfio-bindd-helper.socket).
const SOCKET: &str = "helper.sock";

/// What the helpers of that unit use as `/sys`.
const SYSFS: &str = "/sys";

/// How long a look at who uses functions may take: a second on a host with many
/// thousand open files.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is looked whether a helper of an earlier daemon has ended.
const LOOKS: Duration = Duration::from_secs(2);

/// Helpers of the unit that listens in `directory`, or else this program itself.
///
/// # Errors
/// If this program's path cannot be found.
pub(super) fn pool(sysfs_root: &Path, directory: Option<&Path>) -> io::Result<Pool> {
    if let Some(directory) = directory.filter(|_| sysfs_root == Path::new(SYSFS)) {
        if let Some(socket) = socket(directory) {
            return Ok(Pool::of_socket(socket));
        }
        tracing::warn!(
            "there is no {}: helpers have the rights of this process only",
            directory.join(SOCKET).display()
        );
    }
    let program = std::env::current_exe()?;
    let arguments = ["--helper".into(), "--sysfs-root".into(), sysfs_root.into()];
    Ok(Pool::of_program(program, arguments.into()))
}

fn socket(directory: &Path) -> Option<PathBuf> {
    let path = directory.join(SOCKET);
    path.exists().then_some(path)
}

/// The helpers, and what they are at.
#[derive(Debug)]
pub(super) struct Helpers {
    pool: Pool,
    /// Written to by those who are sent, too, and never held across a wait.
    errands: Arc<Mutex<Errands>>,
    events: mpsc::UnboundedSender<Event>,
}

impl Helpers {
    /// Helpers of `pool`; what they are at is kept in `directory`, if there is
    /// one.
    pub(super) fn new(
        pool: Pool,
        directory: Option<&Path>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            pool,
            errands: Arc::new(Mutex::new(Errands::new(directory))),
            events,
        }
    }

    /// What helpers of an earlier daemon are still at; the loop hears when each
    /// of them ends.
    pub(super) fn take_over(&self) -> Vec<(Address, Unfinished)> {
        let found = locked(&self.errands).take_over();
        let found = found.unwrap_or_else(|error| {
            tracing::warn!("what helpers of an earlier start are at cannot be read: {error}");
            Vec::new()
        });
        let found = found.into_iter().map(|(address, helper, unfinished)| {
            tokio::spawn(ended(address, helper, self.events.clone()));
            (address, unfinished)
        });
        found.collect()
    }

    /// Sends a helper to the function.
    pub(super) fn send(&self, address: Address, request: Request) {
        let (pool, errands) = (self.pool.clone(), Arc::clone(&self.errands));
        let events = self.events.clone();
        locked(&errands).wanted(address);
        tokio::spawn(async move {
            let carried = async {
                let lease = pool.lease().await?;
                let taken_down = TakenDown::default();
                // Before it begins, or a daemon that is killed now would leave
                // behind what the next one knows nothing of.
                let sent = (lease.process(), Arc::clone(&taken_down));
                tell(locked(&errands).sent(address, sent.0, sent.1));
                carry(lease, &request, &taken_down).await
            };
            finish(&events, helped(address, &request, carried.await));
        });
    }

    /// Has another helper look who holds the function that one does not come
    /// back from.
    pub(super) fn find_holders(&self, address: Address) {
        let before = locked(&self.errands).handles(address);
        let request = Request::Holders { address, before };
        let (pool, events) = (self.pool.clone(), self.events.clone());
        tokio::spawn(async move {
            let reply = pool.call(&request).await;
            finish(&events, helped(address, &request, reply));
        });
    }

    /// Has a helper look who uses functions. Takes no lock of theirs.
    pub(super) fn find_users(&self, addresses: Vec<Address>) {
        let (pool, events) = (self.pool.clone(), self.events.clone());
        tokio::spawn(async move {
            let request = Request::Users { addresses };
            let found = match timeout(LOOK, pool.call(&request)).await {
                Ok(Ok(Reply::Users(users))) => Ok(answers::users(users)),
                Ok(Ok(_)) => Err("a helper answers something else".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", LOOK.as_secs())),
            };
            let found = found.map_err(|error| format!("who uses it cannot be found out: {error}"));
            finish(&events, Event::Users(found));
        });
    }

    /// Keeps for the next daemon what the function's helper is at.
    pub(super) fn keep(&self, address: Address, unfinished: Unfinished) {
        tell(locked(&self.errands).keep(address, unfinished));
    }

    /// The function's helper came back, or has ended.
    pub(super) fn over(&self, address: Address) {
        tell(locked(&self.errands).over(address));
    }
}

fn locked(errands: &Mutex<Errands>) -> MutexGuard<'_, Errands> {
    errands.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::warn!("errands.json cannot be written: {error}");
    }
}

async fn carry(
    mut lease: Lease,
    request: &Request,
    taken_down: &TakenDown,
) -> Result<Reply, PoolError> {
    let mut reply = lease.ask(request).await?;
    if let Reply::Handles(found) = reply {
        taken_down.get_or_init(|| found);
        reply = lease.next().await?;
    }
    lease.done();
    Ok(reply)
}

/// Waits until a helper of an earlier daemon ends.
async fn ended(address: Address, helper: Process, events: mpsc::UnboundedSender<Event>) {
    while helper.lives() {
        sleep(LOOKS).await;
    }
    finish(&events, Event::Finished(address));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_of_the_unit_are_for_the_hosts_own_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let by_socket = |root: &str, directory| {
            let pool = pool(Path::new(root), directory).unwrap();
            format!("{pool:?}").contains("helper.sock")
        };
        // Nobody listens yet.
        assert!(!by_socket("/sys", Some(folder.path())));
        std::fs::write(folder.path().join("helper.sock"), "").unwrap();
        assert!(by_socket("/sys", Some(folder.path())));
        assert!(!by_socket("/tmp/sys", Some(folder.path())));
        // Started by hand.
        assert!(!by_socket("/sys", None));
    }
}
