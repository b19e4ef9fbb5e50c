//! What becomes of a resource mapping's entries when devices come, move or go.
//!
//! Owns which entries are changed. A mapping is written as a whole, the entries
//! of all nodes, so what belongs to others is passed on byte for byte; and a
//! mapping without entries makes the whole file unwritable for PVE.

use super::mapping::{Entry, MARKER};

/// Which of a node's entries may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Those that vfio-bindd wrote.
    Marked,
    /// All of them.
    Node,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: the entries are right.
    Unchanged,
    /// These entries in place of all that there are, at least one.
    Update(Vec<String>),
    /// Nothing, although no entry is right: a mapping cannot be without any.
    /// PVE refuses to start a guest with a stale one, which is what is wanted.
    LastEntryStale,
}

/// What makes the `current` entries of a mapping, of all nodes, have those that
/// are `wanted` for `node`.
///
/// An entry with a wanted path stays where it is; what it says of the functions
/// is set right, and its description is kept. A stale one is replaced by the
/// next wanted one that is new, and removed if there is none. Further new ones
/// come last. An entry that is not ours is never changed, and where it is of
/// this node and has a wanted path, there is none of ours beside it.
#[must_use]
pub fn plan(current: &[String], node: &str, wanted: &[Entry], ownership: Ownership) -> Plan {
    let is_ours = |line: &String| owns(ownership, line, node);
    let covered: Vec<Entry> = current
        .iter()
        .filter(|line| !is_ours(line) && field(line, "node") == Some(node))
        .filter_map(|line| line.parse().ok())
        .collect();
    let mut open: Vec<&Entry> = Vec::new();
    for entry in wanted.iter().filter(|entry| entry.node == node) {
        let mut others = covered.iter().chain(open.iter().copied());
        if !others.any(|other| other.path == entry.path) {
            open.push(entry);
        }
    }
    // Two passes: an entry takes the place of a stale one only if it has none.
    let kept: Vec<Option<String>> = current
        .iter()
        .map(|line| {
            if is_ours(line) {
                take_same(line, &mut open)
            } else {
                Some(line.clone())
            }
        })
        .collect();
    let mut open = open.into_iter().map(Entry::to_string);
    let mut lines: Vec<String> = kept
        .into_iter()
        .filter_map(|line| line.or_else(|| open.next()))
        .collect();
    lines.extend(open);
    if lines == current {
        Plan::Unchanged
    } else if lines.is_empty() {
        Plan::LastEntryStale
    } else {
        Plan::Update(lines)
    }
}

/// The entry in `line` as it should be, if one that is still `open` has its
/// path; that one is open no more.
fn take_same(line: &str, open: &mut Vec<&Entry>) -> Option<String> {
    let old: Entry = line.parse().ok()?;
    let index = open.iter().position(|entry| entry.path == old.path)?;
    let new = open.remove(index);
    let facts = |entry: &Entry| {
        let Entry {
            id,
            subsystem_id,
            iommu_group,
            ..
        } = entry.clone();
        (id, subsystem_id, iommu_group)
    };
    if facts(new) == facts(&old) {
        return Some(line.to_owned());
    }
    let (id, subsystem_id, iommu_group) = facts(new);
    let entry = Entry {
        id,
        subsystem_id,
        iommu_group,
        ..old
    };
    Some(entry.to_string())
}

/// Also of an entry that cannot be read otherwise: PVE leaves such a one out,
/// but refuses to write it.
fn owns(ownership: Ownership, line: &str, node: &str) -> bool {
    field(line, "node") == Some(node)
        && match ownership {
            Ownership::Marked => field(line, "description") == Some(MARKER),
            Ownership::Node => true,
        }
}

fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(',')
        .filter_map(|part| part.split_once('='))
        .find_map(|(found, value)| (found == key).then_some(value))
}

/// The lines that differ, each with a line end: `- ` of what goes and `+ ` of
/// what comes.
#[must_use]
pub fn diff(current: &[String], new: &[String]) -> String {
    let mut text = String::new();
    let mut say = |sign: char, line: &str| {
        text.extend([sign, ' ']);
        text.push_str(line);
        text.push('\n');
    };
    let mut rest = new;
    for line in current {
        let Some(index) = rest.iter().position(|other| other == line) else {
            say('-', line);
            continue;
        };
        let (added, after) = rest.split_at(index);
        added.iter().for_each(|line| say('+', line));
        rest = after.get(1..).unwrap_or_default();
    }
    rest.iter().for_each(|line| say('+', line));
    text
}
