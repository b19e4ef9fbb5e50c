//! Files that say something about many functions: what is missing says
//! nothing, and what cannot be read is kept as trouble, by its name.

use std::io;

use super::{Look, words};
use crate::kernel::{host::Host, sysfs::Sysfs};

/// Reads files of the host and remembers which could not be read.
pub(super) struct Files<'a> {
    host: &'a dyn Host,
    /// Clauses that name a file each.
    pub(super) troubles: Vec<String>,
}

impl<'a> Files<'a> {
    pub(super) const fn new(host: &'a dyn Host) -> Self {
        Self {
            host,
            troubles: Vec::new(),
        }
    }

    /// The file as text, empty if there is none.
    pub(super) fn read(&mut self, path: &str) -> String {
        let bytes = found(path, self.host.read(path), &mut self.troubles);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The names in the directory, none if there is none.
    pub(super) fn list(&mut self, path: &str) -> Vec<String> {
        found(path, self.host.list(path), &mut self.troubles)
    }

    /// What is in the directory and is not hidden: name and path.
    pub(super) fn entries(&mut self, directory: &str) -> Vec<(String, String)> {
        let names = self.list(directory).into_iter();
        names
            .filter(|name| !name.starts_with('.'))
            .map(|name| {
                let path = format!("{directory}/{name}");
                (name, path)
            })
            .collect()
    }
}

/// The file at `path`, empty if there is none. Why it cannot be read goes to
/// `unchecked`.
pub(super) fn file(look: Look<'_>, path: &str, unchecked: &mut Vec<String>) -> String {
    String::from_utf8_lossy(&bytes(look, path, unchecked)).into_owned()
}

/// As [`file`], but not as text.
pub(super) fn bytes(look: Look<'_>, path: &str, unchecked: &mut Vec<String>) -> Vec<u8> {
    found(path, look.host.read(path), unchecked)
}

/// The names in the directory at `path`, none if there is no such directory.
pub(super) fn directory(look: Look<'_>, path: &str, unchecked: &mut Vec<String>) -> Vec<String> {
    found(path, look.host.list(path), unchecked)
}

/// What was found at `path`, nothing if there is none.
pub(super) fn found<T: Default>(
    path: &str,
    found: io::Result<T>,
    unchecked: &mut Vec<String>,
) -> T {
    match found {
        Ok(found) => found,
        Err(error) => {
            if !is_missing(&error) {
                unchecked.push(format!("{path} cannot be read: {}", words(&error)));
            }
            T::default()
        }
    }
}

/// A directory where a file was looked for, or the other way round, says as
/// little as nothing at all.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

/// What the attribute at `path` says, `None` if there is none; a clause that
/// names it if it cannot be read.
pub(super) fn attribute(sysfs: &dyn Sysfs, path: &str) -> Result<Option<String>, String> {
    match sysfs.read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(format!("/sys/{path} cannot be read: {}", words(&error))),
    }
}
