//! Knobs: reads and sets the settings of one function, and looks whether each is
//! so then.
//!
//! Never writes a value that is there already. Runs in helpers only: a write of
//! `power/control` takes the device lock (drivers/base/power/sysfs.c,
//! `control_store`, v6.1 and v6.12), as one of `resourceN_resize` does
//! (drivers/pci/pci-sysfs.c), and one of `d3cold_allowed` waits until the device
//! is awake (`d3cold_allowed_store`, `pm_runtime_resume`).
//!
//! All but the size of a BAR can be set while a virtual machine uses the function:
//! `reset_method` counts for the next reset and takes no lock (drivers/pci/pci.c,
//! `reset_method_store`, v6.1 and v6.12; later ones wake the device first), and
//! what vfio has open is awake whatever the other two say
//! (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_core_enable`).

use std::{collections::BTreeMap, io};

use super::{
    order::Step,
    steps::Failure,
    sysfs::{Sysfs, function_dir, text},
    usage,
};
use crate::{
    pci::{
        address::Address,
        settings::{BarSize, Power, Settings},
    },
    policy::knobs::{BARS, Knobs},
};

/// Has the kernel find out anew what it can do (drivers/pci/pci.c,
/// `pci_init_reset_methods`).
const ALL_METHODS: &str = "default";

/// What the settings are; sizes only of BARs that can have another one, and not of
/// a device that would have to be woken up for it (drivers/pci/pci-sysfs.c,
/// `__resource_resize_show`, v6.12). Takes no device lock.
pub(super) fn found(sysfs: &dyn Sysfs, address: Address) -> Settings {
    let asleep = attribute(sysfs, address, "power_state").as_deref() == Some("D3cold");
    let bars = (0..BARS).filter(|bar| !asleep && offered_sizes(sysfs, address, *bar).is_some());
    Settings {
        reset_method: attribute(sysfs, address, "reset_method"),
        d3cold: d3cold(sysfs, address),
        power: power(sysfs, address),
        bars: bars
            .filter_map(|bar| Some((bar, size(sysfs, address, bar)?)))
            .collect(),
    }
}

/// What those settings are that are wanted otherwise, or just so.
pub(super) fn former(sysfs: &dyn Sysfs, address: Address, wanted: &Knobs) -> Settings {
    if wanted.is_empty() {
        return Settings::default();
    }
    found(sysfs, address).those_of(&wanted.settings())
}

fn attribute(sysfs: &dyn Sysfs, address: Address, name: &str) -> Option<String> {
    text(sysfs, &format!("{}/{name}", function_dir(address)))
}

