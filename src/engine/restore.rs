//! Restore: from somebody's wish to have functions back to helpers that give
//! them back, and to an answer.
//!
//! A part of [`State`] as `intake` and `reconcile` are; `undo` has the books.

use std::time::Duration;

use super::{
    errand::Errand,
    event::{Effect, Noted, Standing},
    report::Report,
    state::State,
    target::{Target, meant},
    undo::Unrestored,
};
use crate::pci::address::Address;

/// How giving a function back ended. `released` says whether the journal has it
/// as given back, or on its way, afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It is what it was; this driver has it, if one had.
    Given(Option<String>),
    /// There was nothing to give back: a clause that follows the address.
    Untaken(String),
    /// It is not there.
    Gone,
    /// Something speaks against it: a clause that follows the address.
    Refused {
        /// The clause.
        text: String,
        /// What the journal has.
        released: bool,
    },
    /// The kernel or the disk said no at this step, in words.
    Failed {
        /// The step.
        step: String,
        /// What was said.
        text: String,
        /// What the journal has, `None` if it is what it had.
        released: Option<bool>,
    },
}

impl State {
    /// Takes in what the journal had at the start.
    pub(super) fn journal(
        &mut self,
        entries: Vec<Noted>,
        trouble: Vec<String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.journal_awaited = false;
        for text in trouble {
            effects.push(Effect::Report(Report::JournalTrouble { text }));
        }
        for noted in entries {
            let Noted {
                address,
                mappings,
                standing,
                tuned,
            } = noted;
            if tuned {
                self.tuning.touched(address);
            }
            for name in &mappings {
                self.held.entry(name.clone()).or_default().insert(address);
            }
            self.undo.took(address, mappings.clone());
            if standing == Standing::Taken {
                continue;
            }
            let returning = standing == Standing::Returning;
            if let Some(taken) = self.undo.taken.get_mut(&address) {
                taken.released = true;
                if returning {
                    "its return was broken off".clone_into(&mut taken.trouble);
                }
            }
            if returning && !self.dry_run {
                // What was begun is finished.
                self.undo.returns.insert(address, vec![address]);
            }
            let report = Report::Released { address, mappings };
            effects.push(Effect::Report(report));
        }
        self.reconcile_at = Some(now);
    }

    /// Somebody wants functions given back.
    pub(super) fn restore(
        &mut self,
        asker: u64,
        target: &Target,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let all = if self.dry_run {
            let text = "the daemon runs with --dry-run: it takes nothing and gives nothing back";
            Err(Unrestored::Refused(text.to_owned()))
        } else if self.journal_awaited {
            let text = "the undo journal is not read yet";
            Err(Unrestored::NotReady(text.to_owned()))
        } else {
            meant(
                target,
                &self.undo,
                &self.snapshot.plan,
                self.policy.as_deref(),
            )
        };
        let all = all.and_then(|all| match self.claims.objection(&all) {
            Some(text) => Err(Unrestored::Refused(text)),
            None => Ok(all),
        });
        let all = match all {
            Ok(all) => all,
            Err(no) => {
                let result = Err(no);
                effects.push(Effect::Answer { asker, result });
                return;
            }
        };
        for address in &all {
            self.retries.forget(*address);
        }
        self.undo.ask(asker, all);
        self.reconcile_at = Some(now);
    }

