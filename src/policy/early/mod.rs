//! Early: which functions of a plan may be taken before drivers are loaded.
//!
//! Owns what cannot be known that early, and so is not taken that early;
//! `known` has what makes a function the very same as in a former boot.
//! Whatever the plan refuses stays refused. Never asks the host.
//!
//! A function without a driver has nothing below it, no disk and no interface,
//! so that what `root=`, `resume=`, fstab, crypttab and the network's
//! configuration name cannot be matched with it: nobody can tell which of two
//! identical disks the root is on. What protects the host is the verdict of a
//! former boot.

mod known;

pub use self::known::Known;
use super::plan::{Action, Plan};
use crate::pci::{address::Address, function::Function, id::ClassCode, inventory::Inventory};

/// What a former boot proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Former {
    /// It got ready, had these bound, and had found them idle before.
    Idle(Vec<Known>),
    /// Nothing, for this reason: a clause.
    Nothing(String),
}

/// What becomes of the actions of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Early<'a> {
    /// To be taken now, in the order of their addresses.
    pub take: Vec<&'a Action>,
    /// To be left to the daemon, each with a clause that follows the address.
    pub leave: Vec<(Address, String)>,
}

/// Whether the kernel's command line turns the early stages off.
#[must_use]
pub fn is_off(command_line: &str) -> bool {
    command_line
        .split_whitespace()
        .any(|word| word == "vfio_bindd=off")
}

/// Sorts the actions of `plan`. All of a mapping is ready in the plan or none
/// of it is among the actions; a part that is left here is the daemon's a few
/// seconds later. PFs, VFs and plain functions are alike: a PF that has VFs the
/// plan refuses, and a VF goes by its class.
#[must_use]
pub fn early<'a>(plan: &'a Plan, inventory: &Inventory, former: &Former) -> Early<'a> {
    let mut early = Early::default();
    for action in &plan.actions {
        match objection(action, inventory.get(action.address), former) {
            None => early.take.push(action),
            Some(text) => early.leave.push((action.address, text)),
        }
    }
    early
}

fn objection(action: &Action, function: Option<&Function>, former: &Former) -> Option<String> {
    let Some(function) = function else {
        return Some("is not there".to_owned());
    };
    if let Some(driver) = &function.driver {
        return Some(format!("has the driver {driver} already"));
    }
    if action.detach.is_some() || function.inspection.is_none() {
        return Some("has to be looked at first".to_owned());
    }
    doubt(function, former)
}

/// What keeps an inspected function from the early stages by what it is,
/// whatever the plan says of it: a clause that follows the address. Also asked
/// of what an earlier stage took.
#[must_use]
pub fn doubt(function: &Function, former: &Former) -> Option<String> {
    // Also where `allow` lifts that guard: a console that goes before the host
    // is up leaves nobody to see why.
    if function.boot_vga {
        return Some("is the display that the host booted with".to_owned());
    }
    let kind = needs_verdict(function.class)?;
    match former {
        Former::Nothing(why) => Some(format!("is {kind}, and {why}")),
        Former::Idle(known) if known.iter().any(|one| one.is(function)) => None,
        Former::Idle(_) => Some(format!(
            "is {kind}, and the former boot has no verdict on this very function"
        )),
    }
}

/// What a function is that a host may hang on, by its class (PCI Code and ID
/// Assignment), with its article; `None` for those that only serve whoever opens them. Disks are
/// behind more than storage controllers: behind Fibre Channel and `FireWire`
/// (both in 0c) and behind I2O (0e), and old devices have class 00.
#[must_use]
pub fn needs_verdict(class: ClassCode) -> Option<&'static str> {
    match (class.base(), class.subclass()) {
        // Displays, of which the plan refuses the boot display; sound and video;
        // encryption; accelerators; coprocessors.
        (0x03 | 0x04 | 0x10 | 0x12 | 0x40, _) => None,
        (0x01, _) => Some("a storage controller"),
        (0x02 | 0x0d, _) => Some("a network controller"),
        (_, 0x0c03) => Some("a USB controller"),
        _ => Some("of a class that the host may need"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_turns_it_off() {
        for (line, off) in [
            ("root=/dev/sda1 ro vfio_bindd=off quiet", true),
            ("vfio_bindd=off\n", true),
            ("vfio_bindd=offline", false),
            ("xvfio_bindd=off", false),
            ("vfio_bindd=on vfio_bindd", false),
            ("", false),
        ] {
            assert_eq!(is_off(line), off, "{line}");
        }
    }

    #[test]
    fn what_a_host_may_hang_on_needs_a_verdict() {
        for (class, needs) in [
            (0x01_0802, true),
            (0x02_0000, true),
            (0x0d_8000, true),
            (0x0c_0330, true),
            (0x0c_0400, true),
            (0x0e_0000, true),
            (0x07_0002, true),
            (0x00_0000, true),
            (0xff_0000, true),
            (0x03_0000, false),
            (0x03_0200, false),
            (0x04_0300, false),
            (0x10_8000, false),
            (0x12_0000, false),
        ] {
            let found = needs_verdict(ClassCode::new(class)).is_some();
            assert_eq!(found, needs, "{class:06x}");
        }
    }
}
