//! What a function is for: its mappings, its state, what keeps it with the host.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    pci::{address::Address, inventory::Inventory},
    policy::{
        guard::{Guard, is_bridge, static_objections, usage_objections},
        plan::{MappingPlan, Plan, Verdict},
    },
};

/// What is known of functions beside their facts.
pub type Views = BTreeMap<Address, View>;

/// What is known of a function beside its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The mappings that name it.
    pub mappings: BTreeSet<String>,
    /// What became of it, `None` where no mapping names it: a state of the daemon,
    /// or what a plan makes of it.
    pub state: Option<String>,
    /// Who has it for themselves.
    pub claimed_by: Option<String>,
    /// The guards that hold it with the host.
    pub guards: BTreeSet<String>,
    /// The guards that would, and that its mappings lift.
    pub lifted: BTreeSet<String>,
    /// Whether it is refused for a reason that nothing lifts.
    pub absolute: bool,
}

impl View {
    /// What a plan, or one that was sent as JSON, refuses or lifts.
    pub fn refused(&mut self, guard: Option<&str>, lifted: bool) {
        let guards = if lifted {
            &mut self.lifted
        } else {
            &mut self.guards
        };
        match guard {
            Some(guard) => drop(guards.insert(guard.to_owned())),
            None => self.absolute |= !lifted,
        }
    }
}

/// What a plan makes of functions.
#[must_use]
pub fn of_plan(plan: &Plan) -> Views {
    let mut views = Views::new();
    for (name, mapping) in &plan.mappings {
        for chosen in &mapping.functions {
            let view = views.entry(chosen.address).or_default();
            view.mappings.insert(name.clone());
            view.state = Some(state(mapping, chosen.bound).to_owned());
        }
        for (refusals, lifted) in [(&mapping.refusals, false), (&mapping.lifted, true)] {
            for refusal in refusals {
                let view = views.entry(refusal.address).or_default();
                view.mappings.insert(name.clone());
                view.refused(refusal.guard, lifted);
                if !lifted {
                    view.state = Some(Verdict::Refused.as_str().to_owned());
                }
            }
        }
    }
    views
}

fn state(mapping: &MappingPlan, bound: bool) -> &'static str {
    match mapping.verdict {
        Verdict::Ready if bound => "bound",
        Verdict::Ready => "planned",
        other => other.as_str(),
    }
}

/// Adds the guards of functions that no mapping names, as far as they are known:
/// what a function is shows by itself, what it is used for where it was inspected.
pub fn add_guards(views: &mut Views, inventory: &Inventory) {
    for function in inventory.iter().filter(|one| !is_bridge(one)) {
        let view = views.entry(function.address).or_default();
        if view.state.is_some() {
            continue;
        }
        let mut objections = static_objections(function);
        if let Some(inspection) = &function.inspection {
            objections.extend(usage_objections(&inspection.usage));
        }
        let guards = objections.iter().filter_map(|one| one.guard);
        view.guards = guards.map(Guard::name).map(str::to_owned).collect();
    }
}
