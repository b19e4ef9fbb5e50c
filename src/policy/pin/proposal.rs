//! Proposals: terms that mean one function, the strongest first.
//!
//! Owns which terms outlive what, and how they are written in a config. Whether
//! they mean no other function is for the caller to find out.

use super::By;
use crate::{
    pci::{
        function::{Function, Role},
        inventory::Inventory,
    },
    policy::{
        glob::Glob,
        pattern::Kind,
        selector::{Selector, Term},
    },
};

/// A term's key and its value as text.
type Pair = (&'static str, String);

/// A proposal that was not put to the host yet.
pub(super) struct Proposal {
    pub(super) by: By,
    terms: Vec<Pair>,
    pub(super) holds: String,
}

impl Proposal {
    /// The selector that the config would make of the terms.
    pub(super) fn selector(&self) -> Option<Selector> {
        let vf = self.terms.iter().find(|(key, _)| *key == "vf");
        let vf = vf.and_then(|(_, value)| value.parse().ok());
        let glob = |value: &String| Some(vec![value.parse::<Glob>().ok()?]);
        let terms = self.terms.iter().filter(|(key, _)| *key != "vf");
        let terms: Option<Vec<_>> = terms
            .map(|(key, value)| {
                Some(match *key {
                    "id" => Term::Id(vec![value.parse().ok()?]),
                    "subsystem" => Term::Subsystem(vec![value.parse().ok()?]),
                    "address" => Term::Address(vec![value.parse().ok()?]),
                    "kind" => Term::Kind(vec![value.parse().ok()?]),
                    "vf_of" => Term::VfOf(vec![value.parse().ok()?], vf.clone()),
                    "slot" => Term::Slot(glob(value)?),
                    "serial" => Term::Serial(glob(value)?),
                    _ => Term::Path(glob(value)?),
                })
            })
            .collect();
        Selector::new(terms?)
    }

    /// The terms as TOML.
    pub(super) fn toml(&self) -> String {
        let terms: Vec<_> = self
            .terms
            .iter()
            .map(|(key, value)| format!("{key} = {}", quoted(value)))
            .collect();
        format!("{{ {} }}", terms.join(", "))
    }
}

/// What could mean `function`, the strongest first.
pub(super) fn proposals(function: &Function, inventory: &Inventory) -> Vec<Proposal> {
    let id = ("id", function.id.to_string());
    let subsystem = function.subsystem.map(|id| ("subsystem", id.to_string()));
    let number = (
        "address",
        format!("*:*:*.{:x}", function.address.function()),
    );
    let mut proposals = Vec::new();
    if let Some(serial) = serial(function) {
        let holds = "the card itself, in whatever slot: its serial number";
        let terms = vec![id.clone(), ("serial", literal(serial))];
        propose(&mut proposals, By::Serial, terms, &number, holds);
    }
    let Role::Vf { pf, index } = function.role else {
        let place = function.slot_label.as_ref().or(function.slot_name.as_ref());
        if let Some(slot) = place {
            let holds = format!("whatever card of this model is in slot '{slot}'");
            let mut terms = vec![id.clone()];
            terms.extend(subsystem);
            terms.push(("slot", literal(slot)));
            propose(&mut proposals, By::Slot, terms, &number, &holds);
        }
        proposals.push(by_path(function, vec![id]));
        return proposals;
    };
    let kind = ("kind", Kind::Vf.to_string());
    for proposal in &mut proposals {
        proposal.terms.insert(0, kind.clone());
    }
    proposals.push(by_path(function, vec![kind, id.clone()]));
    if let Some(index) = index {
        let interface = inventory.get(pf).and_then(|pf| pf.netdevs.first());
        let (of, holds) = match interface {
            Some(name) => (
                literal(name),
                format!("VF {index} of whatever port is called {name}"),
            ),
            None => (
                pf.to_string(),
                format!("VF {index} of whatever is at {pf}, which buses that renumber change"),
            ),
        };
        let terms = vec![id, ("vf_of", of), ("vf", index.to_string())];
        proposals.push(Proposal {
            by: By::Pf,
            terms,
            holds,
        });
    }
    proposals
}

/// The terms, and the same for cards whose functions differ by number only.
fn propose(proposals: &mut Vec<Proposal>, by: By, terms: Vec<Pair>, number: &Pair, holds: &str) {
    let mut numbered = terms.clone();
    numbered.push(number.clone());
    proposals.extend([terms, numbered].map(|terms| Proposal {
        by,
        terms,
        holds: holds.to_owned(),
    }));
}

fn by_path(function: &Function, mut terms: Vec<Pair>) -> Proposal {
    terms.push(("path", literal(&function.path)));
    Proposal {
        by: By::Path,
        terms,
        holds: "whatever card of this model is behind the same bridges".to_owned(),
    }
}

/// Its serial number; blank ones are no card's own.
fn serial(function: &Function) -> Option<&str> {
    let serial = function.inspection.as_ref()?.serial.as_deref()?;
    let blank = |filler: char| serial.chars().all(|c| c == '-' || c == filler);
    (!blank('0') && !blank('f')).then_some(serial)
}

/// A glob that means `text` and nothing else.
fn literal(text: &str) -> String {
    let mut glob = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[') {
            glob.extend(['[', c, ']']);
        } else {
            glob.push(c);
        }
    }
    glob
}

/// A basic string (TOML 1.0): what firmware calls a slot may be any text.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
