//! Usage: whether the host uses a function through its native driver.
//!
//! A first version that says "in use" whenever it cannot prove idleness: disks
//! must open exclusively, interfaces must be down and alone, and nothing else
//! may hang below the function. Runs in the helper only: opening a dead disk
//! can block.

use std::{collections::BTreeMap, io};

use super::sysfs::{Sysfs, function_dir, link_name, text};
use crate::{
    pci::{
        address::Address,
        function::{Evidence, Usage, is_vfio_driver},
    },
    policy::guard::Guard,
};

/// How a disk is found idle.
pub trait Disks {
    /// Opens the disk for reading only and for nobody else, and closes it: the
    /// kernel refuses that while a mount, swap, md, dm, bcache, btrfs or ZFS
    /// holds it or a part of it (block/bdev.c, `bd_may_claim`, v6.1).
    ///
    /// # Errors
    /// As `open(2)` says.
    fn open_exclusively(&self, name: &str) -> io::Result<()>;
}

/// The host's disks.
#[derive(Clone, Copy, Debug)]
pub struct HostDisks;

impl Disks for HostDisks {
    fn open_exclusively(&self, name: &str) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags, open};
        // Names with a slash in /dev have a '!' in sysfs.
        let path = format!("/dev/{}", name.replace('!', "/"));
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        open(path, flags, Mode::empty())?;
        Ok(())
    }
}

/// Device classes whose mere presence below a function means that it is used.
const TELLING: &[(&str, Guard, &str)] = &[
    ("drm", Guard::Display, "a display driver's node"),
    ("graphics", Guard::Console, "a framebuffer"),
    ("sound", Guard::Sound, "a sound card"),
    ("input", Guard::Usb, "an input device"),
    ("tty", Guard::Serial, "a terminal"),
    ("tpm", Guard::Tpm, "a TPM"),
    ("rtc", Guard::Rtc, "a clock"),
    ("watchdog", Guard::Watchdog, "a watchdog"),
    ("infiniband", Guard::Network, "an InfiniBand device"),
];

/// How often it is looked again if something changed meanwhile.
const LOOKS: u32 = 5;

/// What the host does with the function at `address`. Without a native driver
/// it cannot use it.
pub fn usage(sysfs: &(impl Sysfs + ?Sized), disks: &impl Disks, address: Address) -> Usage {
    let dir = function_dir(address);
    let native = link_name(sysfs, &format!("{dir}/driver")).filter(|name| !is_vfio_driver(name));
    let Some(driver) = native.filter(|name| name != "pci-stub") else {
        return Usage::Idle;
    };
    let unsure = |text: String| {
        let guard = String::new();
        Usage::InUse(vec![Evidence { guard, text }])
    };
    for _ in 0..LOOKS {
        let found = below(sysfs, &dir).and_then(|before| {
            let evidence = evidence(sysfs, disks, &dir, &driver, &before);
            Ok((evidence, before == below(sysfs, &dir)?))
        });
        match found {
            Ok((evidence, true)) if evidence.is_empty() => return Usage::Idle,
            Ok((evidence, true)) => return Usage::InUse(evidence),
            // udev gives a new interface its name just now.
            Ok((_, false)) => {}
            Err(error) => {
                let error = words(&error);
                return unsure(format!("what hangs below it cannot be listed: {error}"));
            }
        }
    }
    unsure("what hangs below it changes all the time".to_owned())
}

