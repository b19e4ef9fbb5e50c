//! Steps: the single writes to sysfs that applying and giving back are made of.
//!
//! Owns the order of a write and the look whether it worked. Decides nothing.
//! Runs in helpers only: an unbind can block for ever and cannot be cancelled.

use std::{io, path::Path, thread, time::Duration};

use super::{
    autoprobe,
    host::Host,
    inspect::{self, driver_in_uevent},
    knobs,
    modules::Modules,
    order::Step,
    sysfs::{Sysfs, function_dir, link_name, text},
    usage::{Look, words},
};
use crate::pci::{address::Address, id::PciId, settings::Settings};

/// How often a bind is tried while the kernel says EAGAIN: the function is
/// still being added.
const TRIES: u32 = 5;

/// How often it is looked whether modules are still being loaded: five seconds.
const UDEV_LOOKS: u32 = 50;
const BREAK: Duration = Duration::from_millis(100);

/// udev keeps it while it has events to work on, and loads modules for those
/// (systemd 252, src/udev/udevd.c, `event_queue_start`).
const UDEV_IS_BUSY: &str = "/run/udev/queue";

/// The step that failed, and why.
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(step: Step, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { step, text }
    }
}

/// The vendor and device ID at `address`; `None` if nothing is there.
pub(super) fn identity(sysfs: &dyn Sysfs, address: Address) -> Option<PciId> {
    pair(sysfs, address, "vendor", "device")
}

/// An ID in two attributes.
pub(super) fn pair(
    sysfs: &dyn Sysfs,
    address: Address,
    vendor: &str,
    device: &str,
) -> Option<PciId> {
    let half = |name: &str| {
        let text = text(sysfs, &format!("{}/{name}", function_dir(address)))?;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    Some(PciId {
        vendor: half(vendor)?,
        device: half(device)?,
    })
}

/// The driver that the `driver` link names.
pub(super) fn driver(sysfs: &dyn Sysfs, address: Address) -> Option<String> {
    link_name(sysfs, &format!("{}/driver", function_dir(address)))
}

/// Has `module` loaded unless `driver` is registered already.
pub(super) fn load(
    sysfs: &dyn Sysfs,
    modules: &impl Modules,
    driver: &str,
    module: &str,
) -> Result<(), Failure> {
    let place = format!("bus/pci/drivers/{driver}");
    if sysfs.list(&place).is_ok() {
        return Ok(());
    }
    let fail = |text| Failure::new(Step::LoadModule, text);
    modules.load(module).map_err(fail)?;
    if sysfs.list(&place).is_err() {
        let loaded = sysfs.list(&format!("module/{module}")).is_ok();
        return Err(fail(if loaded {
            format!("the module {module} is loaded and there is no driver {driver}")
        } else {
            format!("the module {module} was not loaded")
        }));
    }
    Ok(())
}

/// Sets the driver override, or clears it with `None`. Never rewritten when it
/// is equal, and a value that is there is neither changed nor cleared while
/// modules load: on kernels before 6.12.94 (Debian) the old string is freed
/// while a module's registration may read it.
pub(super) fn set_override(
    sysfs: &dyn Sysfs,
    host: &dyn Host,
    address: Address,
    wanted: Option<&str>,
) -> Result<(), Failure> {
    let now = inspect::driver_override(sysfs, address);
    if now.as_deref() == wanted {
        return Ok(());
    }
    let fail = |text| Failure::new(Step::SetOverride, text);
    if now.is_some() && !modules_rest(host) {
        return Err(fail(
            "udev has been loading drivers for five seconds, and the override must not change \
             meanwhile"
                .to_owned(),
        ));
    }
    // A line end clears it; an empty write never arrives
    // (fs/kernfs/file.c and fs/sysfs/file.c, v6.12).
    let value = wanted.unwrap_or("\n");
    let place = format!("{}/driver_override", function_dir(address));
    sysfs
        .write(&place, value)
        .map_err(|error| fail(words(&error)))
}

/// Waits until udev has nothing to do; whether it came to that.
fn modules_rest(host: &dyn Host) -> bool {
    for look in 0..UDEV_LOOKS {
        if look > 0 {
            thread::sleep(BREAK);
        }
        let queue = host.read(UDEV_IS_BUSY);
        if matches!(queue, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return true;
        }
    }
    false
}

/// Unbinds `from`, which has the function.
pub(super) fn unbind(sysfs: &dyn Sysfs, address: Address, from: &str) -> Result<(), Failure> {
    let place = format!("bus/pci/drivers/{from}/unbind");
    let result = sysfs.write(&place, &address.to_string());
    // The link goes before the remove is over; the uevent tells.
    match driver_in_uevent(sysfs, address) {
        Some(still) if still == from => {
            let why = result.map_or_else(|error| words(&error), |()| "it stayed".to_owned());
            Err(Failure::new(Step::Unbind, format!("{still}: {why}")))
        }
        _ => Ok(()),
    }
}

/// Lets a native driver have the function, should it be a VF of a PF that native
/// drivers are kept from.
pub(super) fn let_native(
    look: Look<'_>,
    address: Address,
    undo: Option<&Path>,
) -> Result<(), Failure> {
    let done = undo.map_or(Ok(()), |undo| autoprobe::give_back_for(look, address, undo));
    done.map_err(|error| {
        let text = format!("sriov_drivers_autoprobe of its PF is 0: {error}");
        Failure::new(Step::Bind, text)
    })
}

/// Binds `wanted`, and looks whether it has the function then: also if loading
/// the driver, or somebody else, was first.
pub(super) fn bind(sysfs: &dyn Sysfs, address: Address, wanted: &str) -> Result<(), Failure> {
    let failed = try_bind(sysfs, address, wanted).err();
    let now = driver(sysfs, address);
    if now.as_deref() == Some(wanted) && driver_in_uevent(sysfs, address) == now {
        return Ok(());
    }
    Err(failed.map_or_else(
        || {
            let now = now.as_deref().unwrap_or("no driver");
            Failure::new(Step::Verify, format!("{now} has it"))
        },
        |error| {
            let meaning = meaning(&error, wanted);
            Failure::new(Step::Bind, format!("{wanted}: {}{meaning}", words(&error)))
        },
    ))
}

fn try_bind(sysfs: &dyn Sysfs, address: Address, wanted: &str) -> io::Result<()> {
    let place = format!("bus/pci/drivers/{wanted}/bind");
    let mut tries = 1;
    loop {
        match sysfs.write(&place, &address.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                thread::sleep(BREAK);
            }
            result => return result,
        }
    }
}

