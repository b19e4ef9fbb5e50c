//! Rows: what is said of a function, or of a run of virtual ones, in a line.

use std::collections::BTreeSet;

use super::Scene;
use crate::{
    pci::function::{Function, Role},
    policy::{
        guard::{Guard, is_bridge},
        pattern::ClassPattern,
        tree::{Branch, View},
    },
};

/// Fewer virtual functions than this have a line each.
const RUN: usize = 4;

/// A function, or a run of virtual functions that differ in their number only.
pub(super) struct Row<'a> {
    pub(super) first: &'a Function,
    last: &'a Function,
    count: usize,
    groups: BTreeSet<u32>,
    view: Option<&'a View>,
    pub(super) below: &'a [Branch<'a>],
}

/// The rows of what is behind something.
pub(super) fn rows<'a>(branches: &'a [Branch<'a>], scene: &Scene<'a>) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let runs = branches.chunk_by(|one, next| is_run(one, next, scene));
    for run in runs {
        let least = if scene.all { usize::MAX } else { RUN };
        if run.len() >= least {
            rows.extend(row(run, scene));
        } else {
            rows.extend(run.chunks(1).filter_map(|one| row(one, scene)));
        }
    }
    rows
}

fn is_run(one: &Branch<'_>, next: &Branch<'_>, scene: &Scene<'_>) -> bool {
    let index = |function: &Function| match function.role {
        Role::Vf { pf, index } => Some((pf, index?)),
        _ => None,
    };
    let follows = match (index(one.function), index(next.function)) {
        (Some((pf, index)), Some((other, next))) => {
            pf == other && index.checked_add(1) == Some(next)
        }
        _ => false,
    };
    let view = |function: &Function| scene.views.get(&function.address);
    let of = |one: &Branch<'_>| {
        let function = one.function;
        (
            function.id,
            function.class,
            function.driver.clone(),
            function.numa_node,
        )
    };
    let alone = one.below.is_empty() && next.below.is_empty();
    follows && alone && of(one) == of(next) && view(one.function) == view(next.function)
}

fn row<'a>(run: &'a [Branch<'a>], scene: &Scene<'a>) -> Option<Row<'a>> {
    let (first, last) = run.first().zip(run.last())?;
    let groups = run.iter().filter_map(|one| one.function.iommu_group);
    Some(Row {
        first: first.function,
        last: last.function,
        count: run.len(),
        groups: groups.collect(),
        view: scene.views.get(&first.function.address),
        below: &first.below,
    })
}

impl Row<'_> {
    /// The address, or the first and the last one.
    pub(super) fn address(&self) -> String {
        let (first, last) = (self.first.address, self.last.address);
        if first == last {
            return first.to_string();
        }
        let end = if first.bus() == last.bus() {
            format!("{:02x}.{:x}", last.device(), last.function())
        } else {
            format!(
                "{:02x}:{:02x}.{:x}",
                last.bus(),
                last.device(),
                last.function()
            )
        };
        format!("{first}-{end}")
    }

    /// What it is, the shortest word for it first.
    pub(super) fn words(&self, scene: &Scene<'_>) -> Vec<String> {
        let mut words = Vec::new();
        if self.count > 1 {
            words.push(format!("{}x", self.count));
        }
        let class = self.first.class;
        words.push(match ClassPattern::name_of(class) {
            _ if is_bridge(self.first) => "bridge".to_owned(),
            Some(name) => name.to_owned(),
            None => class.to_string(),
        });
        words.push(self.first.id.to_string());
        words.extend(scene.names.get(&self.first.id).cloned());
        words
    }

    /// Its IOMMU group; of a run the lowest and the highest.
    pub(super) fn group(&self) -> String {
        match (self.groups.first(), self.groups.last()) {
            (Some(first), Some(last)) if first == last => first.to_string(),
            (Some(first), Some(last)) => format!("{first}-{last}"),
            _ => String::new(),
        }
    }

    /// Its driver; that of bridges says nothing.
    pub(super) fn driver(&self) -> String {
        let driver = self.first.driver.clone().filter(|_| !is_bridge(self.first));
        driver.unwrap_or_default()
    }

    /// The mappings that name it, and who has it.
    pub(super) fn mappings(&self) -> String {
        let Some(view) = self.view else {
            return String::new();
        };
        let names: Vec<_> = view.mappings.iter().map(String::as_str).collect();
        let owner = view.claimed_by.as_ref();
        names.join(",") + &owner.map_or_else(String::new, |owner| format!(" ({})", clean(owner)))
    }

    /// Its state; empty if no mapping names it.
    pub(super) fn state(&self) -> &str {
        self.view
            .and_then(|view| view.state.as_deref())
            .unwrap_or_default()
    }

    /// The letters of guards that hold it, then of those that are lifted.
    pub(super) fn marks(&self) -> (BTreeSet<char>, BTreeSet<char>) {
        let Some(view) = self.view else {
            return (BTreeSet::new(), BTreeSet::new());
        };
        let letters = |guards: &BTreeSet<String>| guards.iter().map(|one| letter(one)).collect();
        let mut holding: BTreeSet<char> = letters(&view.guards);
        if view.absolute {
            holding.insert(ABSOLUTE);
        }
        (holding, letters(&view.lifted))
    }
}

/// What claimed something may have any name.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// What nothing lifts.
const ABSOLUTE: char = '*';
/// A guard of another version's daemon.
const OTHER: char = '?';

/// The letter that a guard is marked by.
fn letter(name: &str) -> char {
    let Ok(guard) = name.parse() else {
        return OTHER;
    };
    match guard {
        Guard::Storage => 'S',
        Guard::Network => 'N',
        Guard::Console => 'C',
        Guard::Display => 'D',
        Guard::NativeGpu => 'G',
        Guard::Sound => 'A',
        Guard::Usb => 'U',
        Guard::Serial => 'T',
        Guard::Tpm => 'P',
        Guard::Rtc => 'R',
        Guard::Ipmi => 'I',
        Guard::Watchdog => 'W',
        Guard::PfWithVfs => 'V',
        Guard::SystemClass => 'Y',
        Guard::Signature => 'F',
        Guard::HungTaskPanic => 'H',
        Guard::Unchecked => 'X',
    }
}

/// What a letter means.
pub(super) fn meaning(mark: char) -> &'static str {
    let mut guards = Guard::ALL.iter().map(|guard| guard.name());
    match mark {
        ABSOLUTE => "not-to-lift",
        other => guards
            .find(|name| letter(name) == other)
            .unwrap_or("another guard"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_has_a_letter_of_its_own() {
        let letters: BTreeSet<_> = Guard::ALL.iter().map(|one| letter(one.name())).collect();
        assert_eq!(letters.len(), Guard::ALL.len());
        for guard in Guard::ALL {
            assert_eq!(meaning(letter(guard.name())), guard.name());
        }
    }
}
