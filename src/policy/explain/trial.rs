//! Trials: a selector put to a function, term by term, with what the function
//! is where a term fails.
//!
//! Owns what counts as nearly matched. Whether a term holds is the selector's
//! own word.

use serde::{Deserialize, Serialize};

use crate::{
    pci::function::{Function, Role},
    policy::{
        pattern::Kind,
        selector::{Candidate, Selector, Term},
    },
};

/// A selector put to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The selector, as plans write it.
    pub selector: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Its terms, cheapest first.
    pub terms: Vec<TermTrial>,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every term holds.
    Holds,
    /// All but one term hold, and one of those says no less of a function than
    /// the one that fails: the same card on another node is near, any card on
    /// the right node is not.
    Near,
    /// It does not match.
    Fails,
    /// Every known term holds; the serial number was not read.
    Unknown,
}

/// One term put to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermTrial {
    /// The term, as plans write it.
    pub term: String,
    /// Whether it holds, `None` if nobody has read what it needs.
    pub holds: Option<bool>,
    /// What the function is in this respect: `it is on node 0`.
    pub own: String,
}

impl Trial {
    pub(super) fn of(selector: &Selector, candidate: &Candidate<'_>) -> Self {
        let held: Vec<_> = selector
            .terms()
            .iter()
            .map(|term| (term, term.holds(candidate)))
            .collect();
        Self {
            selector: selector.to_string(),
            outcome: outcome(&held),
            terms: held
                .into_iter()
                .map(|(term, holds)| TermTrial {
                    term: term.to_string(),
                    holds,
                    own: own(term, candidate),
                })
                .collect(),
        }
    }

    /// The first term that fails.
    #[must_use]
    pub fn failing(&self) -> Option<&TermTrial> {
        self.terms.iter().find(|term| term.holds == Some(false))
    }
}

fn outcome(held: &[(&Term, Option<bool>)]) -> Outcome {
    let with = |wanted| held.iter().filter(move |(_, holds)| *holds == wanted);
    let weight = |(term, _): &(&Term, Option<bool>)| weight(term);
    let unknown = with(None).next().is_some();
    let mut failing = with(Some(false));
    match (failing.next(), failing.next()) {
        (None, _) if unknown => Outcome::Unknown,
        (None, _) => Outcome::Holds,
        (Some(fails), None) if !unknown => {
            let best = with(Some(true)).map(weight).max();
            if best.is_some_and(|best| best >= weight(fails)) {
                Outcome::Near
            } else {
                Outcome::Fails
            }
        }
        _ => Outcome::Fails,
    }
}

/// How much a term says of what a function is: a model or a place more than a
/// class, a class more than where many others are too.
fn weight(term: &Term) -> u8 {
    match term {
        Term::Id(_)
        | Term::Subsystem(_)
        | Term::VfOf(..)
        | Term::Address(_)
        | Term::Path(_)
        | Term::Slot(_)
        | Term::Serial(_)
        | Term::Netdev(_) => 3,
        Term::Class(_) => 2,
        Term::Kind(_) | Term::Numa(_) | Term::IommuGroup(_) => 1,
    }
}

/// What the function is in respect of `term`, as a clause.
fn own(term: &Term, candidate: &Candidate<'_>) -> String {
    let function = candidate.function();
    match term {
        Term::Id(_) => format!("it is {}", function.id),
        Term::Subsystem(_) => function.subsystem.map_or_else(
            || "it has no subsystem".to_owned(),
            |id| format!("its subsystem is {id}"),
        ),
        Term::Class(_) => format!("its class is {}", function.class),
        Term::Kind(_) => match Kind::of(&function.role) {
            Kind::Plain => "it has no SR-IOV".to_owned(),
            Kind::Pf => "it is a PF".to_owned(),
            Kind::Vf => "it is a VF".to_owned(),
        },
        Term::Numa(_) => function.numa_node.map_or_else(
            || "its node is not known".to_owned(),
            |node| format!("it is on node {node}"),
        ),
        Term::IommuGroup(_) => function.iommu_group.map_or_else(
            || "it is in no IOMMU group".to_owned(),
            |group| format!("it is in group {group}"),
        ),
        Term::VfOf(..) => vf(candidate),
        Term::Address(_) => format!("it is at {}", function.address),
        Term::Path(_) => format!("its path is {}", function.path),
        Term::Slot(_) => slot(function),
        Term::Netdev(_) if function.netdevs.is_empty() => "it has no interface here".to_owned(),
        Term::Netdev(_) => format!("its interface is {}", function.netdevs.join(", ")),
        Term::Serial(_) => match &function.inspection {
            None => "its serial number was not read".to_owned(),
            Some(inspection) => inspection.serial.as_ref().map_or_else(
                || "it has no serial number that can be read".to_owned(),
                |serial| format!("its serial number is {serial}"),
            ),
        },
    }
}

fn vf(candidate: &Candidate<'_>) -> String {
    let Role::Vf { pf, index } = candidate.function().role else {
        return "it is no VF".to_owned();
    };
    let interfaces = candidate.interfaces(pf).join(", ");
    let of = if interfaces.is_empty() {
        pf.to_string()
    } else {
        format!("{pf} ({interfaces})")
    };
    index.map_or_else(
        || format!("it is a VF of {of}, and its number is not known yet"),
        |index| format!("it is VF {index} of {of}"),
    )
}

fn slot(function: &Function) -> String {
    match (&function.slot_label, &function.slot_name) {
        (None, None) => "it has no slot label".to_owned(),
        (Some(label), None) => format!("its slot label is '{label}'"),
        (None, Some(name)) => format!("its hotplug slot is '{name}'"),
        (Some(label), Some(name)) => {
            format!("its slot label is '{label}', its hotplug slot '{name}'")
        }
    }
}
