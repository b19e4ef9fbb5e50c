//! Handed: what the early stage of an initramfs took, and what becomes of it.
//!
//! Owns the folder in `/run` where that is written down: an undo journal, and
//! the verdicts that were gone by. Whatever an image took wrongly is given back
//! here, since nothing in an image learns from a boot that failed. Never touches
//! what the journal of this boot does not have, nor what somebody has open.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Task, VerdictFile};
use crate::{
    kernel::{
        host::Host,
        inspect::{Wanted, inspect},
        modules::Modules,
        order::{Return, Returned},
        restore::restore,
        scan::scan_all,
        steps::driver,
        sysfs::{Sysfs, function_dir},
        undo::{Entry, Journal, Phase},
        usage::{Look, words},
    },
    pci::{address::Address, function::Function, inventory::Inventory},
    policy::{
        early::{Former, Known, doubt, needs_verdict},
        plan::{Action, Plan, Verdict},
    },
};

/// The undo journal in the folder that is handed over.
pub(super) fn journal(handed: &Path) -> PathBuf {
    handed.join("undo")
}

/// Writes down who is about to be taken, with their serial numbers: once vfio-pci
/// has a function it may sleep, and not say its own any more.
pub(super) fn announce(
    host: &dyn Host,
    handed: &Path,
    take: &[&Action],
    inventory: &Inventory,
) -> Result<(), String> {
    let functions = take
        .iter()
        .filter_map(|action| inventory.get(action.address));
    let known: Vec<_> = functions.map(Known::of).collect();
    fs::create_dir_all(handed)
        .map_err(|error| format!("{}: {}", handed.display(), words(&error)))?;
    VerdictFile::new(handed, host)
        .and_then(|file| file.write(false, &known))
        .map_err(|error| error.to_string())
}

/// Judges what the initramfs took by what is known now. What stays counts as
/// taken by this stage; says what does not, with a clause why.
pub(super) fn review(
    look: Look<'_>,
    task: Task<'_>,
    (plan, inventory, former): (&Plan, &Inventory, &Former),
    tell: &mut dyn FnMut(String),
) -> Vec<(Address, String)> {
    let here = Journal::new(&journal(task.handed));
    let there = task.undo().map(|folder| Journal::new(&folder));
    let known = announced(look.host, task.handed);
    let mut back = Vec::new();
    for entry in entries(look, &here, tell) {
        let address = entry.function.address;
        if entry.phase == Phase::Released {
            tell(format!(
                "{address} was taken in the initramfs and had to be given back there; have the \
                 initramfs made anew, or the next boot takes it again"
            ));
            continue;
        }
        let function = inventory.get(address);
        let function = function.map(|function| inspected(look, function, &known));
        let text = objection(&entry, function.as_ref(), plan, former).or_else(|| {
            let there = there.as_ref().filter(|_| !task.dry_run)?;
            let noted = here.hand_over(address, there);
            noted
                .err()
                .map(|error| format!("cannot be written down: {error}"))
        });
        match text {
            Some(text) => back.push((address, text)),
            None => tell(format!("{address} was taken in the initramfs and stays")),
        }
    }
    back
}

/// What the initramfs took, all of it to be given back: without a config that
/// can be used nothing is wanted.
pub(super) fn unjudged(
    look: Look<'_>,
    task: Task<'_>,
    tell: &mut dyn FnMut(String),
) -> Vec<(Address, String)> {
    let taken = entries(look, &Journal::new(&journal(task.handed)), tell).into_iter();
    taken
        .filter(|entry| entry.phase != Phase::Released)
        .map(|entry| entry.function.address)
        .map(|address| (address, "is in no config that can be used".to_owned()))
        .collect()
}

/// Gives back what was judged so.
pub(super) fn return_all(
    look: Look<'_>,
    modules: &impl Modules,
    task: Task<'_>,
    back: &[(Address, String)],
    tell: &mut dyn FnMut(String),
) {
    for (address, text) in back {
        let verb = if task.dry_run { "would be" } else { "is" };
        tell(format!(
            "{address} was taken in the initramfs and {verb} given back: it {text}"
        ));
    }
    if !task.dry_run {
        let addresses: Vec<_> = back.iter().map(|(address, _)| *address).collect();
        release(look, modules, task.handed, &addresses, tell);
    }
}

