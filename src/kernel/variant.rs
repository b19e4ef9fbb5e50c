//! Variant drivers: which one the modules have for a function, and what the
//! kernel calls the driver of a module.
//!
//! `policy::variant` chooses. Only a helper loads a module: that can hang.

use std::cell::OnceCell;

use super::{
    modules::{self, Modules},
    sysfs::{Sysfs, function_dir, text},
    usage::{Look, words},
};
use crate::{
    pci::{
        address::Address,
        function::{Variant, is_vfio_driver},
    },
    policy::variant::Aliases,
};

const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// What is read once for many functions.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// The aliases, or why they cannot be told.
    aliases: OnceCell<Result<Aliases, String>>,
}

/// The variant driver that the running kernel's modules have for the function.
pub(super) fn variant(look: Look<'_>, address: Address) -> Option<Variant> {
    let modalias = text(look.sysfs, &format!("{}/modalias", function_dir(address)))?;
    let aliases = &look.tables.variants.aliases;
    match aliases.get_or_init(|| aliases_of(look)) {
        Ok(aliases) => aliases.best(&modalias),
        Err(text) => Some(Variant::Unknown(text.clone())),
    }
}

fn aliases_of(look: Look<'_>) -> Result<Aliases, String> {
    let release = look.host.read(RELEASE);
    let release = release.map_err(|error| format!("{RELEASE}: {}", words(&error)))?;
    let release = String::from_utf8_lossy(&release);
    let release = release.trim();
    let list = modules::list(look.host, release, "modules.alias")?;
    let list = list.ok_or_else(|| format!("there is no modules.alias of Linux {release}"))?;
    Ok(Aliases::parse(&list))
}

/// Has `module` loaded; says what its driver is called, a link `pci:NAME` below
/// the module (drivers/base/module.c, `make_driver_name`, v6.12).
///
/// # Errors
/// With a sentence, if it has no vfio driver.
pub(super) fn load(
    sysfs: &dyn Sysfs,
    modules: &impl Modules,
    module: &str,
) -> Result<String, String> {
    let place = format!("module/{module}");
    if sysfs.list(&place).is_err() {
        modules.load(module)?;
        if sysfs.list(&place).is_err() {
            return Err(format!("the module {module} was not loaded"));
        }
    }
    let names = sysfs.list(&format!("{place}/drivers")).unwrap_or_default();
    let mut drivers = names.iter().filter_map(|name| name.strip_prefix("pci:"));
    let driver = drivers.find(|name| is_vfio_driver(name));
    let driver = driver.ok_or_else(|| format!("the module {module} has no vfio driver for PCI"))?;
    Ok(driver.to_owned())
}
