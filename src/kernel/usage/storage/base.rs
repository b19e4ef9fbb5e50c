//! Bases: what was found out about all floors above a disk or partition, put
//! together.
//!
//! Owns which of several findings is told. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Found,
    key::Key,
    references::{References, Use},
    stack::{Kind, Node},
};
use crate::pci::usage::Fact;

/// The most mounts of one disk or partition that are told: containers mount one
/// a hundred times.
const MOST_MOUNTS: usize = 8;

/// The disks and partitions of a function.
#[derive(Default)]
pub(super) struct Bases(BTreeMap<usize, Base>);

#[derive(Default)]
struct Base {
    name: String,
    /// What the disk or partition itself carries.
    carries: Option<String>,
    /// Uses, with the label of the node that each names.
    uses: BTreeMap<usize, String>,
    /// The volume groups that it, or what is made of it, is a part of.
    groups: BTreeSet<String>,
    /// Whether something was made of it, or is written to it.
    worked_on: bool,
}

impl Bases {
    /// Adds what was found out about `node`, and whether processes write to it.
    /// What is below comes before what is made of it: where one use names both,
    /// the lower one is told.
    pub(super) fn add(&mut self, node: &Node, found: Found, written_to: bool) {
        let base = self.0.entry(node.base).or_default();
        if node.kind == Kind::Holder {
            base.worked_on = true;
        } else {
            base.name.clone_from(&node.name);
            base.carries = found.carries;
        }
        base.worked_on |= written_to;
        base.groups.extend(found.groups);
        for index in found.uses {
            let label = base.uses.entry(index);
            label.or_insert_with(|| node.label.clone());
        }
    }

    /// All facts.
    pub(super) fn facts(self, references: &References) -> Vec<Fact> {
        let mut facts = Vec::new();
        for mut base in self.0.into_values() {
            base.add_groups(references);
            let mut mounts = 0;
            for (index, label) in &base.uses {
                let Some(what) = references.get(*index) else {
                    continue;
                };
                mounts += usize::from(matches!(what, Use::Mounted { .. }));
                if mounts <= MOST_MOUNTS || !matches!(what, Use::Mounted { .. }) {
                    facts.push(what.fact(label.clone()));
                }
            }
            let idle = base.uses.is_empty() && !base.worked_on;
            facts.extend(base.carries.filter(|_| idle).map(|kind| Fact::Signature {
                device: base.name,
                kind,
            }));
        }
        facts
    }
}

impl Base {
    /// Adds the uses that name a volume group of it: the volume may be on other
    /// disks of the group, and goes with this one all the same, or is not active
    /// yet.
    fn add_groups(&mut self, references: &References) {
        for group in std::mem::take(&mut self.groups) {
            let key = Key::VolumeGroup(group.clone());
            for index in references.naming([&key]) {
                let label = self.uses.entry(index);
                label.or_insert_with(|| format!("{} (volume group {group})", self.name));
            }
        }
    }
}
