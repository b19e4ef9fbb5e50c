//! Undo: which functions were taken, which of them the host has back, and who
//! waits for a return.
//!
//! Owns what nobody binds by itself. What a function was before is the kernel
//! layer's; here is only that it is known. Starts nothing: `restore` does.

use std::collections::{BTreeMap, BTreeSet};

use crate::pci::address::Address;

/// Why something was not given back, each a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrestored {
    /// No mapping has this name.
    Unknown(String),
    /// Nothing of it was ever taken.
    NothingTaken(String),
    /// Policy says no.
    Refused(String),
    /// The kernel does not come back.
    Stuck(String),
    /// The kernel or the disk said no.
    Failed(String),
    /// It is too early to say.
    NotReady(String),
}

/// One function that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// The mappings that it was taken for.
    pub(super) mappings: Vec<String>,
    /// Nobody binds it by itself.
    pub(super) released: bool,
    /// Why it is not back although it is released; empty if it is.
    pub(super) trouble: String,
}

/// Somebody who waits for an answer.
#[derive(Debug)]
struct Asker {
    all: Vec<Address>,
    waits_for: BTreeSet<Address>,
    failures: BTreeMap<Address, Unrestored>,
}

/// All that is known of taken functions and of those on their way back.
#[derive(Debug, Default)]
pub(super) struct Undo {
    pub(super) taken: BTreeMap<Address, Taken>,
    /// What is to be given back, or just is, each with all that go with it.
    pub(super) returns: BTreeMap<Address, Vec<Address>>,
    /// What the journal is to forget as given back.
    pub(super) retakes: BTreeSet<Address>,
    askers: BTreeMap<u64, Asker>,
}

impl Undo {
    /// What nobody binds by itself.
    pub(super) fn released(&self) -> BTreeSet<Address> {
        let released = self.taken.iter().filter(|(_, taken)| taken.released);
        let released = released.map(|(address, _)| *address);
        released.chain(self.returns.keys().copied()).collect()
    }

    /// Whether the function is on its way back.
    pub(super) fn is_returning(&self, address: Address) -> bool {
        self.returns.contains_key(&address)
    }

    /// Whether the host has the function back, and a word if not quite.
    pub(super) fn trouble(&self, address: Address) -> Option<&str> {
        let taken = self.taken.get(&address).filter(|taken| taken.released)?;
        Some(&taken.trouble)
    }

    /// The function was taken, or may have been.
    pub(super) fn took(&mut self, address: Address, mappings: Vec<String>) {
        let taken = Taken {
            mappings,
            released: false,
            trouble: String::new(),
        };
        self.taken.insert(address, taken);
    }

    /// The function went, and with it all that was changed.
    pub(super) fn forget(&mut self, address: Address) {
        self.taken.remove(&address);
        self.retakes.remove(&address);
    }

    /// Those who wait for what is over, by `settled` too, with the gist of it.
    pub(super) fn answers(
        &mut self,
        settled: impl Fn(Address) -> bool,
    ) -> Vec<(u64, Result<(), Unrestored>)> {
        let mut answers = Vec::new();
        self.askers.retain(|asker, waiting| {
            let over = waiting.waits_for.is_empty() && waiting.all.iter().all(|one| settled(*one));
            if over {
                answers.push((*asker, gist(&waiting.failures)));
            }
            !over
        });
        answers
    }

    /// Somebody wants all of these given back, and waits for it.
    pub(super) fn ask(&mut self, asker: u64, all: Vec<Address>) {
        for address in &all {
            self.retakes.remove(address);
            self.returns.insert(*address, all.clone());
        }
        let waiting = Asker {
            waits_for: all.iter().copied().collect(),
            all,
            failures: BTreeMap::new(),
        };
        self.askers.insert(asker, waiting);
    }

    /// What was given back, and is not on its way, may be taken again.
    pub(super) fn retake(&mut self) {
        for (address, taken) in &mut self.taken {
            if taken.released && !self.returns.contains_key(address) {
                taken.released = false;
                taken.trouble.clear();
                self.retakes.insert(*address);
            }
        }
    }

    /// One function's return is over; whoever waits for it hears that.
    pub(super) fn over(&mut self, address: Address, failure: Option<&Unrestored>) {
        self.returns.remove(&address);
        for asker in self.askers.values_mut() {
            if asker.waits_for.remove(&address) {
                let failure = failure.cloned();
                asker.failures.extend(failure.map(|why| (address, why)));
            }
        }
    }
}

/// The first failure, and how many more there are.
fn gist(failures: &BTreeMap<Address, Unrestored>) -> Result<(), Unrestored> {
    let Some(first) = failures.values().next() else {
        return Ok(());
    };
    let more = |text: &String| match failures.len() {
        1 => text.clone(),
        count => format!("{text} (and {} more)", count - 1),
    };
    Err(match first {
        Unrestored::Unknown(text) => Unrestored::Unknown(more(text)),
        Unrestored::NothingTaken(text) => Unrestored::NothingTaken(more(text)),
        Unrestored::Refused(text) => Unrestored::Refused(more(text)),
        Unrestored::Stuck(text) => Unrestored::Stuck(more(text)),
        Unrestored::Failed(text) => Unrestored::Failed(more(text)),
        Unrestored::NotReady(text) => Unrestored::NotReady(more(text)),
    })
}
