//! Early: takes functions before any driver is loaded, at boot.
//!
//! Owns the order: all overrides first, then the driver, which binds what waits
//! for it. Never unbinds what a native driver has. What may be taken says
//! `policy::early`; what becomes of what a stage before took, `handed`. Runs in a
//! process of its own that may hang.

mod handed;
mod vfs;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub use self::handed::give_back;

use super::{
    apply::{self, objection},
    host::Host,
    inspect::{Wanted, inspect},
    modules::Modules,
    order::{Order, Step},
    scan::scan_all,
    steps::{self, Failure, driver, identity},
    usage::{Look, words},
    verdicts::{NO_VERDICT_IN_IMAGE, VerdictFile},
};
use crate::{
    pci::inventory::Inventory,
    policy::{
        early::{Early, Former, early, is_off},
        model::{DriverChoice, Policy},
        plan::{Action, MappingPlan, Plan, plan},
        resolve::Held,
    },
};

const COMMAND_LINE: &str = "/proc/cmdline";

/// Why an initramfs leaves what gets its driver by `auto`: that would be vfio-pci
/// there, and stay so.
const FOR_THE_ROOT: &str =
    "has driver = \"auto\", and an initramfs has not all modules to choose from";

/// Where the stage of an initramfs leaves word for that of the real root: `/run`
/// goes along.
pub const HANDED: &str = "/run/vfio-bindd/early";

/// Which of the early stages this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In an initramfs: nothing can be written that outlasts this boot, and the
    /// verdicts are as old as the image.
    Initramfs,
    /// In the real root, which also judges what the one before took.
    Root,
}

/// What an early stage is to go by.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Which one it is.
    pub stage: Stage,
    /// Where the verdicts are, if there is such a place by now; in the real root
    /// the undo journal as well.
    pub state: Option<&'a Path>,
    /// Where word is left from stage to stage, [`HANDED`].
    pub handed: &'a Path,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Task<'_> {
    /// The undo journal's folder.
    fn undo(&self) -> Option<PathBuf> {
        match self.stage {
            Stage::Initramfs => Some(handed::journal(self.handed)),
            Stage::Root => self.state.map(|state| state.join("undo")),
        }
    }
}

/// Takes what may be taken early; each line that says what was done goes to
/// `tell` at once. The config is read after it is clear that a boot that fails
/// from here on counts as one.
///
/// # Errors
/// If nothing was taken: the config cannot be used, or the host not be seen.
pub fn run(
    look: Look<'_>,
    modules: &impl Modules,
    task: Task<'_>,
    config: impl FnOnce() -> Result<Policy, String>,
    tell: &mut dyn FnMut(String),
) -> Result<(), String> {
    let read = look.host.read(COMMAND_LINE);
    let line = read.map_err(|error| format!("{COMMAND_LINE}: {}", words(&error)))?;
    if is_off(&String::from_utf8_lossy(&line)) {
        tell("vfio_bindd=off is on the kernel's command line: nothing is taken early".to_owned());
        return Ok(());
    }
    let former = former(look.host, task);
    let policy = match (config(), task.stage) {
        (Ok(policy), _) => policy,
        (Err(text), Stage::Initramfs) => return Err(text),
        (Err(text), Stage::Root) => {
            let back = handed::unjudged(look, task, tell);
            handed::return_all(look, modules, task, &back, tell);
            return Err(text);
        }
    };
    let mut inventory = scan_all(look.sysfs)
        .map_err(|error| format!("functions cannot be listed: {}", words(&error)))?;
    let plan = planned(look, &policy, &mut inventory);
    let back = match task.stage {
        Stage::Initramfs => Vec::new(),
        Stage::Root => handed::review(look, task, (&plan, &inventory, &former), tell),
    };
    let Early {
        mut take,
        mut leave,
    } = early(&plan, &inventory, &former);
    if task.stage == Stage::Initramfs {
        let auto = take.extract_if(.., |action| is_auto(&policy, action));
        leave.extend(auto.map(|action| (action.address, FOR_THE_ROOT.to_owned())));
    }
    // What an image writes down of PFs nobody would take over.
    if task.stage == Stage::Root
        && let Some(undo) = task.undo()
    {
        vfs::withhold(look, task, &undo, (&inventory, &policy), tell);
    }
    for (address, text) in &leave {
        tell(format!(
            "{address} is left to vfio-bindd.service: it {text}"
        ));
    }
    let taken = if task.dry_run {
        for action in &take {
            let mappings = action.mappings.join(", ");
            tell(format!("{} would be taken for {mappings}", action.address));
        }
        0
    } else {
        if task.stage == Stage::Initramfs && !take.is_empty() {
            handed::announce(look.host, task.handed, &take, &inventory)?;
        }
        bind(look, modules, &hold(look, task, &take, tell), tell)
    };
    // After all overrides: their own drivers come for these.
    handed::return_all(look, modules, task, &back, tell);
    let left = plan.actions.len() - taken;
    let refused: usize = plan.mappings.values().map(MappingPlan::passed_over).sum();
    tell(format!(
        "{taken} taken early, {left} left to vfio-bindd.service, {refused} refused"
    ));
    Ok(())
}

