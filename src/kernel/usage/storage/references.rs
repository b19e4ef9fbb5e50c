//! References: everything on the host that names block devices, by the names.
//!
//! Owns the index from names to uses. Read once for many functions; never
//! looks at a device itself.

use std::collections::{BTreeSet, HashMap};

use super::{boot, key::Key, listed, live, zpool};
use crate::{kernel::usage::Look, pci::usage::Fact, policy::glob::Glob};

/// One use of a block device, whichever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Mounted { on: String },
    Swap,
    KernelParameter { parameter: String },
    Listed { file: String, entry: String },
}

impl Use {
    /// The fact that `device` is used in this way.
    pub(super) fn fact(&self, device: String) -> Fact {
        match self.clone() {
            Self::Mounted { on } => Fact::Mounted { device, on },
            Self::Swap => Fact::Swap { device },
            Self::KernelParameter { parameter } => Fact::KernelParameter { device, parameter },
            Self::Listed { file, entry } => Fact::Listed {
                device,
                file,
                entry,
            },
        }
    }
}

/// What a use names in a way that no index finds.
#[derive(Debug)]
pub(super) enum Loose {
    /// The beginning of a UUID, squeezed.
    UuidStart(String),
    /// Paths that a glob matches.
    Paths(Glob),
}

impl Loose {
    fn names(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::UuidStart(start), Key::Uuid(uuid)) => uuid.starts_with(start),
            (Self::Paths(glob), Key::Path(path)) => glob.matches(path),
            _ => false,
        }
    }
}

/// All uses.
#[derive(Debug, Default)]
pub(super) struct References {
    uses: Vec<Use>,
    exact: HashMap<Key, Vec<usize>>,
    loose: Vec<(Loose, usize)>,
    /// What could not be read, as clauses.
    pub(super) unchecked: Vec<String>,
}

impl References {
    /// Reads all that there is.
    pub(super) fn read(look: Look<'_>) -> Self {
        let mut all = Self::default();
        live::mounts(look, &mut all);
        live::swaps(look, &mut all);
        boot::command_line(look, &mut all);
        boot::resume(look, &mut all);
        listed::all(look, &mut all);
        zpool::cache(look, &mut all);
        all
    }

    /// Adds a use that names a device by any of `keys`.
    pub(super) fn add(&mut self, what: Use, keys: Vec<Key>) {
        self.add_loosely(what, keys, Vec::new());
    }

    /// As [`Self::add`], and also by any of `loose`.
    pub(super) fn add_loosely(&mut self, what: Use, keys: Vec<Key>, loose: Vec<Loose>) {
        if keys.is_empty() && loose.is_empty() {
            return;
        }
        let index = self.uses.len();
        self.uses.push(what);
        for key in keys {
            self.exact.entry(key).or_default().push(index);
        }
        self.loose.extend(loose.into_iter().map(|one| (one, index)));
    }

    /// The uses that name a device with `keys`, as numbers in the order in
    /// which they were read.
    pub(super) fn naming<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for key in keys {
            found.extend(self.exact.get(key).into_iter().flatten().copied());
            let loose = self.loose.iter().filter(|(one, _)| one.names(key));
            found.extend(loose.map(|(_, index)| *index));
        }
        found
    }

    /// All uses with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Use)> {
        self.uses.iter().enumerate()
    }

    /// The use with this number.
    pub(super) fn get(&self, index: usize) -> Option<&Use> {
        self.uses.get(index)
    }
}
