//! Claims as the daemon sees them: the file that keeps them over a restart, who
//! waits for an answer, and when a lifetime is over.
//!
//! `claims.json` is in the runtime directory: a boot ends every claim.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::sleep,
};

use super::{runtime_file, work::finish};
use crate::{
    bus::request::{Lasts, Wish},
    engine::{
        claims::{Asked, Claim, Lifetime, Unclaimed},
        event::Event,
    },
    kernel::helper::process::Process,
    pci::address::Address,
};

type Granted = oneshot::Sender<Result<Vec<Address>, Unclaimed>>;
type Freed = oneshot::Sender<Result<(), Unclaimed>>;

/// How often it is looked whether a claim's process has ended, beside the look
/// before each grant.
const LOOKS: Duration = Duration::from_secs(1);

/// The file, and those who wait.
#[derive(Debug)]
pub(super) struct Claims {
    path: Option<PathBuf>,
    asked: u64,
    claimers: BTreeMap<u64, Granted>,
    releasers: BTreeMap<u64, Freed>,
    /// The claims that end with a process.
    processes: BTreeMap<u64, Process>,
    /// What waits for the end of a claim.
    watchers: BTreeMap<u64, AbortHandle>,
    events: mpsc::UnboundedSender<Event>,
}

impl Claims {
    /// `claims.json` in `directory`; without one, a restart ends all claims.
    pub(super) fn new(directory: Option<&Path>, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            path: directory.map(|directory| directory.join("claims.json")),
            asked: 0,
            claimers: BTreeMap::new(),
            releasers: BTreeMap::new(),
            processes: BTreeMap::new(),
            watchers: BTreeMap::new(),
            events,
        }
    }

    /// What was claimed of an earlier daemon of this boot.
    pub(super) fn recall(&self) -> Vec<Claim> {
        let kept = self.path.as_deref().map_or(Ok(None), runtime_file::read);
        kept.unwrap_or_else(|error| {
            tracing::warn!("what was claimed before cannot be read: {error}");
            None
        })
        .unwrap_or_default()
    }

    /// Keeps the claims for the next daemon of this boot.
    pub(super) fn keep(&mut self, claims: &[Claim]) {
        let lives = |serial: &u64| claims.iter().any(|claim| claim.serial == *serial);
        self.processes.retain(|serial, _| lives(serial));
        self.watchers.retain(|serial, watcher| {
            let lives = lives(serial);
            if !lives {
                watcher.abort();
            }
            lives
        });
        let Some(path) = &self.path else {
            return;
        };
        if let Err(error) = runtime_file::write(path, &claims, 0o600) {
            tracing::warn!("claims.json cannot be written: {error}");
        }
    }

    /// Somebody wants functions.
    pub(super) fn claim(&mut self, wish: Wish, claimer: Granted) -> Option<Event> {
        let lifetime = match lifetime(wish.lasts) {
            Ok(lifetime) => lifetime,
            Err(text) => {
                answer(claimer, Err(Unclaimed::Refused(text)));
                return None;
            }
        };
        self.asked += 1;
        let asker = self.asked;
        self.claimers.insert(asker, claimer);
        let asked = Asked {
            mapping: wish.mapping,
            owner: wish.owner,
            uid: wish.uid,
            share: wish.share,
            prefer_numa: wish.prefer_numa,
            placement: wish.placement,
            lifetime,
        };
        Some(Event::Claim { asker, asked })
    }

    /// Somebody wants what `owner` has freed.
    pub(super) fn release(&mut self, owner: String, uid: u32, releaser: Freed) -> Event {
        self.asked += 1;
        let asker = self.asked;
        self.releasers.insert(asker, releaser);
        Event::Release { asker, owner, uid }
    }

    pub(super) fn granted(&mut self, asker: u64, result: Result<Vec<Address>, Unclaimed>) {
        if let Some(claimer) = self.claimers.remove(&asker) {
            answer(claimer, result);
        }
    }

    pub(super) fn freed(&mut self, asker: u64, result: Result<(), Unclaimed>) {
        if let Some(releaser) = self.releasers.remove(&asker) {
            answer(releaser, result);
        }
    }

    /// Says which claims' processes have ended by now: what comes next must not
    /// find functions taken by those.
    pub(super) fn bury(&mut self) {
        self.processes.retain(|serial, process| {
            let lives = process.lives();
            if !lives {
                finish(&self.events, Event::ClaimOver(*serial));
            }
            lives
        });
    }

    /// Waits beside the loop until the claim's lifetime is over.
    pub(super) fn watch(&mut self, claim: &Claim) {
        let (serial, events) = (claim.serial, self.events.clone());
        match claim.lifetime {
            // Whoever serves the bus knows who is on it.
            Lifetime::Released | Lifetime::Caller { .. } => {}
            Lifetime::Process { pid, started } => {
                let process = Process { pid, started };
                self.processes.insert(serial, process);
                let watcher = tokio::spawn(async move {
                    while process.lives() {
                        sleep(LOOKS).await;
                    }
                    finish(&events, Event::ClaimOver(serial));
                });
                self.watchers.insert(serial, watcher.abort_handle());
            }
            Lifetime::Until(end) => {
                let watcher = tokio::spawn(async move {
                    // The clock of `sleep` stands still while the host is suspended.
                    while let Some(left) =
                        end.checked_sub(since_boot()).filter(|left| !left.is_zero())
                    {
                        sleep(left.min(Duration::from_secs(60))).await;
                    }
                    finish(&events, Event::ClaimOver(serial));
                });
                self.watchers.insert(serial, watcher.abort_handle());
            }
        }
    }
}

