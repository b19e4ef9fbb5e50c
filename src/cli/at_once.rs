//! `resolve NAME`, and nothing else to it: what hooks call again and again, without
//! all that it takes to understand every other command line.
//!
//! Anything that is not plainly so, and any answer but addresses, is left to the
//! long way, which has better words for it.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use super::{exit::Exit, varlink::Varlink};
use crate::bus::varlink::message::{Addresses, Named};

/// How long the daemon is given before D-Bus is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does what the arguments say, if that is done at once.
#[must_use]
pub fn at_once(arguments: &[OsString]) -> Option<Exit> {
    let mapping = plain_resolve(arguments)?;
    let mut daemon = Varlink::connect(Path::new("/"), PATIENCE).ok()?;
    let Addresses { addresses } = daemon.call("Resolve", &Named { mapping }).ok()?;
    let lines: String = addresses.iter().map(|one| format!("{one}\n")).collect();
    match io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => Some(Exit::Ok),
        Err(_) => None,
    }
}

/// The mapping that is to be resolved, if that is all.
fn plain_resolve(arguments: &[OsString]) -> Option<String> {
    let [verb, mapping] = arguments else {
        return None;
    };
    let mapping = mapping.to_str().filter(|name| !name.starts_with('-'))?;
    (verb == "resolve").then(|| mapping.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(arguments: &[&str]) -> Option<String> {
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        plain_resolve(&arguments)
    }

    #[test]
    fn only_what_is_plain_is_done_at_once() {
        assert_eq!(plain(&["resolve", "gpu"]).as_deref(), Some("gpu"));
        for other in [
            &[][..],
            &["resolve"],
            &["resolve", "--help"],
            &["resolve", "-h"],
            &["resolve", "gpu", "--json"],
            &["--json", "resolve", "gpu"],
            &["claim", "gpu"],
        ] {
            assert_eq!(plain(other), None, "{other:?}");
        }
    }
}
