//! What is published of functions.

use std::collections::BTreeMap;

use super::View;
use crate::{
    engine::{
        coldplug::UDEV_FIRST,
        snapshot::{FunctionState, FunctionView, MappingView},
    },
    pci::address::Address,
    policy::plan::{Chosen, Verdict},
};

impl View<'_> {
    /// A function of a mapping that is released.
    pub(super) fn leaving(&self, address: Address, bound: bool) -> (FunctionState, String) {
        let own = self.undo.is_returning(address) || self.undo.trouble(address).is_some();
        match self.function(address, bound) {
            (state, reason)
                if own || matches!(state, FunctionState::Bound | FunctionState::Stuck) =>
            {
                (state, reason)
            }
            _ => {
                let reason = "is left to the host with the rest of its mapping";
                (FunctionState::Released, reason.to_owned())
            }
        }
    }

    pub(in crate::engine) fn function(
        &self,
        address: Address,
        bound: bool,
    ) -> (FunctionState, String) {
        if let Some(flight) = self.flights.stuck(address) {
            return (FunctionState::Stuck, flight.stuck_words());
        }
        if self.undo.is_returning(address) {
            let reason = "is being given back".to_owned();
            return (FunctionState::Pending, reason);
        }
        match self.undo.trouble(address) {
            Some("") => return (FunctionState::Released, "was given back".to_owned()),
            Some(text) => {
                let reason = format!("was not given back: {text}");
                return (FunctionState::Failed, reason);
            }
            None => {}
        }
        if bound {
            return (FunctionState::Bound, String::new());
        }
        match self.retries.get(address) {
            Some(retry) if retry.refused => (FunctionState::Refused, retry.text.clone()),
            Some(retry) => (FunctionState::Failed, retry.text.clone()),
            None if self.waits_for_udev(address) => (FunctionState::Pending, UDEV_FIRST.to_owned()),
            None => (FunctionState::Pending, "is not bound yet".to_owned()),
        }
    }

    pub(super) fn functions(
        &self,
        mappings: &BTreeMap<String, MappingView>,
    ) -> BTreeMap<Address, FunctionView> {
        let mut views: BTreeMap<Address, FunctionView> = BTreeMap::new();
        let mut add = |address: Address, name: Option<&String>, state, reason: String| {
            let Some(function) = self.inventory.get(address) else {
                return;
            };
            let view = views.entry(address).or_insert_with(|| FunctionView {
                function: function.clone(),
                mappings: Vec::new(),
                state,
                reason,
            });
            view.mappings.extend(name.cloned());
        };
        for name in mappings.keys() {
            let (Some(plan), Some(mapping)) =
                (self.plan.mappings.get(name), self.policy.mappings.get(name))
            else {
                continue;
            };
            for chosen in &plan.functions {
                let (state, reason) = match plan.verdict {
                    Verdict::Released => self.leaving(chosen.address, chosen.bound),
                    _ => match self.chosen(mapping, chosen) {
                        (FunctionState::Bound, _) => (FunctionState::Bound, lesser(chosen)),
                        other => other,
                    },
                };
                add(chosen.address, Some(name), state, reason);
            }
            for refusal in &plan.refusals {
                let state = FunctionState::Refused;
                add(refusal.address, Some(name), state, refusal.reason.clone());
            }
        }
        for address in &self.plan.left_over {
            let (state, reason) = match self.function(*address, true) {
                (FunctionState::Bound, _) => {
                    let reason = "is left over: no mapping wants it any more".to_owned();
                    (FunctionState::Bound, reason)
                }
                other => other,
            };
            add(*address, None, state, reason);
        }
        views
    }
}

/// What is said of a bound function that has vfio-pci although there may be a
/// better driver; empty of the others.
pub(super) fn lesser(chosen: &Chosen) -> String {
    let pick = chosen.driver.as_ref().filter(|pick| pick.fell_back);
    pick.map_or_else(String::new, |pick| {
        format!("has {}: {}", pick.driver, pick.why)
    })
}