fn answer<T>(caller: oneshot::Sender<T>, result: T) {
    if caller.send(result).is_err() {
        tracing::debug!("a caller did not wait for its answer");
    }
}

fn lifetime(lasts: Lasts) -> Result<Lifetime, String> {
    Ok(match lasts {
        Lasts::UntilReleased => Lifetime::Released,
        Lasts::Caller { name, bus } => Lifetime::Caller { name, bus },
        Lasts::For(time) => Lifetime::Until(since_boot().saturating_add(time)),
        Lasts::Process(pid) => {
            let process = Process::of(pid).map_err(|_| format!("there is no process {pid}"))?;
            Lifetime::Process {
                pid,
                started: process.started,
            }
        }
    })
}

/// The time since the boot, with what the host slept.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_ends_ends_its_claim() {
        let (events, mut heard) = mpsc::unbounded_channel();
        let mut claims = Claims::new(None, events);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let lifetime = lifetime(Lasts::Process(child.id())).unwrap();
        let claim = Claim {
            mapping: "gpu".to_owned(),
            owner: "vm".to_owned(),
            uid: 0,
            addresses: std::iter::once("0000:01:00.0".parse().unwrap()).collect(),
            lifetime,
            serial: 7,
        };
        claims.watch(&claim);
        claims.bury();
        assert!(heard.try_recv().is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        // At once for whoever asks next, and soon without.
        claims.bury();
        for _ in 0..2 {
            assert!(matches!(heard.recv().await, Some(Event::ClaimOver(7))));
        }
    }

    #[tokio::test]
    async fn a_time_that_is_up_ends_a_claim() {
        let (events, mut heard) = mpsc::unbounded_channel();
        let mut claims = Claims::new(None, events);
        let claim = Claim {
            mapping: "gpu".to_owned(),
            owner: "vm".to_owned(),
            uid: 0,
            addresses: std::iter::once("0000:01:00.0".parse().unwrap()).collect(),
            lifetime: lifetime(Lasts::For(Duration::from_millis(20))).unwrap(),
            serial: 8,
        };
        claims.watch(&claim);
        assert!(matches!(heard.recv().await, Some(Event::ClaimOver(8))));
        // Nobody waits for what is over before.
        let far = Claim {
            lifetime: lifetime(Lasts::For(Duration::MAX)).unwrap(),
            ..claim
        };
        claims.watch(&far);
        let watcher = claims.watchers.get(&8).unwrap().clone();
        claims.keep(&[]);
        tokio::task::yield_now().await;
        assert!(watcher.is_finished());
    }

    #[test]
    fn nobody_lives_as_long_as_a_process_that_is_not_there() {
        // Numbers end at 2^22 (proc_sys_kernel(5), pid_max).
        let text = lifetime(Lasts::Process(5_000_000)).unwrap_err();
        assert_eq!(text, "there is no process 5000000");
    }

    #[test]
    fn what_is_kept_is_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let (events, _heard) = mpsc::unbounded_channel();
        let mut claims = Claims::new(Some(folder.path()), events);
        assert_eq!(claims.recall(), Vec::new());
        let claim = Claim {
            mapping: "gpu".to_owned(),
            owner: "vm \"1\"\u{7f}".to_owned(),
            uid: 64055,
            addresses: std::iter::once("10000:01:00.0".parse().unwrap()).collect(),
            lifetime: Lifetime::Caller {
                name: ":1.7".to_owned(),
                bus: "b".to_owned(),
            },
            serial: 3,
        };
        claims.keep(std::slice::from_ref(&claim));
        assert_eq!(claims.recall(), [claim]);
        std::fs::write(folder.path().join("claims.json"), "{").unwrap();
        assert_eq!(claims.recall(), Vec::new());
    }
}