/// Makes the function what it was: `wanted` is the driver that had it,
/// `driver_override` its override, and `settings` those that were changed.
/// Whatever has it now is unbound if it is `ours`.
pub(super) fn give_back(
    sysfs: &dyn Sysfs,
    host: &dyn Host,
    address: Address,
    ours: &str,
    (wanted, driver_override): (Option<&str>, Option<&str>),
    settings: &Settings,
) -> Result<(), Failure> {
    let now = driver(sysfs, address);
    let to_bind = now.as_deref() != wanted;
    if to_bind {
        // An override for another driver came after the driver that it had,
        // which cannot be bound under it.
        let lets_it = |name: &&str| wanted.is_none_or(|wanted| wanted == *name);
        set_override(sysfs, host, address, driver_override.filter(lets_it))?;
        if now.as_deref() == Some(ours) {
            unbind(sysfs, address, ours)?;
        }
    }
    // Only now, and before a driver has it again. A host that cannot have its old
    // size back has its function all the same, and hears of it.
    let sized = match driver(sysfs, address) {
        None => knobs::resize(sysfs, address, &settings.bars).map(drop),
        Some(_) => knobs::missized(sysfs, address, &settings.bars)
            .map_or(Ok(()), |text| Err(Failure::new(Step::Tune, text))),
    };
    if to_bind {
        match (wanted, driver(sysfs, address)) {
            (Some(wanted), _) => bind(sysfs, address, wanted)?,
            (None, None) => {}
            (None, Some(other)) => {
                return Err(Failure::new(Step::Verify, format!("{other} has it")));
            }
        }
    }
    set_override(sysfs, host, address, driver_override)?;
    // Last, since a driver that comes or goes may let it sleep or not
    // (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_core_unregister_device`, v6.12).
    knobs::set(sysfs, address, settings)?;
    sized?;
    let now = inspect::driver_override(sysfs, address);
    if now.as_deref() == driver_override {
        return Ok(());
    }
    let now = now.map_or_else(|| "gone".to_owned(), |now| format!("'{now}'"));
    let text = format!("the driver override is {now} all the same");
    Err(Failure::new(Step::Verify, text))
}

/// What an error of bind means: of any driver (drivers/base/bus.c,
/// `bind_store`) or of vfio-pci (drivers/vfio/pci/vfio_pci_core.c,
/// `vfio_pci_core_register_device`, and drivers/vfio/pci/vfio_pci.c, v6.12).
fn meaning(error: &io::Error, wanted: &str) -> &'static str {
    let vfio = crate::pci::function::is_vfio_driver(wanted);
    let error = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    match error {
        Some(rustix::io::Errno::INVAL) if vfio => {
            ": no IOMMU group, no plain function, or on the driver's denylist"
        }
        Some(rustix::io::Errno::BUSY) if vfio => ": another driver has it, or it is a PF with VFs",
        Some(rustix::io::Errno::BUSY) => {
            ": another driver has it, or a VM uses a member of its IOMMU group"
        }
        Some(rustix::io::Errno::NODEV) => ": it went, or the driver does not match it",
        _ => "",
    }
}
