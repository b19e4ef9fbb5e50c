//! Apply: binds one function to its driver, step by step, and looks whether it
//! worked. What it was is written down before the first write. Runs in the
//! helper only: an unbind can block for ever and cannot be cancelled.
//!
//! Never `new_id`, which takes every twin as well; never an override that
//! somebody else set. Success is what is read back: `drivers_probe` and
//! `unbind` report success without it (Linux 6.1 drivers/base/bus.c).

use std::process::Command;

use super::{
    inspect::driver_override,
    order::{Order, Outcome, Step},
    steps::{self, Failure, driver, identity},
    undo::{Entry, Journal, UndoError},
    usage::{Look, usage, words},
};
use crate::policy::guard;

/// How a module is loaded.
pub trait Modules {
    /// Loads the module, or does nothing if it is there.
    ///
    /// # Errors
    /// What went wrong, in words.
    fn load(&self, name: &str) -> Result<(), String>;
}

/// `modprobe`.
#[derive(Clone, Copy, Debug)]
pub struct Modprobe;

impl Modules for Modprobe {
    fn load(&self, name: &str) -> Result<(), String> {
        let output = Command::new("/sbin/modprobe")
            .args(["--", name])
            .env_clear()
            .output()
            .map_err(|error| format!("modprobe cannot be run: {}", words(&error)))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("modprobe {name}: {}", on_one_line(&text)))
    }
}

/// What modprobe says, line by line, as one clause.
fn on_one_line(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim().trim_start_matches("modprobe: ");
        line.trim_start_matches("ERROR: ")
            .trim_start_matches("FATAL: ")
    });
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// Carries out `order`.
pub fn apply(look: Look<'_>, modules: &impl Modules, order: &Order) -> Outcome {
    let sysfs = look.sysfs;
    let address = order.address;
    let Some(found) = identity(sysfs, address) else {
        return Outcome::Gone;
    };
    if found != order.id {
        let text = format!("is another device by now: {found}, not {}", order.id);
        return Outcome::Refused { text };
    }
    let before = driver(sysfs, address);
    if before.as_deref() == Some(order.driver.as_str()) {
        return Outcome::AlreadyBound;
    }
    if let Some(text) = objection(look, order, before.as_deref()) {
        return Outcome::Refused { text };
    }
    match carry_out(look, modules, order, before.as_deref()) {
        Ok(()) => Outcome::Bound { from: before },
        Err(_) if identity(sysfs, address).is_none() => Outcome::Gone,
        Err(Failure { step, text }) => Outcome::Failed { step, text },
    }
}

/// What speaks against it now, whatever was true when it was planned.
pub(super) fn objection(look: Look<'_>, order: &Order, before: Option<&str>) -> Option<String> {
    let theirs = driver_override(look.sysfs, order.address);
    if let Some(theirs) = theirs.filter(|theirs| *theirs != order.driver) {
        return Some(format!("has the driver override '{theirs}' by now"));
    }
    if let Some(native) = before.filter(|native| order.detach.as_deref() != Some(native)) {
        return Some(format!("is held by {native} by now"));
    }
    let facts = usage(look, order.address);
    let (_, evidence) = facts.iter().map(guard::judge).find(|(guard, _)| {
        let lifted = guard.is_some_and(|guard| order.allow.contains(guard.name()));
        !lifted
    })?;
    Some(format!("is in use by now: {evidence}"))
}

fn carry_out(
    look: Look<'_>,
    modules: &impl Modules,
    order: &Order,
    before: Option<&str>,
) -> Result<(), Failure> {
    let (sysfs, address) = (look.sysfs, order.address);
    let wanted = order.driver.as_str();
    // Before the unbind: a host without the driver keeps what it has.
    steps::load(sysfs, modules, wanted, &wanted.replace('-', "_"))?;
    let journal = order.undo.as_deref().map(Journal::new);
    if let Some(journal) = &journal {
        note(look, journal, order)
            .map_err(|error| Failure::new(Step::Journal, error.to_string()))?;
    }
    let theirs = driver_override(sysfs, address);
    steps::set_override(sysfs, look.host, address, Some(wanted))?;
    if let Some(native) = before {
        steps::unbind(sysfs, address, native)?;
    }
    let mut failure = match steps::bind(sysfs, address, wanted) {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    if let Some(native) = before
        && driver(sysfs, address).is_none()
    {
        // The host gets its function back.
        let before = (Some(native), theirs.as_deref());
        let back = steps::let_native(look, address, order.undo.as_deref())
            .and_then(|()| steps::give_back(sysfs, look.host, address, wanted, before));
        let how = match back {
            Ok(()) => {
                // What becomes of it now is the host's, and nothing to undo.
                let dropped = journal.map_or(Ok(()), |journal| journal.drop_if(address, before));
                let trouble = dropped.map_or_else(|error| format!("; {error}"), |()| String::new());
                format!("{trouble}; {native} has it back")
            }
            Err(failure) => format!("; {native} did not take it back: {}", failure.text),
        };
        failure.text += &how;
    }
    Err(failure)
}

/// Writes down what the function is now, unless it is known what it was before
/// an apply that was broken off changed it.
pub(super) fn note(look: Look<'_>, journal: &Journal, order: &Order) -> Result<(), UndoError> {
    let known = journal.read(order.address)?;
    let entry = Entry::of_taken(look, order, known.as_ref())?;
    if known.as_ref() == Some(&entry) {
        return Ok(());
    }
    journal.write(&entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modprobe_is_quoted_on_one_line() {
        let text = "modprobe: ERROR: Error running install command '/bin/false' for module x: \
                    retcode 1\nmodprobe: ERROR: could not insert 'x': Invalid argument\n\n";
        let wanted = "Error running install command '/bin/false' for module x: retcode 1; \
                      could not insert 'x': Invalid argument";
        assert_eq!(on_one_line(text), wanted);
        let text = "modprobe: FATAL: Module x not found in directory /lib/modules/6.12\n";
        assert_eq!(
            on_one_line(text),
            "Module x not found in directory /lib/modules/6.12"
        );
    }
}
