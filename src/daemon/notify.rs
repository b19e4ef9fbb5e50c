//! What systemd is told: READY, STATUS, RELOADING, STOPPING, WATCHDOG.
//!
//! Owns the words of `systemctl status`. A lost message is not worth a line:
//! started by hand there is nobody to tell.
//! Source: sd_notify(3); RELOADING needs MONOTONIC_USEC from systemd 253 on
//! and older ones ignore it.

use std::time::Duration;

use sd_notify::NotifyState;

use super::journal::counted;
use crate::engine::snapshot::{DaemonState, Snapshot};

/// Tells systemd about snapshots as they come.
#[derive(Debug, Default)]
pub struct Notifier {
    ready: bool,
    status: String,
}

impl Notifier {
    /// Tells what is new in `snapshot`; READY once the first pass is over.
    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        let status = status(snapshot);
        let mut states = Vec::new();
        if status != self.status {
            states.push(NotifyState::Status(&status));
        }
        let ready = snapshot.state != DaemonState::Starting;
        if ready && !self.ready {
            states.push(NotifyState::Ready);
        }
        if !states.is_empty() {
            tell(&states);
        }
        drop(states);
        self.ready |= ready;
        self.status = status;
    }

    /// Tells that a reload began.
    pub fn reloading(&self) {
        if self.ready {
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now());
            tell(&states);
        }
    }

    /// Tells that a reload is over.
    pub fn reloaded(&self) {
        if self.ready {
            tell(&[NotifyState::Ready]);
        }
    }
}

/// Tells that the loop still turns.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Tells that the daemon ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often [`alive`] is to be called, `None` without a watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

fn status(snapshot: &Snapshot) -> String {
    let bound = snapshot.bound().count();
    let all = snapshot.mappings.len();
    let first = snapshot.reason.lines().next().unwrap_or_default();
    match snapshot.state {
        DaemonState::Starting => "First pass under way".to_owned(),
        DaemonState::Failed => format!("Config not valid, nothing is bound: {first}"),
        DaemonState::Ready if all == 0 => "No mapping is configured".to_owned(),
        DaemonState::Ready if first.is_empty() => format!("All {} bound", counted(all, "mapping")),
        _ => format!("{bound} of {} bound: {first}", counted(all, "mapping")),
    }
}
