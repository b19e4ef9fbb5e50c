//! Restore: gives one function back to the host as the undo journal says it
//! was, and looks whether that worked. Runs in the helper only.
//!
//! Nothing is written while a virtual machine uses the function, or where
//! somebody else changed it since. It can be broken off anywhere and begun
//! again: the journal says that the function is on its way back before the
//! first write, and that it is back after the last.

use super::{
    inspect::driver_override,
    order::{Return, Returned, Step},
    reservations::{Reserved, reserved},
    steps::{self, Failure, driver, identity},
    undo::{Entry, Identity, Journal, Phase},
    usage::{Look, usage},
};
use crate::{
    kernel::modules::Modules,
    pci::{address::Address, function::is_vfio_driver},
    policy::guard,
};

/// Carries out `order`.
pub fn restore(look: Look<'_>, modules: &impl Modules, order: &Return) -> Returned {
    let (sysfs, address) = (look.sysfs, order.address);
    let journal = Journal::new(&order.undo);
    let failed = |failure: Failure, released| Returned::Failed {
        step: failure.step,
        text: failure.text,
        released,
    };
    if identity(sysfs, address).is_none() {
        return Returned::Gone;
    }
    let mut entry = match taken(look, &journal, address) {
        Ok(Ok(entry)) => entry,
        Ok(Err(text)) => return Returned::Untaken { text },
        Err(failure) => return failed(failure, false),
    };
    if entry.phase == Phase::Released {
        let driver = entry.former.driver;
        return Returned::Given { driver };
    }
    if let Some(text) = objection(look, order, &entry) {
        let released = entry.phase == Phase::Returning;
        return Returned::Refused { text, released };
    }
    let write = |entry: &Entry| {
        let written = journal.write(entry);
        written.map_err(|error| Failure::new(Step::Journal, error.to_string()))
    };
    if entry.phase == Phase::Taken {
        entry.phase = Phase::Returning;
        if let Err(failure) = write(&entry) {
            return failed(failure, false);
        }
    }
    let done = carry_out(look, modules, order, &entry).and_then(|()| {
        entry.phase = Phase::Released;
        write(&entry)
    });
    match done {
        Ok(()) => Returned::Given {
            driver: entry.former.driver,
        },
        Err(_) if identity(sysfs, address).is_none() => Returned::Gone,
        Err(failure) => failed(failure, true),
    }
}

/// The journal's entry of the function that is there now, or why there is none.
fn taken(
    look: Look<'_>,
    journal: &Journal,
    address: Address,
) -> Result<Result<Entry, String>, Failure> {
    let fail = |text| Failure::new(Step::Journal, text);
    let entry = journal
        .read(address)
        .map_err(|error| fail(error.to_string()))?;
    let Some(entry) = entry else {
        return Ok(Err("was never taken".to_owned()));
    };
    let now = Identity::of_now(look, address).map_err(|error| fail(error.to_string()))?;
    if now == entry.function {
        Ok(Ok(entry))
    } else {
        Ok(Err(
            "is another device than the one that was taken".to_owned()
        ))
    }
}

/// What speaks against it now, a clause that follows the address.
fn objection(look: Look<'_>, order: &Return, entry: &Entry) -> Option<String> {
    let own = order.address;
    let about = |address: Address, text: String| {
        if address == own {
            text
        } else {
            format!("stays with {address}, which {text}")
        }
    };
    let mut together = vec![own];
    together.extend(order.together.iter().filter(|one| **one != own));
    for address in &together {
        let driver = driver(look.sysfs, *address);
        if !driver.as_deref().is_some_and(is_vfio_driver) {
            continue;
        }
        if let Some(fact) = usage(look, *address).first() {
            let (_, evidence) = guard::judge(fact);
            return Some(about(*address, format!("is in use: {evidence}")));
        }
    }
    if let Some(Reserved { address, text, .. }) = reserved(look.host, &together) {
        return Some(about(address, text));
    }
    let former = &entry.former;
    let wanted = Some(&entry.driver);
    let now = driver_override(look.sysfs, own);
    // On its way back it may have none for a while.
    if let Some(theirs) = &now
        && Some(theirs) != wanted
        && now != former.driver_override
    {
        return Some(format!(
            "has the driver override '{theirs}' by now, which somebody else set"
        ));
    }
    let now = driver(look.sysfs, own);
    if now.is_some() && now.as_ref() != wanted && now != former.driver {
        let now = now.unwrap_or_default();
        return Some(format!("was given to {now} by somebody else"));
    }
    None
}

fn carry_out(
    look: Look<'_>,
    modules: &impl Modules,
    order: &Return,
    entry: &Entry,
) -> Result<(), Failure> {
    let (sysfs, address) = (look.sysfs, entry.function.address);
    let former = &entry.former;
    if let Some(native) = &former.driver {
        // Before the unbind: a function that nobody would take stays bound.
        let module = former.module.clone();
        let module = module.unwrap_or_else(|| native.replace('-', "_"));
        steps::load(sysfs, modules, native, &module)?;
        steps::let_native(look, address, Some(&order.undo))?;
    }
    let before = (former.driver.as_deref(), former.driver_override.as_deref());
    steps::give_back(
        sysfs,
        look.host,
        address,
        &entry.driver,
        before,
        &former.given_back(),
    )
}
