//! Device nodes of a function that processes have open.
//!
//! An open node keeps a driver's remove waiting, some for ever: an open
//! /dev/snd/controlC0 was seen to hang the unbind of snd_hda_intel.

use std::cell::OnceCell;

use super::{Device, Look, Subject, files::Files, words};
use crate::{
    kernel::{
        dev_watch::DevWatch,
        host::{Open, OpenNode},
        sysfs::{link_name, text},
    },
    pci::{function::is_vfio_driver, usage::Fact},
};

/// What is read once for all functions.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// What all processes have open, or why that cannot be told.
    open: OnceCell<Result<Open, String>>,
    /// Sees what is opened since.
    watch: OnceCell<Option<DevWatch>>,
}

impl Tables {
    /// What processes have open, if nobody opened anything since.
    pub(super) fn for_next_write(self) -> Self {
        let watch = self.watch.get().and_then(Option::as_ref);
        if watch.is_some_and(DevWatch::saw_nothing) {
            return self;
        }
        Self::default()
    }
}

pub(super) fn open<'a>(look: Look<'a>) -> Result<&'a Open, Fact> {
    let tables = &look.tables.nodes;
    let open = tables.open.get_or_init(|| {
        // Before the walk, which takes a while.
        tables.watch.get_or_init(|| look.host.watch_nodes());
        let open = look.host.open_nodes();
        open.map_err(|error| format!("what processes have open cannot be seen: {}", words(&error)))
    });
    open.as_ref()
        .map_err(|text| Fact::Unchecked { text: text.clone() })
}

/// The number of the device at `place`, `None` where it has no node.
pub(super) fn number(look: Look<'_>, place: &str) -> Option<(u32, u32)> {
    let text = text(look.sysfs, &format!("{place}/dev"))?;
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Who has a node of the function open, block devices aside: whether those are
/// read is no matter, and [`writers`] tells who writes to them.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    found(look, subject).unwrap_or_else(|unchecked| vec![unchecked])
}

fn found(look: Look<'_>, subject: &Subject<'_>) -> Result<Vec<Fact>, Fact> {
    let mut facts = Vec::new();
    // `usb` speaks for each input device, open or not; logind reads them all,
    // the jacks of sound cards too.
    let devices = subject.devices.iter();
    for device in devices.filter(|device| !matches!(device.subsystem.as_str(), "input" | "block")) {
        let Some(number) = number(look, &device.place) else {
            continue;
        };
        let nodes = open(look)?.nodes.iter();
        let nodes = nodes
            .filter(|node| !node.block && node.device == number)
            .filter(|node| node.writing || !is_read_by_anyone(device));
        facts.extend(nodes.map(|node| fact(device, node)));
    }
    if subject.driver == Some("nvidia") {
        facts.extend(nvidia(look)?);
    }
    Ok(facts)
}

/// Kinds of devices that are opened for reading by whoever looks round: udev,
/// smartd, nvme-cli, lsusb. All of these let go of a device that is open; i2c
/// buses and sound cards, for instance, do not.
fn is_read_by_anyone(device: &Device) -> bool {
    matches!(
        device.subsystem.as_str(),
        "nvme" | "nvme-generic" | "scsi_generic" | "bsg" | "usb"
    )
}

fn fact(device: &Device, node: &OpenNode) -> Fact {
    // The first watchdog has an old node, too
    // (drivers/watchdog/watchdog_dev.c, `watchdog_cdev_register`, v6.12).
    let subsystem = match device.subsystem.as_str() {
        "misc" if device.name.starts_with("watchdog") => "watchdog",
        subsystem => subsystem,
    };
    Fact::NodeOpen {
        subsystem: subsystem.to_owned(),
        node: device.name.clone(),
        process: node.process.clone(),
    }
}

/// Who writes to the block device with `number`, which a person knows as
/// `label`. A disk may be read by anyone, as udev and smartd do.
pub(super) fn writers(look: Look<'_>, label: &str, number: (u32, u32)) -> Vec<Fact> {
    match open(look) {
        Ok(open) => {
            let writers = open
                .nodes
                .iter()
                .filter(|node| node.block && node.writing && node.device == number);
            let fact = |node: &OpenNode| Fact::OpenForWriting {
                device: label.to_owned(),
                process: node.process.clone(),
            };
            writers.map(fact).collect()
        }
        Err(unchecked) => vec![unchecked],
    }
}

/// NVIDIA's major number (Documentation/admin-guide/devices.txt).
const NVIDIA: u32 = 195;