    /// A helper is done with a function.
    pub(super) fn restored(
        &mut self,
        address: Address,
        returned: Returned,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if !matches!(self.land(address, effects), Some(Errand::Restore { .. })) {
            return;
        }
        if matches!(returned, Returned::Given(_)) {
            self.tuning.forget(address);
        }
        let taken = self.undo.taken.get_mut(&address);
        let mappings = taken
            .as_ref()
            .map_or_else(Vec::new, |one| one.mappings.clone());
        let not_restored = |step: String, text: String| {
            Effect::Report(Report::NotRestored {
                address,
                mappings: mappings.clone(),
                step,
                text,
            })
        };
        let failure = match (returned, taken) {
            (Returned::Given(driver), Some(taken)) => {
                // Asked for once more, it is no news.
                if !taken.released || !taken.trouble.is_empty() {
                    taken.released = true;
                    taken.trouble.clear();
                    effects.push(Effect::Report(Report::Restored {
                        address,
                        mappings,
                        driver,
                    }));
                }
                None
            }
            (Returned::Given(_), None) => None,
            (Returned::Gone, _) => {
                self.undo.forget(address);
                None
            }
            (Returned::Untaken(text), _) => {
                self.undo.forget(address);
                Some(Unrestored::NothingTaken(format!("{address} {text}")))
            }
            (Returned::Refused { text, released }, taken) => {
                if let Some(taken) = taken {
                    taken.released = released;
                }
                let step = "looking who uses it".to_owned();
                effects.push(not_restored(step, text.clone()));
                Some(Unrestored::Refused(format!("{address} {text}")))
            }
            (
                Returned::Failed {
                    step,
                    text,
                    released,
                },
                taken,
            ) => {
                let why = format!("{step}: {text}");
                if let Some(taken) = taken {
                    taken.released = released.unwrap_or(taken.released);
                    if taken.released {
                        taken.trouble.clone_from(&why);
                    }
                }
                effects.push(not_restored(step, text));
                let words = format!("{address} was not given back: {why}");
                Some(Unrestored::Failed(words))
            }
        };
        self.undo.over(address, failure.as_ref());
        self.stale.insert(address);
        // The kernel's word counts, not the helper's.
        self.observe(address, effects);
        self.reconcile_at = Some(now);
    }

    /// A return is past its deadline; its function is left alone.
    pub(super) fn return_is_late(&mut self, address: Address) {
        if let Some(taken) = self.undo.taken.get_mut(&address) {
            taken.released = true;
            "the kernel does not come back".clone_into(&mut taken.trouble);
        }
        let text = format!("{address} is stuck: the kernel does not come back from giving it back");
        self.undo.over(address, Some(&Unrestored::Stuck(text)));
    }

    /// The journal has forgotten that a function was given back, or could not.
    pub(super) fn retaken(
        &mut self,
        address: Address,
        result: Result<bool, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.land(address, effects);
        match result {
            Ok(true) => {}
            Ok(false) => self.undo.forget(address),
            Err(text) => effects.push(Effect::Report(Report::JournalTrouble { text })),
        }
        self.reconcile_at = Some(now);
    }

    /// Starts what can start now. Before anything is bound: a function that is
    /// taken again must be forgotten as given back first.
    pub(super) fn dispatch_returns(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let flights = &mut self.flights;
        self.undo.retakes.retain(|address| {
            let waits = !flights.admits(*address, &Errand::Retake);
            if !waits {
                flights.start(*address, Errand::Retake, now);
                effects.push(Effect::Retake(*address));
            }
            waits
        });
        let mut late = Vec::new();
        let returns: Vec<_> = self.undo.returns.clone().into_iter().collect();
        for (address, together) in returns {
            let function = self.inventory.as_ref().and_then(|all| all.get(address));
            let group = function.and_then(|function| function.iommu_group);
            let errand = Errand::Restore { group };
            if self.flights.admits(address, &errand) {
                let effect = Effect::Restore { address, together };
                self.send(address, errand, effect, now, effects);
            } else if let Some(stuck) = self.flights.stuck_before(address, group) {
                late.push((address, stuck));
            }
        }
        for (address, stuck) in late {
            let text = format!("{address} cannot be given back: {stuck} is stuck");
            self.undo.over(address, Some(&Unrestored::Stuck(text)));
            self.reconcile_at = Some(now);
        }
    }

    /// Answers whoever waits for what is over and published.
    pub(super) fn answer(&mut self, effects: &mut Vec<Effect>) {
        if self.looks.is_scanning() || self.reconcile_at.is_some() {
            return;
        }
        let looks = &self.looks;
        let answers = self.undo.answers(|address| !looks.is_at(address));
        let answers = answers.into_iter();
        effects.extend(answers.map(|(asker, result)| Effect::Answer { asker, result }));
    }
}
