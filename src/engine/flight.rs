//! What is under way at helpers.
//!
//! Owns deadlines, how much goes on at a time, and who was found to hold up what is
//! late. Times are durations since the daemon's start.

use std::{collections::BTreeMap, time::Duration};

use super::{errand::Errand, event::Unfinished};
use crate::pci::address::Address;

/// How many functions are bound or given back at a time: unbinding sleeps more than it works.
const MOST_WRITES: usize = 8;

/// How many functions are inspected at a time.
const MOST_INSPECTIONS: usize = 4;

/// How many functions' nodes are looked at a time. It is udev that they wait for,
/// which works at that many events at once anyway.
const MOST_OWNERS: usize = 8;

/// When a helper that reads is late. Reads are immediate unless a device lock
/// is held or a sleeping device must wake up first (100 ms and more).
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

/// When a helper that binds or gives back is late. The slowest healthy unbinds and the reset
/// of a dying device take up to a minute, but a boot must not wait for them;
/// a late helper is left alone and may still finish.
const WRITE_DEADLINE: Duration = Duration::from_secs(15);

/// When a helper that has VFs made is late: the driver sleeps for a second where
/// there were others, and each new one is added and looked at, 256 of them in turn.
const VFS_DEADLINE: Duration = Duration::from_secs(60);

/// How much later it is for each VF that it sets: its driver waits for a reset of it
/// each time (drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c,
/// `i40e_check_vf_init_timeout`, v6.12: 300 ms).
const VF_DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) errand: Errand,
    deadline: Duration,
    pub(super) stuck: bool,
    /// Who keeps the kernel from coming back, a clause each.
    pub(super) holders: Vec<String>,
    /// Whether a helper looks for them: one at a time, for it may hang too.
    asking: bool,
}

impl Flight {
    /// What is said of a function that is stuck, a clause that follows the address.
    pub(super) fn stuck_words(&self) -> String {
        let mut words = format!("does not come back from {}", self.errand.doing());
        if let Some(first) = self.holders.first() {
            words += &format!(": {first}");
        }
        if self.holders.len() > 1 {
            words += &format!(" (and {} more)", self.holders.len() - 1);
        }
        words
    }
}

/// All errands under way, at most one per function.
#[derive(Debug, Default)]
pub(super) struct Flights(BTreeMap<Address, Flight>);

impl Flights {
    pub(super) fn get(&self, address: Address) -> Option<&Flight> {
        self.0.get(&address)
    }

    /// What is under way at `address`, if it is stuck.
    pub(super) fn stuck(&self, address: Address) -> Option<&Flight> {
        self.get(address).filter(|flight| flight.stuck)
    }

    /// Whether an errand for `address` may start now.
    pub(super) fn admits(&self, address: Address, errand: &Errand) -> bool {
        if self.0.contains_key(&address) {
            return false;
        }
        let mut inspections = 0;
        let mut writes = 0;
        let mut owners = 0;
        for flight in self.0.values() {
            let group = flight.errand.group();
            if group.is_some() && group == errand.group() {
                return false;
            }
            match &flight.errand {
                // A stuck one holds no place, or enough of them would stop all.
                _ if flight.stuck => {}
                Errand::Apply(_)
                | Errand::Restore { .. }
                | Errand::Tune(_)
                | Errand::Former { .. } => writes += 1,
                Errand::Inspect => inspections += 1,
                Errand::Own(_) => owners += 1,
                Errand::Retake
                | Errand::Withhold(_)
                | Errand::MakeVfs(_)
                | Errand::SettleVfs(_) => {}
            }
        }
        match errand {
            Errand::Inspect => inspections < MOST_INSPECTIONS,
            Errand::Apply(_) | Errand::Restore { .. } | Errand::Tune(_) => writes < MOST_WRITES,
            Errand::Own(_) => owners < MOST_OWNERS,
            Errand::Retake
            | Errand::Withhold(_)
            | Errand::MakeVfs(_)
            | Errand::SettleVfs(_)
            | Errand::Former { .. } => true,
        }
    }

