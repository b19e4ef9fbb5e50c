//! Intake: what each kind of news changes in what the daemon knows.
//!
//! The first half of [`State`]; what follows from it is `reconcile`'s.

use std::{sync::Arc, time::Duration};

use super::{
    errand::Errand,
    event::{Effect, Outcome},
    report::Report,
    state::State,
};
use crate::{
    pci::{address::Address, function::Inspection},
    policy::model::Policy,
};

impl State {
    pub(super) fn configured(
        &mut self,
        config: Result<Policy, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let reload = std::mem::replace(&mut self.configured_once, true);
        match config {
            Ok(policy) => {
                if reload {
                    self.undo.retake();
                }
                effects.push(Effect::Report(Report::ConfigLoaded {
                    mappings: policy.mappings.len(),
                    sriov: policy.sriov.len(),
                }));
                // It was not asked for, and so is not known.
                if policy.asks_for_variants()
                    && let Some(inventory) = &self.inventory
                {
                    let known = inventory.iter().filter(|one| one.inspection.is_some());
                    self.stale.extend(known.map(|one| one.address));
                }
                self.policy = Some(Arc::new(policy));
                self.withheld.look_again();
                self.sriov.try_again();
                self.tuning.look_again();
                self.rejected.clear();
                self.retries.forget_all();
                if self.inventory.is_none() {
                    self.scan(effects);
                }
            }
            Err(text) => {
                let old_goes_on = self.policy.is_some();
                effects.push(Effect::Report(Report::ConfigRejected {
                    text: text.clone(),
                    old_goes_on,
                }));
                self.rejected = if old_goes_on {
                    format!("the config on disk was not taken, the one before goes on:\n{text}")
                } else {
                    text
                };
            }
        }
        self.reconcile_at = Some(now);
    }

    pub(super) fn inspected(
        &mut self,
        address: Address,
        inspection: Result<Option<Inspection>, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.land(address, effects);
        let function = self.inventory.as_mut().and_then(|all| all.get_mut(address));
        match (inspection, function) {
            (Ok(Some(mut new)), Some(function)) => {
                if let Some(old) = function.inspection.take() {
                    // It was read once and is not read again.
                    new.serial = new.serial.or(old.serial);
                    if new.settings.is_empty() {
                        new.settings = old.settings;
                    }
                }
                function.inspection = Some(new);
            }
            (Ok(_), _) => self.observe(address, effects),
            (Err(text), _) => {
                self.retries.failed(address, now, text, false);
            }
        }
        // A helper is free, and its place must not stay empty for long.
        self.reconcile_at = Some(now);
    }

    pub(super) fn applied(
        &mut self,
        address: Address,
        outcome: Outcome,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let errand = self.land(address, effects);
        let Some(Errand::Apply(action)) = errand else {
            return;
        };
        match outcome {
            Outcome::Bound {
                from,
                driver,
                fallback,
            } => {
                self.vouch_for(address, from.as_deref());
                self.handed_over(address, &driver);
                self.retries.forget(address);
                self.undo.took(address, action.mappings.clone());
                if let Some(text) = fallback.or(action.fallback) {
                    effects.push(Effect::Report(Report::FellBack {
                        address,
                        driver: driver.clone(),
                        mappings: action.mappings.clone(),
                        text,
                    }));
                }
                effects.push(Effect::Report(Report::Bound {
                    address,
                    driver,
                    mappings: action.mappings,
                    why: action.why,
                    from,
                }));
            }
            Outcome::AlreadyBound | Outcome::Gone => self.retries.forget(address),
            Outcome::Refused(text) => {
                self.retries.failed(address, now, text, true);
            }
            Outcome::Failed {
                step,
                text,
                touched,
            } => {
                if touched {
                    self.undo.took(address, action.mappings.clone());
                }
                let why = format!("{step}: {text}");
                let wait = self.retries.failed(address, now, why, false);
                effects.push(Effect::Report(Report::NotBound {
                    address,
                    mappings: action.mappings,
                    step,
                    text,
                    retry_in_secs: wait.as_secs(),
                }));
            }
        }
        self.stale.insert(address);
        // The kernel's word counts, not the helper's.
        self.observe(address, effects);
        self.reconcile_at = Some(now);
    }

    /// What was found of the native driver's use is no longer so, and the
    /// override is what the helper read back; nobody inspects it again.
    fn handed_over(&mut self, address: Address, driver: &str) {
        let function = self.inventory.as_mut().and_then(|all| all.get_mut(address));
        if let Some(inspection) = function.and_then(|one| one.inspection.as_mut()) {
            inspection.driver_override = Some(driver.to_owned());
            inspection.usage.clear();
        }
    }

    pub(super) fn changed(&mut self, address: Address, effects: &mut Vec<Effect>) {
        self.retries.forget(address);
        self.stale.insert(address);
        self.withheld.changed(address);
        self.nodes.changed(address);
        self.sriov.changed(address);
        self.tuning.news(address);
        self.look_at(address, effects);
    }

    pub(super) fn removed(&mut self, address: Address, now: Duration, effects: &mut Vec<Effect>) {
        self.lost_by_its_pf(address, effects);
        if let Some(inventory) = self.inventory.as_mut() {
            inventory.remove(address);
        }
        self.forget(address);
        // What comes to this address next is told of anew.
        self.lifted.retain(|(_, lifted, _)| *lifted != address);
        for addresses in self.held.values_mut() {
            addresses.remove(&address);
        }
        self.looks.lost(address);
        self.soon(now);
    }
}
