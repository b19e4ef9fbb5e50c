//! Knobs: the settings of what is bound, before it is told as bound.
//!
//! A part of [`State`] as `intake` and `reconcile` are. An apply sets them before
//! the driver comes; helpers look that they are so after it, and from time to time,
//! as somebody else may have changed them. What no mapping wants any more becomes
//! what it was; of a function that is left over, nothing does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    errand::Errand,
    event::{Effect, Tuned},
    project::View,
    report::Report,
    snapshot::FunctionState,
    state::State,
};
use crate::{
    pci::{address::Address, function::is_vfio_driver},
    policy::{
        knobs::Knobs,
        model::Mapping,
        plan::{Chosen, Plan, Verdict},
    },
};

/// How far it is with settings.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    /// As what they were found, or made.
    settled: BTreeMap<Address, Knobs>,
    /// What a device does not offer, and a clause why not. That does not change by
    /// itself, so that nobody tries again before there is news.
    refused: BTreeMap<Address, (Knobs, String)>,
    /// Of all these, the ones that may be otherwise by now.
    stale: BTreeSet<Address>,
    /// Functions with settings that were changed, as far as is known.
    changed: BTreeSet<Address>,
}

impl Tuning {
    /// Whether the function's settings are so, as far as is known.
    pub(super) fn are(&self, address: Address, wanted: &Knobs) -> bool {
        self.settled.get(&address) == Some(wanted)
    }

    /// Why the device does not have such settings, if it was found that it does not
    /// offer them.
    fn refusal(&self, address: Address, wanted: &Knobs) -> Option<&str> {
        let (of, text) = self.refused.get(&address)?;
        (of == wanted).then_some(text)
    }

    fn is_known(&self, address: Address, wanted: &Knobs) -> bool {
        let known = self.are(address, wanted) || self.refusal(address, wanted).is_some();
        known && !self.stale.contains(&address)
    }

    /// Settings of the function were changed, or are about to be.
    pub(super) fn touched(&mut self, address: Address) {
        self.changed.insert(address);
        self.stale.insert(address);
    }

    /// Something about the function is new.
    pub(super) fn news(&mut self, address: Address) {
        self.stale.insert(address);
    }

    /// The function went, or is another one.
    pub(super) fn forget(&mut self, address: Address) {
        self.settled.remove(&address);
        self.refused.remove(&address);
        self.stale.remove(&address);
        self.changed.remove(&address);
    }

    /// Somebody may have changed any of them.
    pub(super) fn look_again(&mut self) {
        self.stale.extend(self.settled.keys());
        self.stale.extend(self.refused.keys());
    }
}

impl State {
    /// Sends helpers to the settings of what is bound; says whether anything still
    /// waits for a place.
    pub(super) fn review_knobs(
        &mut self,
        plan: &Plan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let (Some(inventory), false) = (&self.inventory, self.dry_run || self.journal_awaited)
        else {
            return false;
        };
        let mut due = Vec::new();
        for (address, mappings) in chosen(plan) {
            let wanted = plan.knobs.get(&address);
            let tuned = wanted.is_some() || self.tuning.changed.contains(&address);
            let Some(function) = inventory.get(address).filter(|_| tuned) else {
                continue;
            };
            let on_vfio = function.driver.as_deref().is_some_and(is_vfio_driver);
            if on_vfio {
                let wanted = wanted.cloned().unwrap_or_default();
                due.push((address, function.id, wanted, mappings));
            } else {
                self.tuning.settled.remove(&address);
            }
        }
        let mut waits = false;
        for (address, id, knobs, mappings) in due {
            // What is being looked at may turn out to be unbound.
            let known = self.looks.is_seen(address);
            let settled = self.tuning.is_known(address, &knobs);
            if settled || !self.retries.may_start(address, now) {
                continue;
            }
            let errand = Errand::Tune(knobs.clone());
            if known && self.flights.admits(address, &errand) {
                self.tuning.stale.remove(&address);
                if !knobs.is_empty() {
                    self.tuning.changed.insert(address);
                }
                let effect = Effect::Tune {
                    address,
                    id,
                    knobs,
                    mappings,
                };
                self.send(address, errand, effect, now, effects);
            } else {
                waits |= self.flights.stuck(address).is_none();
            }
        }
        waits
    }