    /// What is stuck and keeps a write to the function from starting: its own
    /// errand, or one in its IOMMU group.
    pub(super) fn stuck_before(&self, address: Address, group: Option<u32>) -> Option<Address> {
        let mut stuck = self.0.iter().filter(|(_, flight)| flight.stuck);
        let (other, _) = stuck.find(|(other, flight)| {
            let theirs = flight.errand.group();
            **other == address || (theirs.is_some() && theirs == group)
        })?;
        Some(*other)
    }

    pub(super) fn start(&mut self, address: Address, errand: Errand, now: Duration) {
        let deadline = now
            + match &errand {
                Errand::Inspect | Errand::Own(_) | Errand::Retake | Errand::Withhold(_) => {
                    INSPECT_DEADLINE
                }
                Errand::SettleVfs(settings) => {
                    let each = u32::try_from(settings.len()).unwrap_or(u32::MAX);
                    INSPECT_DEADLINE + VF_DEADLINE.saturating_mul(each)
                }
                Errand::MakeVfs(_) => VFS_DEADLINE,
                Errand::Apply(_)
                | Errand::Restore { .. }
                | Errand::Tune(_)
                | Errand::Former { .. } => WRITE_DEADLINE,
            };
        let flight = Flight {
            errand,
            deadline,
            stuck: false,
            holders: Vec::new(),
            asking: false,
        };
        self.0.insert(address, flight);
    }

    pub(super) fn finish(&mut self, address: Address) -> Option<Flight> {
        self.0.remove(&address)
    }

    /// Whether a helper has the PF make VFs, so that those that there are may go.
    pub(super) fn is_making_vfs(&self, pf: Address) -> bool {
        let flight = self.0.get(&pf);
        flight.is_some_and(|flight| flight.errand.makes_vfs())
    }

    /// Whether a helper writes to the function now, and is not late.
    pub(super) fn is_writing(&self, address: Address) -> bool {
        let flight = self.0.get(&address).filter(|one| !one.stuck);
        flight.is_some_and(|one| one.errand.writes())
    }

    /// Takes in what a helper of an earlier daemon is still at.
    pub(super) fn take_over(&mut self, address: Address, unfinished: Unfinished, now: Duration) {
        let Unfinished {
            doing,
            group,
            makes_vfs,
            late,
        } = unfinished;
        let errand = Errand::Former {
            doing,
            group,
            makes_vfs,
        };
        self.start(address, errand, now);
        if let Some(flight) = self.0.get_mut(&address).filter(|_| late) {
            flight.deadline = now;
        }
    }

    /// What is stuck and of which nobody is looking for those who hold it;
    /// from now on somebody is.
    pub(super) fn ask_for_holders(&mut self) -> Vec<Address> {
        let flights = self.0.iter_mut();
        flights
            .filter(|(_, flight)| flight.stuck && !flight.asking && flight.errand.is_held_up())
            .map(|(address, flight)| {
                flight.asking = true;
                *address
            })
            .collect()
    }

    /// Who holds up what is stuck was found out; says whether that is news.
    pub(super) fn held_by(&mut self, address: Address, holders: Vec<String>) -> bool {
        let Some(flight) = self.0.get_mut(&address).filter(|one| one.stuck) else {
            return false;
        };
        flight.asking = false;
        let before = std::mem::replace(&mut flight.holders, holders);
        before != flight.holders
    }

    /// Marks what is past its deadline, and names it; somebody is to look who
    /// holds it up.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<(Address, Errand)> {
        self.0
            .iter_mut()
            .filter(|(_, flight)| !flight.stuck && flight.deadline <= now)
            .map(|(address, flight)| {
                flight.stuck = true;
                flight.asking = flight.errand.is_held_up();
                (*address, flight.errand.clone())
            })
            .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let live = self.0.values().filter(|flight| !flight.stuck);
        live.map(|flight| flight.deadline).min()
    }

    /// Whether nothing is under way but what is stuck, or what an earlier daemon
    /// began: a restart does not wait to see which of the two that is.
    pub(super) fn is_quiet(&self) -> bool {
        let former = |flight: &Flight| matches!(flight.errand, Errand::Former { .. });
        self.0.values().all(|flight| flight.stuck || former(flight))
    }
}