fn d3cold(sysfs: &dyn Sysfs, address: Address) -> Option<bool> {
    match attribute(sysfs, address, "d3cold_allowed")?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Whether it may sleep. Takes no device lock (drivers/base/power/sysfs.c,
/// `control_show`, v6.1 and v6.12).
pub(super) fn power(sysfs: &dyn Sysfs, address: Address) -> Option<Power> {
    Power::of(&attribute(sysfs, address, "power/control")?)
}

/// The size of a BAR, which has a line in `resource`: its first and last address
/// and its flags (drivers/pci/pci-sysfs.c, `resource_show`, v6.12).
fn size(sysfs: &dyn Sysfs, address: Address, bar: u8) -> Option<BarSize> {
    let lines = attribute(sysfs, address, "resource")?;
    let mut parts = lines.lines().nth(usize::from(bar))?.split(' ');
    let mut next = || u64::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok();
    let (first, last) = (next()?, next()?);
    BarSize::of_bytes(last.checked_sub(first)?.checked_add(1)?)
}

/// The sizes that a BAR can have, `None` if it has the one that it has.
fn offered_sizes(sysfs: &dyn Sysfs, address: Address, bar: u8) -> Option<Vec<BarSize>> {
    let bits = attribute(sysfs, address, &format!("resource{bar}_resize"))?;
    let bits = u64::from_str_radix(&bits, 16).ok()?;
    Some(BarSize::of_bitmap(bits))
}

/// Whether the device offers what is wanted, before anything is set; what is
/// `known` of its settings before, it has.
///
/// # Errors
/// At [`Step::Offer`] with what it offers, a clause that follows the address.
pub(super) fn check(
    sysfs: &dyn Sysfs,
    address: Address,
    wanted: &Knobs,
    known: &Settings,
) -> Result<(), Failure> {
    let no = |text: String| Err(Failure::new(Step::Offer, text));
    if wanted.d3cold.is_some() && d3cold(sysfs, address).is_none() {
        return no("offers no d3cold: its kernel has no d3cold_allowed for it".to_owned());
    }
    if wanted.power.is_some() && power(sysfs, address).is_none() {
        return no("offers no power: its kernel has no power/control for it".to_owned());
    }
    for (bar, size) in &wanted.resize_bar {
        let Some(offered) = offered_sizes(sysfs, address, *bar) else {
            let others = (0..BARS).filter(|bar| offered_sizes(sysfs, address, *bar).is_some());
            let others: Vec<_> = others.map(|bar| bar.to_string()).collect();
            return no(match others.as_slice() {
                [] => "has no BAR that can be resized".to_owned(),
                _ => format!(
                    "cannot have BAR {bar} resized, but BAR {}",
                    others.join(", ")
                ),
            });
        };
        if !offered.contains(size) {
            let offered: Vec<_> = offered.iter().map(BarSize::to_string).collect();
            let offered = offered.join(" ");
            return no(format!(
                "does not offer BAR {bar} of {size}, but: {offered}"
            ));
        }
    }
    let known = known.reset_method.as_deref();
    reset_methods(sysfs, address, wanted, known.unwrap_or_default())
}

/// Whether the device offers the wanted reset methods. The attribute shows those
/// that are set; what else there is only the kernel finds out, who is asked where
/// it matters and then told what was set before. A word that the device does not
/// offer is not written: the kernel would log an error each time.
fn reset_methods(
    sysfs: &dyn Sysfs,
    address: Address,
    wanted: &Knobs,
    known: &str,
) -> Result<(), Failure> {
    let Some(words) = wanted.reset_words() else {
        return Ok(());
    };
    let lacking = |offered: &str| {
        let has = |word: &&str| offered.split_whitespace().any(|one| one == *word);
        words.split(' ').find(|word| !has(word)).map(str::to_owned)
    };
    let Some(now) = attribute(sysfs, address, "reset_method") else {
        let text = format!("does not offer reset_method \"{words}\": it cannot be reset");
        return Err(Failure::new(Step::Offer, text));
    };
    if lacking(&format!("{now} {known}")).is_none() {
        return Ok(());
    }
    write(sysfs, address, "reset_method", ALL_METHODS).map_err(|error| {
        let text = format!("reset_method cannot be asked for: {}", usage::words(&error));
        Failure::new(Step::Tune, text)
    })?;
    let all = attribute(sysfs, address, "reset_method").unwrap_or_default();
    let Some(lacking) = lacking(&all) else {
        // What was set before is in the undo journal, and is about to be replaced.
        return Ok(());
    };
    set_reset_method(sysfs, address, &now)?;
    let text = format!("does not offer reset_method \"{lacking}\", but: {all}");
    Err(Failure::new(Step::Offer, text))
}

/// Makes the settings, but for the sizes of BARs, what they are to be. Says which
/// were not so.
///
/// # Errors
/// At [`Step::Tune`] with the first that is not so then.
pub(super) fn set(
    sysfs: &dyn Sysfs,
    address: Address,
    wanted: &Settings,
) -> Result<Settings, Failure> {
    let mut changed = Settings::default();
    if let Some(words) = &wanted.reset_method
        && set_reset_method(sysfs, address, words)?
    {
        changed.reset_method = Some(words.clone());
    }
    // Before the power: once it may sleep it may lose all of it.
    if wanted.d3cold.is_some() && wanted.d3cold != d3cold(sysfs, address) {
        let value = if wanted.d3cold == Some(true) {
            "1"
        } else {
            "0"
        };
        let written = write(sysfs, address, "d3cold_allowed", value);
        let now = d3cold(sysfs, address);
        verify("d3cold", wanted.d3cold, now, written)?;
        changed.d3cold = now;
    }
    if let Some(value) = wanted
        .power
        .filter(|_| wanted.power != power(sysfs, address))
    {
        let written = write(sysfs, address, "power/control", value.as_str());
        let now = power(sysfs, address);
        verify("power", wanted.power, now, written)?;
        changed.power = now;
    }
    Ok(changed)
}

/// Says whether it was otherwise before.
fn set_reset_method(sysfs: &dyn Sysfs, address: Address, words: &str) -> Result<bool, Failure> {
    let now = || {
        let now = attribute(sysfs, address, "reset_method")?;
        Some(now.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    if now().as_deref() == Some(words) {
        return Ok(false);
    }
    // None at all is a line end: an empty write never arrives.
    let value = if words.is_empty() { "\n" } else { words };
    let written = write(sysfs, address, "reset_method", value);
    let shown = |words: &str| format!("\"{words}\"");
    let found = now().map(|words| shown(&words));
    verify("reset_method", Some(shown(words)), found, written)?;
    Ok(true)
}

/// Resizes BARs of a function that no driver has. Says which were of another size.
///
/// # Errors
/// At [`Step::Tune`] with the first that is not of its size then.
pub(super) fn resize(
    sysfs: &dyn Sysfs,
    address: Address,
    wanted: &BTreeMap<u8, BarSize>,
) -> Result<Settings, Failure> {
    let mut changed = Settings::default();
    for (bar, wanted) in wanted {
        if size(sysfs, address, *bar) == Some(*wanted) {
            continue;
        }
        // The kernel takes the BARs of a kind back, and hands them out anew; it
        // keeps the old size where there is no room (`pci_resize_resource`).
        let attribute = format!("resource{bar}_resize");
        let written = write(sysfs, address, &attribute, &wanted.exponent().to_string());
        let now = size(sysfs, address, *bar);
        verify(&format!("BAR {bar}"), Some(*wanted), now, written)?;
        changed.bars.insert(*bar, *wanted);
    }
    Ok(changed)
}

/// The first BAR that is not of its size, as a clause.
pub(super) fn missized(
    sysfs: &dyn Sysfs,
    address: Address,
    wanted: &BTreeMap<u8, BarSize>,
) -> Option<String> {
    wanted.iter().find_map(|(bar, wanted)| {
        let now = size(sysfs, address, *bar);
        let shown = now.map_or_else(|| "unknown".to_owned(), |now| now.to_string());
        (now != Some(*wanted)).then(|| format!("its BAR {bar} is {shown} and not {wanted}"))
    })
}

fn write(sysfs: &dyn Sysfs, address: Address, name: &str, value: &str) -> io::Result<()> {
    sysfs.write(&format!("{}/{name}", function_dir(address)), value)
}

/// What is read back counts, whatever a write said.
fn verify<T: PartialEq + std::fmt::Display>(
    key: &str,
    wanted: Option<T>,
    now: Option<T>,
    written: io::Result<()>,
) -> Result<(), Failure> {
    if wanted == now {
        return Ok(());
    }
    let shown = |value: Option<T>| value.map_or_else(|| "gone".to_owned(), |one| one.to_string());
    let why = match written {
        Ok(()) => String::new(),
        Err(error) => format!(": {}{}", usage::words(&error), meaning(&error, key)),
    };
    let (wanted, now) = (shown(wanted), shown(now));
    let text = format!("{key} is {now} and not {wanted}{why}");
    Err(Failure::new(Step::Tune, text))
}

/// What an error of `resourceN_resize` means (drivers/pci/setup-res.c,
/// `pci_resize_resource`, v6.12).
fn meaning(error: &io::Error, key: &str) -> &'static str {
    let errno = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    match errno {
        Some(rustix::io::Errno::NOSPC) if key.starts_with("BAR") => {
            " (the bridges above it have no room for that)"
        }
        Some(rustix::io::Errno::BUSY) if key.starts_with("BAR") => {
            " (a driver has it, or it has VFs)"
        }
        _ => "",
    }
}
