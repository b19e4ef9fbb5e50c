//! Sources: files of the host as text, or why they could not be read.
//!
//! What is not there says nothing; what cannot be read is never passed over.

use std::io;

use crate::kernel::usage::{Look, words};

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
            if error.kind() != io::ErrorKind::NotFound {
                unchecked.push(format!("{path} cannot be read: {}", words(&error)));
            }
            T::default()
        }
    }
}