/// Who has any of NVIDIA's nodes open: they hang below no function in sysfs,
/// and an unbind with one open never comes back.
pub(super) fn nvidia(look: Look<'_>) -> Result<Vec<Fact>, Fact> {
    let mut files = Files::new(look.host);
    let devices = files.read("/proc/devices");
    if let Some(text) = files.troubles.pop() {
        return Err(Fact::Unchecked { text });
    }
    let characters = devices.split("Block devices:").next().unwrap_or_default();
    let majors: Vec<(u32, &str)> = characters
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, name)| name.starts_with("nvidia"))
        .filter_map(|(major, name)| Some((major.parse().ok()?, name)))
        .filter(|(major, _)| *major != NVIDIA)
        .collect();
    let nodes = open(look)?.nodes.iter().filter(|node| !node.block);
    let facts = nodes.filter_map(|open| {
        let (major, minor) = open.device;
        let other = majors.iter().find(|(other, _)| *other == major);
        let node = match (major, minor, other) {
            (NVIDIA, 255, _) => "nvidiactl".to_owned(),
            (NVIDIA, 254, _) => "nvidia-modeset".to_owned(),
            (NVIDIA, minor, _) => format!("nvidia{minor}"),
            (_, _, Some((_, name))) => (*name).to_owned(),
            _ => return None,
        };
        Some(Fact::NodeOpen {
            subsystem: "nvidia".to_owned(),
            node,
            process: open.process.clone(),
        })
    });
    Ok(facts.collect())
}

/// Who has the vfio device of the function in `dir` open.
pub(super) fn vfio(look: Look<'_>, dir: &str) -> Vec<Fact> {
    vfio_found(look, dir).unwrap_or_else(|unchecked| vec![unchecked])
}

/// Whether nobody has the vfio device of the function in `dir`, by the kernel's own
/// count: vfio enables a function when it is opened first and disables it when it is
/// closed last (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_core_enable` and `_disable`,
/// v6.12; what is enabled for another reason has to be looked for). Who has just opened
/// the group's node, and no device by it yet, is not seen. The attribute takes no lock
/// (drivers/pci/pci-sysfs.c, `enable_show`).
pub(super) fn is_vfio_idle(look: Look<'_>, dir: &str) -> bool {
    let driver = link_name(look.sysfs, &format!("{dir}/driver"));
    driver.is_some_and(|driver| is_vfio_driver(&driver))
        && text(look.sysfs, &format!("{dir}/enable")).as_deref() == Some("0")
}

/// The nodes are its IOMMU group's and, since Linux 6.6, its own. Whoever has
/// neither open any more, and the device itself still, was given it by somebody
/// else or closed the group.
fn vfio_found(look: Look<'_>, dir: &str) -> Result<Vec<Fact>, Fact> {
    let open = open(look)?;
    let mut facts = Vec::new();
    for (node, number) in vfio_nodes(look, dir) {
        let nodes = open.nodes.iter();
        let nodes = nodes.filter(|open| !open.block && open.device == number);
        facts.extend(nodes.map(|open| Fact::VfioOpen {
            node: node.clone(),
            process: open.process.clone(),
        }));
    }
    let own = dir.rsplit('/').next();
    for holder in &open.vfio_devices {
        let process = holder.process.clone();
        match &holder.function {
            Some(place) if place.rsplit('/').next() == own => facts.push(Fact::VfioOpen {
                node: "its vfio device".to_owned(),
                process,
            }),
            Some(_) => {}
            None if has_vfio_node(look, open, &process) || is_vfio_idle(look, dir) => {}
            None => facts.push(Fact::Unchecked {
                text: format!("{process} has a vfio device open, and nobody can tell which"),
            }),
        }
    }
    Ok(facts)
}

/// The nodes of vfio for the function in `dir`, and their numbers.
pub(super) fn vfio_nodes(look: Look<'_>, dir: &str) -> Vec<(String, (u32, u32))> {
    let group = link_name(look.sysfs, &format!("{dir}/iommu_group"));
    // Without an IOMMU the group's node has another name
    // (drivers/vfio/group.c, `vfio_group_alloc`, v6.12).
    let group = group.into_iter().flat_map(|group| {
        let names = [group.clone(), format!("noiommu-{group}")];
        names.map(|name| (format!("class/vfio/{name}"), format!("/dev/vfio/{name}")))
    });
    let own = look.sysfs.list(&format!("{dir}/vfio-dev"));
    let own = own.unwrap_or_default().into_iter().map(|name| {
        let node = format!("/dev/vfio/devices/{name}");
        (format!("{dir}/vfio-dev/{name}"), node)
    });
    let nodes = group.chain(own);
    nodes
        .filter_map(|(place, node)| Some((node, number(look, &place)?)))
        .collect()
}

/// Whether `process` has the node of any IOMMU group or vfio device open, which
/// says whose the device is that it has.
fn has_vfio_node(look: Look<'_>, open: &Open, process: &str) -> bool {
    let numbers = ["class/vfio", "class/vfio-dev"]
        .into_iter()
        .flat_map(|class| {
            let names = look.sysfs.list(class).unwrap_or_default().into_iter();
            names.filter_map(move |name| number(look, &format!("{class}/{name}")))
        });
    let numbers: Vec<_> = numbers.collect();
    let mut nodes = open.nodes.iter();
    nodes.any(|node| node.process == process && numbers.contains(&node.device))
}
