//! Apply: binds one function to its driver, step by step, and looks whether it
//! worked. The only file that writes to sysfs. Runs in the helper only: an
//! unbind can block for ever and cannot be cancelled.
//!
//! Never `new_id`, which takes every twin as well; never an override that
//! somebody else set. Success is what is read back: `drivers_probe` and
//! `unbind` report success without it (Linux 6.1 drivers/base/bus.c).

use std::{io, process::Command, thread, time::Duration};

use super::{
    inspect::{driver_in_uevent, driver_override},
    order::{Order, Outcome, Step},
    sysfs::{Sysfs, function_dir, link_name, text},
    usage::{Look, usage, words},
};
use crate::{
    pci::{address::Address, id::PciId},
    policy::guard,
};

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
        Err(format!("modprobe {name}: {}", text.trim()))
    }
}

/// How often a bind is tried while the kernel says EAGAIN: the function is
/// still being added.
const TRIES: u32 = 5;
const BREAK: Duration = Duration::from_millis(100);

struct Failure {
    step: Step,
    text: String,
}

/// Carries out `order`.
pub fn apply(look: Look<'_>, modules: &impl Modules, order: &Order) -> Outcome {
    let sysfs = look.sysfs;
    let address = order.address;
    let dir = function_dir(address);
    let Some(found) = identity(sysfs, &dir) else {
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
    match steps(sysfs, modules, order, before.as_deref()) {
        Ok(()) => Outcome::Bound { from: before },
        Err(_) if identity(sysfs, &dir).is_none() => Outcome::Gone,
        Err(Failure { step, text }) => Outcome::Failed { step, text },
    }
}

fn identity(sysfs: &(impl Sysfs + ?Sized), dir: &str) -> Option<PciId> {
    let half = |name: &str| {
        let text = text(sysfs, &format!("{dir}/{name}"))?;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    Some(PciId {
        vendor: half("vendor")?,
        device: half("device")?,
    })
}

fn driver(sysfs: &(impl Sysfs + ?Sized), address: Address) -> Option<String> {
    link_name(sysfs, &format!("{}/driver", function_dir(address)))
}

/// What speaks against it now, whatever was true when it was planned.
fn objection(look: Look<'_>, order: &Order, before: Option<&str>) -> Option<String> {
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

fn steps(
    sysfs: &(impl Sysfs + ?Sized),
    modules: &impl Modules,
    order: &Order,
    before: Option<&str>,
) -> Result<(), Failure> {
    let address = order.address;
    let dir = function_dir(address);
    let wanted = order.driver.as_str();
    let fail = |step, text: String| Failure { step, text };
    // Before the unbind: a host without the driver keeps what it has.
    let place = format!("bus/pci/drivers/{wanted}");
    if sysfs.list(&place).is_err() {
        modules
            .load(&wanted.replace('-', "_"))
            .map_err(|text| fail(Step::LoadModule, text))?;
        if sysfs.list(&place).is_err() {
            let text = format!("the module is loaded and there is no driver {wanted}");
            return Err(fail(Step::LoadModule, text));
        }
    }
    // Never rewritten when it is equal: on kernels before 6.12.94 (Debian) the
    // old string is freed while another module's registration may read it.
    let ours = driver_override(sysfs, address).is_none();
    if ours {
        sysfs
            .write(&format!("{dir}/driver_override"), wanted)
            .map_err(|error| fail(Step::SetOverride, words(&error)))?;
    }
    if let Some(native) = before {
        let unbind = format!("bus/pci/drivers/{native}/unbind");
        let result = sysfs.write(&unbind, &address.to_string());
        // The link goes before the remove is over; the uevent tells.
        if let Some(still) = driver_in_uevent(sysfs, address).filter(|still| still == native) {
            let why = result.map_or_else(|error| words(&error), |()| "it stayed".to_owned());
            return Err(fail(Step::Unbind, format!("{still}: {why}")));
        }
    }
    let failed = bind(sysfs, address, wanted).err();
    // Loading the driver, or somebody else, may have bound it first.
    let now = driver(sysfs, address);
    if now.as_deref() == Some(wanted) && driver_in_uevent(sysfs, address) == now {
        return Ok(());
    }
    let mut failure = failed.unwrap_or_else(|| {
        let now = now.as_deref().unwrap_or("no driver");
        fail(Step::Verify, format!("{now} has it"))
    });
    if let Some(native) = before
        && now.is_none()
    {
        give_back(sysfs, order, native, ours, &mut failure.text);
    }
    Err(failure)
}

fn bind(sysfs: &(impl Sysfs + ?Sized), address: Address, wanted: &str) -> Result<(), Failure> {
    let place = format!("bus/pci/drivers/{wanted}/bind");
    let mut tries = 1;
    loop {
        let error = match sysfs.write(&place, &address.to_string()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let again = error.kind() == io::ErrorKind::WouldBlock;
        if !again || tries == TRIES {
            let meaning = meaning(&error);
            return Err(Failure {
                step: Step::Bind,
                text: format!("{}{meaning}", words(&error)),
            });
        }
        tries += 1;
        thread::sleep(BREAK);
    }
}

/// What vfio-pci means by an error of bind (drivers/vfio/pci/vfio_pci_core.c,
/// `vfio_pci_core_register_device`, and drivers/vfio/pci/vfio_pci.c, v6.12).
fn meaning(error: &io::Error) -> &'static str {
    match error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error)
    {
        Some(rustix::io::Errno::INVAL) => {
            ": no IOMMU group, no plain function, or on the driver's denylist"
        }
        Some(rustix::io::Errno::BUSY) => ": another driver has it, or it is a PF with VFs",
        Some(rustix::io::Errno::NODEV) => ": it went, or the driver does not match it",
        _ => "",
    }
}

/// After an unbind that led nowhere: the host gets its function back.
fn give_back(
    sysfs: &(impl Sysfs + ?Sized),
    order: &Order,
    native: &str,
    ours: bool,
    text: &mut String,
) {
    let address = order.address;
    let dir = function_dir(address);
    let cleared = if ours {
        // A line end clears it; an empty write never arrives
        // (fs/kernfs/file.c and fs/sysfs/file.c, v6.12).
        sysfs.write(&format!("{dir}/driver_override"), "\n")
    } else {
        Ok(())
    };
    let bound = cleared.and_then(|()| {
        sysfs.write(
            &format!("bus/pci/drivers/{native}/bind"),
            &address.to_string(),
        )
    });
    *text += &match bound {
        Ok(()) => format!("; {native} has it back"),
        Err(error) => format!("; {native} did not take it back: {}", words(&error)),
    };
}
