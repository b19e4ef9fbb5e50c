//! How vfio-bindctl ends: exit codes, and the errors that lead to them.

use std::{io, process::ExitCode};

/// The exit codes of vfio-bindctl(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It worked.
    Ok = 0,
    /// It did not.
    Failure = 1,
    /// Wrong options, or a config that is not valid.
    Usage = 2,
    /// The mapping was not bound in time.
    NotSettled = 3,
    /// No mapping has this name.
    Unknown = 4,
    /// Policy says no.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended without what it was asked for.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) exit: Exit,
    pub(super) text: String,
    /// Whether it is the daemon's own word.
    pub(super) from_daemon: bool,
}

impl Stop {
    pub(super) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
            from_daemon: false,
        }
    }

    pub(super) fn failure(text: impl Into<String>) -> Self {
        Self::new(Exit::Failure, text)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        // Whoever read our output has seen enough, as `| head` does.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::failure(error.to_string())
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        Self::failure(error.to_string())
    }
}
