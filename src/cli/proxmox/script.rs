//! The hookscript itself, a program of its own: the start of a guest waits neither for
//! a shell nor for all that vfio-bindctl could do besides.

use std::{ffi::OsString, path::Path};

use super::{Places, hook};
use crate::cli::{
    commands::tell,
    exit::{Exit, Stop},
    guests::LIMIT,
};

/// Does what Proxmox VE calls a hookscript for, with its two arguments.
#[must_use]
pub fn hookscript(arguments: &[OsString]) -> Exit {
    match called(arguments) {
        Ok(()) => Exit::Ok,
        Err(stop) => {
            tell(&stop.text);
            stop.exit
        }
    }
}

fn called(arguments: &[OsString]) -> Result<(), Stop> {
    let usage = || Stop::new(Exit::Usage, "usage: hookscript VMID PHASE");
    let [vm, phase] = arguments else {
        return Err(usage());
    };
    let vm = vm.to_str().and_then(|vm| vm.parse().ok());
    let vm = vm.ok_or_else(usage)?;
    let places = Places {
        root: Path::new("/"),
        sysfs: Path::new("/sys"),
        config: None,
    };
    hook::hook(&places, vm, &phase.to_string_lossy(), LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_it_otherwise_is_told_how() {
        for wrong in [&[][..], &["100"], &["vm", "pre-start"], &["1", "a", "b"]] {
            let arguments: Vec<_> = wrong.iter().map(OsString::from).collect();
            assert_eq!(called(&arguments).unwrap_err().exit, Exit::Usage);
        }
        // No such guest here, and no such phase.
        for phase in ["pre-stop", "post-mortem"] {
            called(&["4294967295".into(), phase.into()]).unwrap();
        }
    }
}