/// What speaks for a use of the function that `driver` holds, by what hangs
/// below it.
fn evidence(
    sysfs: &(impl Sysfs + ?Sized),
    disks: &impl Disks,
    dir: &str,
    driver: &str,
    below: &Below,
) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let mut add = |guard: Option<Guard>, text: String| {
        evidence.push(Evidence {
            guard: guard
                .map(|guard| guard.name().to_owned())
                .unwrap_or_default(),
            text,
        });
    };
    let of_class = |class: &str| below.get(class).map_or(&[][..], Vec::as_slice);
    for (class, guard, what) in TELLING {
        for name in of_class(class) {
            add(Some(*guard), format!("{name} is {what} of it"));
        }
    }
    let base = text(sysfs, &format!("{dir}/class")).unwrap_or_default();
    match base.get(..4) {
        Some("0x01") => {}
        Some("0x02") => {
            if of_class("net").is_empty() {
                let text = format!(
                    "{driver} holds it and no network interface is seen; it may be in another \
                     network namespace"
                );
                add(Some(Guard::Network), text);
            }
        }
        _ => add(
            None,
            format!("{driver} holds it, and nobody can tell whether the host needs it"),
        ),
    }
    for (guard, text) in disks_in_use(sysfs, disks, of_class("block")) {
        add(Some(guard), text);
    }
    for (guard, text) in interfaces_in_use(sysfs, of_class("net")) {
        add(Some(guard), text);
    }
    evidence
}

/// Names of devices by their class or bus.
type Below = BTreeMap<String, Vec<String>>;

/// The devices that hang below the function, by the class or bus that each
/// belongs to. A device's place in sysfs is below its parent's, and its
/// `subsystem` link says what it is (Documentation/admin-guide/sysfs-rules.rst).
fn below(sysfs: &(impl Sysfs + ?Sized), dir: &str) -> io::Result<Below> {
    let mut found = Below::new();
    let mut places = vec![dir.to_owned()];
    while let Some(place) = places.pop() {
        let names = match sysfs.directories(&place) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && place != dir => continue,
            names => names?,
        };
        for name in names {
            let child = format!("{place}/{name}");
            match sysfs.read_link(&format!("{child}/subsystem")) {
                Ok(link) => {
                    let class = link.rsplit('/').next().unwrap_or_default();
                    found.entry(class.to_owned()).or_default().push(name);
                }
                // A mere group of attributes or devices, as `net` and `power`.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            places.push(child);
        }
    }
    for names in found.values_mut() {
        names.sort();
    }
    Ok(found)
}

const ENOMEDIUM: i32 = rustix::io::Errno::NOMEDIUM.raw_os_error();

fn disks_in_use(
    sysfs: &(impl Sysfs + ?Sized),
    disks: &impl Disks,
    names: &[String],
) -> Vec<(Guard, String)> {
    let attribute = |name: &str, what: &str| text(sysfs, &format!("class/block/{name}/{what}"));
    names
        .iter()
        .filter(|name| attribute(name, "partition").is_none())
        .filter_map(|name| {
            // A path of an NVMe multipath namespace: the disk that is mounted
            // hangs below /sys/devices/virtual, where no function owns it.
            if attribute(name, "hidden").as_deref() == Some("1") {
                return Some(format!("{name} is a path of a multipath disk"));
            }
            match disks.open_exclusively(name) {
                Ok(()) => None,
                // An empty drive.
                Err(error) if error.raw_os_error() == Some(ENOMEDIUM) => None,
                Err(error) => Some(format!(
                    "{name} cannot be opened exclusively: {}",
                    words(&error)
                )),
            }
        })
        .map(|text| (Guard::Storage, text))
        .collect()
}

fn interfaces_in_use(sysfs: &(impl Sysfs + ?Sized), names: &[String]) -> Vec<(Guard, String)> {
    let mut found = Vec::new();
    for name in names {
        let place = format!("class/net/{name}");
        let flags = text(sysfs, &format!("{place}/flags"))
            .and_then(|flags| u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok());
        match flags {
            // IFF_UP, include/uapi/linux/if.h.
            Some(flags) if flags & 1 == 0 => {}
            Some(_) => found.push(format!("{name} is up")),
            None => found.push(format!("{name} does not say whether it is up")),
        }
        if let Some(master) = link_name(sysfs, &format!("{place}/master")) {
            found.push(format!("{name} is a port of {master}"));
        }
        let entries = sysfs.list(&place).unwrap_or_default();
        for upper in entries
            .iter()
            .filter_map(|entry| entry.strip_prefix("upper_"))
        {
            found.push(format!("{name} carries {upper}"));
        }
    }
    found
        .into_iter()
        .map(|text| (Guard::Network, text))
        .collect()
}

/// An error in words without its number.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
