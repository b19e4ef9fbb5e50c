//! Disks of a function: whether the kernel, the host's configuration or what is
//! written on them speaks for a use.
//!
//! Owns the judgement which names and signs are facts of which disk. Never runs
//! a program and never reads a disk; a check that fails is a fact too.

mod base;
mod boot;
mod early;
mod identity;
mod key;
mod listed;
mod live;
mod lvm;
mod mdadm;
mod references;
mod stack;
mod zpool;

use std::{cell::OnceCell, collections::BTreeSet};

use self::{
    base::Bases,
    early::missing,
    identity::{DATABASE, Identity, identity, mapper_keys},
    references::References,
    stack::{Kind, Node, Stack, stack},
};
use super::{Look, Subject, files::directory, nodes, words};
use crate::{
    pci::usage::Fact,
    policy::guard::{Guard, judge},
};

const ENOMEDIUM: i32 = rustix::io::Errno::NOMEDIUM.raw_os_error();

/// What is read once for many functions.
#[derive(Debug, Default)]
pub(super) struct Tables {
    references: OnceCell<References>,
    /// Why udev's database cannot be read, if so.
    database: OnceCell<Option<String>>,
    backups: OnceCell<lvm::Backups>,
    /// What is named and not found.
    missing: OnceCell<Option<String>>,
}

/// What is found out about one node.
struct Found {
    /// Uses that name the node itself.
    uses: BTreeSet<usize>,
    /// What it carries.
    carries: Option<String>,
    /// The volume groups that it is a part of.
    groups: Vec<String>,
    /// Whether udev has a record of it.
    recorded: bool,
}

/// What the host uses the disks of `subject` for.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    if subject.of("block").next().is_none() {
        return Vec::new();
    }
    let Stack { nodes, mut facts } = stack(look, subject);
    let tables = &look.tables.storage;
    let references = tables.references.get_or_init(|| References::read(look));
    let mut unchecked = references.unchecked.clone();
    unchecked.extend(tables.database.get_or_init(|| database(look)).clone());
    let mut bases = Bases::default();
    for node in &nodes {
        let Some(number) = node.number(look) else {
            unchecked.push(format!("{} does not say its number", node.label));
            continue;
        };
        let writers = nodes::writers(look, &node.label, number);
        let found = find(look, references, node, number, &mut unchecked);
        if !found.recorded && node.kind != Kind::Holder {
            let missing = tables.missing.get_or_init(|| missing(look, references));
            let clause = missing.iter();
            unchecked.extend(
                clause.map(|clause| format!("udev has no record of {}, which {clause}", node.name)),
            );
        }
        bases.add(node, found, !writers.is_empty());
        facts.extend(writers);
    }
    facts.extend(bases.facts(references));
    // While the disk is open exclusively nobody can mount it: only one of which
    // nothing else is known is asked.
    if !facts
        .iter()
        .any(|fact| judge(fact).0 == Some(Guard::Storage))
    {
        let disks = nodes.iter().filter(|node| node.kind == Kind::Disk);
        facts.extend(disks.filter_map(|disk| held(look, &disk.name)));
    }
    facts.extend(unchecked.into_iter().map(|text| Fact::Unchecked { text }));
    facts
}

/// Why udev's database cannot be asked, if so.
fn database(look: Look<'_>) -> Option<String> {
    let (above, name) = DATABASE.rsplit_once('/')?;
    let mut unchecked = Vec::new();
    let names = directory(look, above, &mut unchecked);
    if names.iter().any(|entry| entry == name) {
        return None;
    }
    let text = format!("what disks carry cannot be told without udev's database {DATABASE}");
    Some(unchecked.pop().unwrap_or(text))
}

/// Whether the kernel lets nobody else have the disk.
fn held(look: Look<'_>, disk: &str) -> Option<Fact> {
    match look.host.open_exclusively(disk) {
        Ok(()) => None,
        // An empty drive.
        Err(error) if error.raw_os_error() == Some(ENOMEDIUM) => None,
        Err(error) => Some(Fact::DiskHeld {
            disk: disk.to_owned(),
            error: words(&error),
        }),
    }
}

fn find(
    look: Look<'_>,
    references: &References,
    node: &Node,
    number: (u32, u32),
    unchecked: &mut Vec<String>,
) -> Found {
    let Identity {
        mut keys,
        carries,
        mut groups,
        recorded,
    } = identity(look, &node.name, number, unchecked);
    if let Some(mapper) = &node.mapper {
        keys.extend(mapper_keys(&mapper.name));
        groups.extend(mapper.group());
    }
    Found {
        uses: references.naming(&keys),
        carries,
        groups,
        recorded,
    }
}
