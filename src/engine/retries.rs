//! What failed, and when it is tried again: with longer and longer breaks.
//!
//! Times are durations since the daemon's start.

use std::{collections::BTreeMap, time::Duration};

use crate::pci::address::Address;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// One function's failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    count: u32,
    pub(super) at: Duration,
    /// What went wrong last, as a clause.
    pub(super) text: String,
    /// Whether policy said no in the helper, rather than the kernel.
    pub(super) refused: bool,
}

/// All functions that failed.
#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<Address, Retry>);

impl Retries {
    pub(super) fn get(&self, address: Address) -> Option<&Retry> {
        self.0.get(&address)
    }

    pub(super) fn may_start(&self, address: Address, now: Duration) -> bool {
        self.0.get(&address).is_none_or(|retry| retry.at <= now)
    }

    /// Whether this would be another failure than the last.
    pub(super) fn is_news(&self, address: Address, text: &str) -> bool {
        self.0.get(&address).is_none_or(|retry| retry.text != text)
    }

    /// Notes a failure; says when it may be tried again.
    pub(super) fn failed(
        &mut self,
        address: Address,
        now: Duration,
        text: String,
        refused: bool,
    ) -> Duration {
        let count = self.0.get(&address).map_or(0, |retry| retry.count);
        let wait = FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(count))
            .min(LONGEST_RETRY);
        let retry = Retry {
            count: count + 1,
            at: now + wait,
            text,
            refused,
        };
        self.0.insert(address, retry);
        wait
    }

    pub(super) fn forget(&mut self, address: Address) {
        self.0.remove(&address);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Has these tried again at once; that they failed, and how often, is still known.
    pub(super) fn hurry(&mut self, which: impl Fn(Address, &Retry) -> bool) {
        for (address, retry) in &mut self.0 {
            if which(*address, retry) {
                retry.at = Duration::ZERO;
            }
        }
    }

    pub(super) fn keep_only(&mut self, kept: impl Fn(&Address) -> bool) {
        self.0.retain(|address, _| kept(address));
    }

    /// When the next of those that still wait may start.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let waiting = self.0.values().map(|retry| retry.at);
        waiting.filter(|at| *at > now).min()
    }
}
