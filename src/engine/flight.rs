//! What is under way at helpers, and what waits before it is tried again.
//!
//! Owns deadlines and backoff. Times are durations since the daemon's start.

use std::{collections::BTreeMap, time::Duration};

use crate::{pci::address::Address, policy::plan::Action};

/// How many functions are bound at a time: unbinding sleeps more than it works.
const MOST_APPLIES: usize = 8;

/// How many functions are inspected at a time.
const MOST_INSPECTIONS: usize = 4;

/// When a helper that reads is late. Reads are immediate unless a device lock
/// is held or a sleeping device must wake up first (100 ms and more).
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

/// When a helper that binds is late. The slowest healthy unbinds and the reset
/// of a dying device take up to a minute, but a boot must not wait for them;
/// a late helper is left alone and may still finish.
const APPLY_DEADLINE: Duration = Duration::from_secs(15);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What a helper is doing with a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Inspect,
    Apply(Action),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) errand: Errand,
    deadline: Duration,
    pub(super) stuck: bool,
}

/// All errands under way, at most one per function.
#[derive(Debug, Default)]
pub(super) struct Flights(BTreeMap<Address, Flight>);

impl Flights {
    pub(super) fn get(&self, address: Address) -> Option<&Flight> {
        self.0.get(&address)
    }

    /// Whether an errand for `address` may start now.
    pub(super) fn admits(&self, address: Address, errand: &Errand) -> bool {
        if self.0.contains_key(&address) {
            return false;
        }
        let mut inspections = 0;
        let mut applies = 0;
        let mut group_is_busy = false;
        for flight in self.0.values() {
            match (&flight.errand, errand) {
                (Errand::Apply(theirs), Errand::Apply(ours)) if theirs.group == ours.group => {
                    group_is_busy = true;
                }
                // A stuck one holds no place, or enough of them would stop all.
                _ if flight.stuck => {}
                (Errand::Apply(_), _) => applies += 1,
                (Errand::Inspect, _) => inspections += 1,
            }
        }
        match errand {
            Errand::Inspect => inspections < MOST_INSPECTIONS,
            Errand::Apply(_) => !group_is_busy && applies < MOST_APPLIES,
        }
    }

    pub(super) fn start(&mut self, address: Address, errand: Errand, now: Duration) {
        let deadline = now
            + match errand {
                Errand::Inspect => INSPECT_DEADLINE,
                Errand::Apply(_) => APPLY_DEADLINE,
            };
        let flight = Flight {
            errand,
            deadline,
            stuck: false,
        };
        self.0.insert(address, flight);
    }

    pub(super) fn finish(&mut self, address: Address) -> Option<Flight> {
        self.0.remove(&address)
    }

    /// Whether a helper binds the function now, and is not late.
    pub(super) fn is_applying(&self, address: Address) -> bool {
        let flight = self.0.get(&address);
        flight.is_some_and(|one| !one.stuck && matches!(one.errand, Errand::Apply(_)))
    }

    /// Marks what is past its deadline, and names it.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<(Address, Errand)> {
        self.0
            .iter_mut()
            .filter(|(_, flight)| !flight.stuck && flight.deadline <= now)
            .map(|(address, flight)| {
                flight.stuck = true;
                (*address, flight.errand.clone())
            })
            .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let live = self.0.values().filter(|flight| !flight.stuck);
        live.map(|flight| flight.deadline).min()
    }

    /// Whether nothing is under way but what is stuck.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.values().all(|flight| flight.stuck)
    }
}

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

#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<Address, Retry>);

impl Retries {
    pub(super) fn get(&self, address: Address) -> Option<&Retry> {
        self.0.get(&address)
    }

    pub(super) fn may_start(&self, address: Address, now: Duration) -> bool {
        self.0.get(&address).is_none_or(|retry| retry.at <= now)
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

    /// When the next of those that still wait may start.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let waiting = self.0.values().map(|retry| retry.at);
        waiting.filter(|at| *at > now).min()
    }
}