    /// A helper is done with a function's settings.
    pub(super) fn tuned(
        &mut self,
        address: Address,
        tuned: Tuned,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Errand::Tune(knobs)) = self.land(address, effects) else {
            return;
        };
        self.tuning.settled.remove(&address);
        self.tuning.refused.remove(&address);
        // What was scanned of it may be otherwise now, and what the kernel said of it
        // meanwhile was left for later.
        self.observe(address, effects);
        match tuned {
            Tuned::Set { changed, found } => {
                self.retries.forget(address);
                if !changed.is_empty() {
                    effects.push(Effect::Report(Report::Tuned { address, changed }));
                }
                let function = self.inventory.as_mut().and_then(|all| all.get_mut(address));
                if let Some(inspection) = function.and_then(|one| one.inspection.as_mut()) {
                    inspection.settings = found;
                }
                if knobs.is_empty() {
                    self.tuning.changed.remove(&address);
                } else if !self.undo.taken.contains_key(&address) {
                    // It was bound before, and can be given back as far as this.
                    self.undo.took(address, self.wanting(address));
                }
                self.tuning.settled.insert(address, knobs);
            }
            Tuned::Unbound => {}
            Tuned::Refused(text) => {
                let why = format!("is bound, but {text}");
                effects.push(Effect::Report(Report::NotTuned {
                    address,
                    text: why.clone(),
                    retry_in_secs: None,
                }));
                self.tuning.refused.insert(address, (knobs, why));
            }
            Tuned::Failed(text) => {
                let wanted = if knobs.is_empty() {
                    "what they were".to_owned()
                } else {
                    knobs.to_string()
                };
                let why = format!("is bound, and its settings are not {wanted}: {text}");
                let wait = self.retries.failed(address, now, why.clone(), false);
                effects.push(Effect::Report(Report::NotTuned {
                    address,
                    text: why,
                    retry_in_secs: Some(wait.as_secs()),
                }));
            }
        }
        self.reconcile_at = Some(now);
    }

    /// The mappings that have the function, as they were planned last.
    fn wanting(&self, address: Address) -> Vec<String> {
        let mappings = self.snapshot.plan.mappings.iter();
        let mappings = mappings.filter(|(_, mapping)| mapping.chooses(address));
        mappings.map(|(name, _)| name.clone()).collect()
    }
}

/// What mappings have that go on, each with their names.
fn chosen(plan: &Plan) -> BTreeMap<Address, Vec<String>> {
    let mut all: BTreeMap<Address, Vec<String>> = BTreeMap::new();
    for (name, mapping) in &plan.mappings {
        if matches!(mapping.verdict, Verdict::Ready | Verdict::Pending) {
            for one in &mapping.functions {
                all.entry(one.address).or_default().push(name.clone());
            }
        }
    }
    all
}

impl View<'_> {
    /// What is said of a function that is bound, where its settings are not yet
    /// what is wanted, and `mapping` wants something of them.
    pub(super) fn untuned(
        &self,
        mapping: &Mapping,
        chosen: &Chosen,
    ) -> Option<(FunctionState, String)> {
        let address = chosen.address;
        if mapping.knobs.is_empty() {
            return None;
        }
        let wanted = self.plan.knobs.get(&address)?;
        let tuning = self.tuning.filter(|tuning| !tuning.are(address, wanted))?;
        if let Some(text) = tuning.refusal(address, wanted) {
            return Some((FunctionState::Refused, text.to_owned()));
        }
        Some(match self.retries.get(address) {
            Some(retry) => (FunctionState::Failed, retry.text.clone()),
            None => {
                let reason = format!("is bound, and gets {wanted}");
                (FunctionState::Pending, reason)
            }
        })
    }
}
