//! The files around the program keep up with it: man pages, the bus policy,
//! the unit, the package's scripts.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{
    fs, io,
    path::PathBuf,
    process::{Command, Output},
};

mod early;
mod image;
mod man;
mod members;
mod policy;
mod scripts;
mod unit;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn file(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// What a checker says; `None` where this machine does not have it.
fn checked(command: &mut Command) -> Option<Output> {
    match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        output => Some(output.unwrap()),
    }
}

/// Asserts that a checker is content and has nothing to say.
fn is_content(output: &Output, what: &str) {
    let told = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.is_empty(), "{what}: {told}");
}
