//! Apply: binds one function to its driver, step by step, and looks whether it
//! worked. What it was is written down before the first write. Runs in the
//! helper only: an unbind can block for ever and cannot be cancelled.
//!
//! Never `new_id`, which takes every twin as well; never an override that
//! somebody else set. Success is what is read back: `drivers_probe` and
//! `unbind` report success without it (Linux 6.1 drivers/base/bus.c).

use super::{
    inspect::driver_override,
    knobs,
    modules::Modules,
    order::{Order, Outcome, Step},
    steps::{self, Failure, driver, identity},
    sysfs::Sysfs,
    undo::{Entry, Journal, UndoError},
    usage::{Look, usage},
    variant,
};
use crate::{
    pci::{address::Address, settings::Settings},
    policy::guard,
};

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
        Ok((driver, fallback)) => Outcome::Bound {
            from: before,
            driver,
            fallback,
        },
        Err(_) if identity(sysfs, address).is_none() => Outcome::Gone,
        Err(Failure {
            step: Step::Offer,
            text,
        }) => Outcome::Refused { text },
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

/// The order with the driver that the function gets, which is loaded; and why
/// that is not the variant driver that was meant, if so.
pub(super) fn settle(
    look: Look<'_>,
    modules: &impl Modules,
    order: &Order,
) -> Result<(Order, Option<String>), Failure> {
    let sysfs = look.sysfs;
    let Some(module) = &order.module else {
        let driver = &order.driver;
        steps::load(sysfs, modules, driver, &driver.replace('-', "_"))?;
        return Ok((order.clone(), None));
    };
    match variant::load(sysfs, modules, module) {
        Ok(driver) => Ok((order.with(driver), None)),
        Err(text) => {
            let (order, _) = settle(look, modules, &order.plain())?;
            Ok((order, Some(text)))
        }
    }
}

/// The driver that has the function then, and why it is not the variant driver
/// that was meant, if so.
fn carry_out(
    look: Look<'_>,
    modules: &impl Modules,
    order: &Order,
    before: Option<&str>,
) -> Result<(String, Option<String>), Failure> {
    let (sysfs, address) = (look.sysfs, order.address);
    // Before the unbind: a host without the driver keeps what it has.
    let (mut order, mut fallback) = settle(look, modules, order)?;
    let theirs = driver_override(sysfs, address);
    let former = hold(look, &order)?;
    if let Some(native) = before {
        steps::unbind(sysfs, address, native)?;
    }
    // No driver has it now, which the size of a BAR needs.
    let sized = knobs::resize(sysfs, address, &order.knobs.resize_bar);
    let mut bound = sized.and_then(|_| steps::bind(sysfs, address, &order.driver));
    if let Err(Failure { step, text }) = &bound
        && matches!(step, Step::Bind | Step::Verify)
        && order.module.is_some()
        && driver(sysfs, address).is_none()
    {
        fallback = Some(format!("{}: {text}", step.as_str()));
        order = order.plain();
        bound = bind_plain(look, modules, &order);
    }
    let Err(mut failure) = bound else {
        // vfio-pci lets it sleep as it comes (drivers/vfio/pci/vfio_pci_core.c,
        // `vfio_pci_core_register_device`, v6.1 and v6.12). Whoever looks at the
        // settings of what is bound tells of what is otherwise.
        drop(knobs::set(sysfs, address, &order.knobs.settings()));
        return Ok((order.driver, fallback));
    };
    if let Some(native) = before
        && driver(sysfs, address).is_none()
    {
        // The host gets its function back.
        let before = (Some(native), theirs.as_deref());
        let back = steps::let_native(look, address, order.undo.as_deref()).and_then(|()| {
            let (ours, host) = (order.driver.as_str(), look.host);
            steps::give_back(sysfs, host, address, ours, before, &former)
        });
        let how = match back {
            Ok(()) => {
                // What becomes of it now is the host's, and nothing to undo.
                let journal = order.undo.as_deref().map(Journal::new);
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

/// Keeps other drivers from the function, and makes its settings what they are to
/// be, as far as its driver lets them; what it was is written down first. Says what
/// those settings were.
pub(super) fn hold(look: Look<'_>, order: &Order) -> Result<Settings, Failure> {
    let (sysfs, address) = (look.sysfs, order.address);
    let journal = order.undo.as_deref().map(Journal::new);
    let former = match &journal {
        Some(journal) => note(look, journal, order)
            .map_err(|error| Failure::new(Step::Journal, error.to_string()))?,
        None => Settings {
            power: knobs::power(sysfs, address),
            ..knobs::former(sysfs, address, &order.knobs)
        },
    };
    // Before the override, and before its driver is unbound: a host whose device
    // does not offer what is wanted keeps it as it was.
    if let Err(mut failure) = adjust(sysfs, order, &former) {
        let before = (driver(sysfs, address), driver_override(sysfs, address));
        let now = (before.0.as_deref(), before.1.as_deref());
        let back = unsettle(sysfs, address, &former).and_then(|()| {
            let dropped = journal.map_or(Ok(()), |journal| journal.drop_if(address, now));
            dropped.map_err(|error| Failure::new(Step::Journal, error.to_string()))
        });
        if let Err(trouble) = back {
            failure.step = trouble.step;
            failure.text += &format!("; {}", trouble.text);
        }
        return Err(failure);
    }
    steps::set_override(sysfs, look.host, address, Some(&order.driver))?;
    Ok(former)
}

/// Makes the settings what they are to be, those of a function that no driver has
/// all of them.
fn adjust(sysfs: &dyn Sysfs, order: &Order, former: &Settings) -> Result<(), Failure> {
    let address = order.address;
    knobs::check(sysfs, address, &order.knobs, former)?;
    knobs::set(sysfs, address, &order.knobs.settings())?;
    if driver(sysfs, address).is_none() {
        knobs::resize(sysfs, address, &order.knobs.resize_bar)?;
    }
    Ok(())
}

/// Makes the settings what they were.
fn unsettle(sysfs: &dyn Sysfs, address: Address, former: &Settings) -> Result<(), Failure> {
    if driver(sysfs, address).is_none() {
        knobs::resize(sysfs, address, &former.bars)?;
    }
    knobs::set(sysfs, address, former).map(drop)
}

/// Binds vfio-pci where a variant driver would not have the function.
fn bind_plain(look: Look<'_>, modules: &impl Modules, order: &Order) -> Result<(), Failure> {
    let (order, _) = settle(look, modules, order)?;
    hold(look, &order)?;
    steps::bind(look.sysfs, order.address, &order.driver)
}

/// Writes down what the function is now, unless it is known what it was before
/// an apply that was broken off changed it. Says what its settings were.
fn note(look: Look<'_>, journal: &Journal, order: &Order) -> Result<Settings, UndoError> {
    let known = journal.read(order.address)?;
    let entry = Entry::of_taken(look, order, known.as_ref())?;
    if known.as_ref() != Some(&entry) {
        journal.write(&entry)?;
    }
    Ok(entry.former.given_back())
}
