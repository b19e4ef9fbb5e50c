//! Nodes: whose the nodes of a bound function are, and having udev set it.
//!
//! The kernel makes a node for root alone (drivers/base/devtmpfs.c, v6.12), and
//! then tells udev, which may have rules for it, of whoever. So that not two
//! write to it in turn only udev does, by the package's own rules and what the
//! daemon left for them in [`FOLDER`] before the function was bound; here it is
//! looked whether that is so, and udev is told to go through its rules once more
//! where it is not. A node of something else is never meant: the kernel says
//! which device a function's node is, and the node must be that.
//! Runs in helpers only: udev may be busy.

use std::{thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    accounts,
    host::{Host, Node},
    steps,
    sysfs::{Sysfs, function_dir, link_name, text},
    usage::{Look, words},
};
use crate::{
    pci::{address::Address, function::is_vfio_driver},
    policy::ownership::Ownership,
};

/// Where udev's rules find whose a node is to be: a file for each IOMMU group and
/// each function, by its number or address.
pub const FOLDER: &str = "/run/vfio-bindd/nodes";

/// How often it is looked whether udev is done: five seconds. It has more to do
/// while a host boots, and is asked again then.
const LOOKS: u32 = 100;
const BREAK: Duration = Duration::from_millis(50);

/// How a look at a function's nodes ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owned {
    /// They are as they are to be; these were not before.
    Set(Vec<String>),
    /// No vfio driver has it, so that there are none.
    Unbound,
    /// They are not, a clause that follows the address.
    Failed {
        /// The clause.
        text: String,
    },
}

/// What is wanted of a node, in numbers.
struct Wanted {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

impl Wanted {
    fn new(host: &dyn Host, ownership: &Ownership) -> Result<Self, String> {
        let owner = ownership.owner.as_ref();
        let group = ownership.group.as_ref();
        Ok(Self {
            uid: owner.map(|one| accounts::user(host, one)).transpose()?,
            gid: group.map(|one| accounts::group(host, one)).transpose()?,
            mode: ownership.effective_mode().map(|mode| mode.bits()),
        })
    }

    fn holds(&self, node: Node) -> bool {
        self.uid.is_none_or(|uid| uid == node.uid)
            && self.gid.is_none_or(|gid| gid == node.gid)
            && self.mode.is_none_or(|mode| mode == node.mode)
    }
}

/// A device of vfio that has a node.
struct Device {
    /// Its directory, for [`Sysfs`].
    dir: String,
    /// Its node.
    path: String,
}

impl Device {
    /// Its node as it is now. Whatever has the name without being it counts as
    /// none.
    fn node(&self, look: Look<'_>) -> Result<Node, String> {
        let path = &self.path;
        let number = text(look.sysfs, &format!("{}/dev", self.dir)).unwrap_or_default();
        let node = look.host.node(path);
        let node = node.map_err(|error| format!("{path}: {}", words(&error)))?;
        match node.character {
            Some((major, minor)) if format!("{major}:{minor}") == number => Ok(node),
            _ => Err(format!("{path} is not the device {number} of the kernel")),
        }
    }

    /// udev is to go through its rules for it. Takes no device lock
    /// (drivers/base/core.c, `uevent_store`, v6.12).
    fn trigger(&self, sysfs: &dyn Sysfs) -> Result<(), String> {
        let place = format!("{}/uevent", self.dir);
        let done = sysfs.write(&place, "change");
        done.map_err(|error| format!("udev cannot be told of {}: {}", self.path, words(&error)))
    }
}

/// Has the nodes of the function at `address` be as `ownership` says.
#[must_use]
pub fn own(look: Look<'_>, address: Address, ownership: &Ownership) -> Owned {
    let driver = steps::driver(look.sysfs, address);
    if !driver.is_some_and(|driver| is_vfio_driver(&driver)) {
        return Owned::Unbound;
    }
    match settle(look, address, ownership) {
        Ok(set) => Owned::Set(set),
        // It may have gone meanwhile, and its node with it.
        Err(_) if steps::driver(look.sysfs, address).is_none() => Owned::Unbound,
        Err(text) => Owned::Failed { text },
    }
}

fn settle(look: Look<'_>, address: Address, ownership: &Ownership) -> Result<Vec<String>, String> {
    let wanted = Wanted::new(look.host, ownership)?;
    let devices = devices(look.sysfs, address);
    if devices.is_empty() {
        return Err("the kernel has made no node in /dev/vfio for it".to_owned());
    }
    let mut open = Vec::new();
    for device in devices {
        if !wanted.holds(device.node(look)?) {
            device.trigger(look.sysfs)?;
            open.push(device);
        }
    }
    let paths = open.iter().map(|device| device.path.clone()).collect();
    for attempt in 1..=LOOKS {
        let mut left = Vec::new();
        let mut last = None;
        for device in open {
            let node = device.node(look)?;
            if !wanted.holds(node) {
                last = Some(format!(
                    "{} is {}:{} {:04o}: udev has not set it",
                    device.path, node.uid, node.gid, node.mode
                ));
                left.push(device);
            }
        }
        match last {
            None => return Ok(paths),
            Some(text) if attempt == LOOKS => return Err(text),
            Some(_) => thread::sleep(BREAK),
        }
        open = left;
    }
    Ok(paths)
}

/// The vfio devices of a function that have nodes: its IOMMU group's, and its own
/// where the kernel makes one (`VFIO_DEVICE_CDEV`, v6.6; drivers/vfio/group.c,
/// `vfio_group_devnode`; drivers/vfio/device_cdev.c, `vfio_devnode`).
fn devices(sysfs: &dyn Sysfs, address: Address) -> Vec<Device> {
    let dir = function_dir(address);
    let group = link_name(sysfs, &format!("{dir}/iommu_group"));
    let group = group.map(|group| Device {
        dir: format!("class/vfio/{group}"),
        path: format!("/dev/vfio/{group}"),
    });
    let own = sysfs.list(&format!("{dir}/vfio-dev")).unwrap_or_default();
    let own = own.into_iter().map(|name| Device {
        path: format!("/dev/vfio/devices/{name}"),
        dir: format!("{dir}/vfio-dev/{name}"),
    });
    // Without a number there is no node (6.1 has the directories all the same).
    let has_node = |device: &Device| text(sysfs, &format!("{}/dev", device.dir)).is_some();
    group.into_iter().chain(own).filter(has_node).collect()
}