/// Gives back, in the initramfs, what it took of those that a host may hang on:
/// it does not find what it boots from. Does nothing the second time.
///
/// # Errors
/// If the host cannot be seen.
pub fn give_back(
    look: Look<'_>,
    modules: &impl Modules,
    handed: &Path,
    why: &str,
    tell: &mut dyn FnMut(String),
) -> Result<(), String> {
    let here = Journal::new(&journal(handed));
    let mut taken = entries(look, &here, tell);
    taken.retain(|entry| entry.phase != Phase::Released);
    if taken.is_empty() {
        return Ok(());
    }
    let inventory = scan_all(look.sysfs)
        .map_err(|error| format!("functions cannot be listed: {}", words(&error)))?;
    let addresses: Vec<_> = taken
        .iter()
        .map(|entry| entry.function.address)
        .filter(|address| {
            let function = inventory.get(*address);
            function.is_some_and(|function| needs_verdict(function.class).is_some())
        })
        .collect();
    if !addresses.is_empty() {
        let list: Vec<_> = addresses.iter().map(Address::to_string).collect();
        tell(format!("{why}: {} given back", list.join(", ")));
        release(look, modules, handed, &addresses, tell);
    }
    Ok(())
}

/// What the journal has of functions that are there in this boot.
fn entries(look: Look<'_>, journal: &Journal, tell: &mut dyn FnMut(String)) -> Vec<Entry> {
    let contents = journal.contents(look.sysfs, look.host, false);
    contents.trouble.into_iter().for_each(tell);
    contents.entries
}

fn announced(host: &dyn Host, handed: &Path) -> Vec<Known> {
    let read = VerdictFile::new(handed, host).and_then(|file| file.read());
    read.ok()
        .flatten()
        .map_or_else(Vec::new, |all| all.functions)
}

/// The function with what has to be asked of it, and the serial number that it
/// had in the initramfs if it does not say it now.
fn inspected(look: Look<'_>, function: &Function, known: &[Known]) -> Function {
    let mut function = function.clone();
    if function.inspection.is_none() {
        function.inspection = inspect(look, function.address, Wanted::ALL);
    }
    let former = known.iter().find(|known| known.is_like(&function));
    if let (Some(inspection), Some(former)) = (&mut function.inspection, former) {
        inspection.serial = inspection.serial.take().or_else(|| former.serial.clone());
    }
    function
}

fn objection(
    entry: &Entry,
    function: Option<&Function>,
    plan: &Plan,
    former: &Former,
) -> Option<String> {
    let Some(function) = function else {
        return Some("is not there".to_owned());
    };
    if entry.phase == Phase::Returning {
        return Some("was on its way back".to_owned());
    }
    let ready = plan.mappings.values();
    let mut chosen = ready
        .filter(|mapping| mapping.verdict == Verdict::Ready)
        .flat_map(|mapping| &mapping.functions)
        .filter(|chosen| chosen.address == entry.function.address)
        .peekable();
    if chosen.peek().is_none() {
        return Some("is in no mapping that can be bound".to_owned());
    }
    if function.driver.is_some() && !chosen.all(|chosen| chosen.bound) {
        return Some(format!("is not wanted for {} any more", entry.driver));
    }
    doubt(function, former)
}

/// Undoes what was done to them, all before any driver is asked.
fn release(
    look: Look<'_>,
    modules: &impl Modules,
    handed: &Path,
    addresses: &[Address],
    tell: &mut dyn FnMut(String),
) {
    let mut free = Vec::new();
    for address in addresses {
        let order = Return {
            address: *address,
            together: Vec::new(),
            undo: journal(handed),
        };
        let text = match restore(look, modules, &order) {
            Returned::Given { .. } => {
                free.push(*address);
                continue;
            }
            Returned::Gone => "it went".to_owned(),
            Returned::Untaken { text } | Returned::Refused { text, .. } => format!("it {text}"),
            Returned::Failed { step, text, .. } => format!("{}: {text}", step.as_str()),
        };
        tell(format!("{address} cannot be given back: {text}"));
    }
    for address in free {
        offer(look.sysfs, address);
        let now = driver(look.sysfs, address);
        let now = now.map_or_else(
            || "its own driver is yet to come".to_owned(),
            |now| format!("{now} has it"),
        );
        tell(format!("{address} is the host's again: {now}"));
    }
}

/// Has the drivers that are there asked, and udev load others. An error changes
/// nothing: the coldplug of the real root asks once more.
fn offer(sysfs: &dyn Sysfs, address: Address) {
    let own = address.to_string();
    let event = format!("{}/uevent", function_dir(address));
    for (path, value) in [("bus/pci/drivers_probe", own.as_str()), (&event, "add")] {
        sysfs.write(path, value).unwrap_or_default();
    }
}