/// Whether the driver of `action` is chosen among all modules of the kernel.
fn is_auto(policy: &Policy, action: &Action) -> bool {
    let mut mappings = action
        .mappings
        .iter()
        .filter_map(|name| policy.mappings.get(name));
    mappings.any(|mapping| mapping.driver == DriverChoice::Auto)
}

fn former(host: &dyn Host, task: Task<'_>) -> Former {
    let Some(state) = task.state else {
        let why = match task.stage {
            Stage::Initramfs => NO_VERDICT_IN_IMAGE,
            Stage::Root => "the state directory is not there yet",
        };
        return Former::Nothing(why.to_owned());
    };
    match (VerdictFile::new(state, host), task.stage) {
        (Ok(file), Stage::Initramfs) => file.of_image(),
        (Ok(file), Stage::Root) => file.former(task.dry_run),
        (Err(error), _) => Former::Nothing(error.to_string()),
    }
}

/// The plan of this moment, with what it needs to know inspected.
fn planned(look: Look<'_>, policy: &Policy, inventory: &mut Inventory) -> Plan {
    let mut asked = BTreeSet::new();
    let wanted = Wanted {
        serial: true,
        variant: policy.asks_for_variants(),
        settings: false,
    };
    loop {
        let plan = plan(inventory, policy, &Held::new());
        let unasked: Vec<_> = plan.inspect.difference(&asked).copied().collect();
        if unasked.is_empty() {
            return plan;
        }
        for address in unasked {
            asked.insert(address);
            match (inspect(look, address, wanted), inventory.get_mut(address)) {
                (Some(inspection), Some(function)) => function.inspection = Some(inspection),
                _ => drop(inventory.remove(address)),
            }
        }
    }
}

/// Sets the overrides, so that no other driver gets these functions. Says which
/// it was done for.
fn hold(
    look: Look<'_>,
    task: Task<'_>,
    take: &[&Action],
    tell: &mut dyn FnMut(String),
) -> Vec<Order> {
    let undo = task.undo();
    let mut held = Vec::new();
    for action in take {
        let order = Order::new(action, undo.clone());
        match hold_one(look, &order) {
            Ok(()) => held.push(order),
            Err(text) => tell(format!("{} is not taken: {text}", action.address)),
        }
    }
    held
}

fn hold_one(look: Look<'_>, order: &Order) -> Result<(), String> {
    let address = order.address;
    if identity(look.sysfs, address) != Some(order.id) {
        return Err("it is another device by now, or gone".to_owned());
    }
    let now = driver(look.sysfs, address);
    if let Some(text) = objection(look, order, now.as_deref()) {
        return Err(format!("it {text}"));
    }
    let held = apply::hold(look, order);
    held.map(drop).map_err(|failure| match failure.step {
        Step::Offer => format!("it {}", failure.text),
        _ => failure.text,
    })
}

/// Loads the driver, which binds what waits for it as it registers
/// (drivers/base/bus.c, `bus_add_driver`, v6.12), and binds what that left over.
/// Says how many it has now.
fn bind(
    look: Look<'_>,
    modules: &impl Modules,
    held: &[Order],
    tell: &mut dyn FnMut(String),
) -> usize {
    let mut bound = 0;
    for order in held {
        let address = order.address;
        match bind_one(look, modules, order, tell) {
            Ok(driver) => {
                bound += 1;
                let mappings = order.mappings.join(", ");
                tell(format!(
                    "{address} is taken for {mappings}: {driver} has it"
                ));
            }
            // No other driver can get it, and the daemon tries again.
            Err(failure) => tell(format!(
                "{address} is kept for {}, which does not have it yet: {}: {}",
                order.driver,
                failure.step.as_str(),
                failure.text
            )),
        }
    }
    bound
}

/// Says which driver has it then.
fn bind_one(
    look: Look<'_>,
    modules: &impl Modules,
    order: &Order,
    tell: &mut dyn FnMut(String),
) -> Result<String, Failure> {
    let (order, fallback) = apply::settle(look, modules, order)?;
    let (address, wanted) = (order.address, order.driver.as_str());
    if let Some(text) = fallback {
        tell(format!("{address} gets {wanted}: {text}"));
    }
    if driver(look.sysfs, address).as_deref() != Some(wanted) {
        // Its driver may be called otherwise than was expected.
        apply::hold(look, &order)?;
        steps::bind(look.sysfs, address, wanted)?;
    }
    Ok(order.driver)
}

/// The place for what outlasts a boot, if it is there by now: with `/var` on a
/// file system of its own it is not.
#[must_use]
pub fn state_directory(path: &Path) -> Option<&Path> {
    let found = fs::metadata(path);
    found.is_ok_and(|found| found.is_dir()).then_some(path)
}
