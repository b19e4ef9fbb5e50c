//! Files that say something about many functions: what is missing says
//! nothing, and what cannot be read is kept as trouble, by its name.

use std::io;

use super::words;
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
        match self.host.read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                self.note(path, &error);
                String::new()
            }
        }
    }

    /// The names in the directory, none if there is none.
    pub(super) fn list(&mut self, path: &str) -> Vec<String> {
        self.host.list(path).unwrap_or_else(|error| {
            self.note(path, &error);
            Vec::new()
        })
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

    fn note(&mut self, path: &str, error: &io::Error) {
        if !is_missing(error) {
            let error = words(error);
            self.troubles
                .push(format!("{path} cannot be read: {error}"));
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
