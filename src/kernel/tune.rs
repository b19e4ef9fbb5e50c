//! Tune: makes the settings of a function that a vfio driver has already what a
//! mapping wants, and what it wants no more what it was. Runs in the helper only.
//!
//! What settings were is in the undo journal before the first write, and goes from
//! it when they are so again. It can be broken off anywhere and begun again. The
//! size of a BAR is only looked at: no driver may have the function for that.

use super::{
    knobs,
    order::{Step, Tune, Tuned},
    steps::{Failure, driver, identity},
    undo::{Entry, Journal, UndoError},
    usage::Look,
};
use crate::pci::{function::is_vfio_driver, settings::Settings};

/// Carries out `order`.
pub fn tune(look: Look<'_>, order: &Tune) -> Tuned {
    let (sysfs, address) = (look.sysfs, order.address);
    let is_it = || {
        let driver = driver(sysfs, address);
        identity(sysfs, address) == Some(order.id) && driver.as_deref().is_some_and(is_vfio_driver)
    };
    if !is_it() {
        return Tuned::Unbound;
    }
    match carry_out(look, order) {
        Ok(changed) => Tuned::Set {
            changed,
            found: knobs::found(sysfs, address),
        },
        Err(_) if !is_it() => Tuned::Unbound,
        Err(Failure { step, text }) => match step {
            Step::Offer => Tuned::Refused { text },
            _ => Tuned::Failed { text },
        },
    }
}

fn carry_out(look: Look<'_>, order: &Tune) -> Result<Settings, Failure> {
    let (sysfs, address) = (look.sysfs, order.address);
    let wanted = order.knobs.settings();
    let journal = order.undo.as_deref().map(Journal::new);
    let fail = |error: UndoError| Failure::new(Step::Journal, error.to_string());
    let mut changed = Settings::default();
    let mut known = Settings::default();
    if let Some(journal) = &journal {
        let old = journal.read(address).map_err(fail)?;
        if old.is_some() || !order.knobs.is_empty() {
            let mut entry = Entry::of_tuned(look, order, old.clone()).map_err(fail)?;
            if old.as_ref() != Some(&entry) {
                journal.write(&entry).map_err(fail)?;
            }
            let over = entry
                .former
                .put_back(&wanted, driver(sysfs, address).as_deref());
            if !over.is_empty() {
                changed = knobs::set(sysfs, address, &over)?;
                entry.former.settings = entry.former.settings.beside(&over);
                journal.write(&entry).map_err(fail)?;
            }
            known = entry.former.settings;
        }
    }
    knobs::check(sysfs, address, &order.knobs, &known)?;
    let set = knobs::set(sysfs, address, &wanted)?;
    if let Some(text) = knobs::missized(sysfs, address, &wanted.bars) {
        let name = order.mappings.first().map_or("", String::as_str);
        let text = format!(
            "{text}, which no driver may have it for: vfio-bindctl restore {name}, then \
             vfio-bindctl rescan --take"
        );
        return Err(Failure::new(Step::Offer, text));
    }
    Ok(set.and(changed))
}
