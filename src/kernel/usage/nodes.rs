//! Device nodes of a function that processes have open.
//!
//! An open node keeps a driver's remove waiting, some for ever: an open
//! /dev/snd/controlC0 was seen to hang the unbind of snd_hda_intel.

use super::{Device, Look, Subject, words};
use crate::{
    kernel::{
        host::OpenNode,
        sysfs::{link_name, text},
    },
    pci::usage::Fact,
};

/// What all processes have open, or why that cannot be told.
pub(super) type Nodes = Result<Vec<OpenNode>, String>;

fn nodes<'a>(look: Look<'a>) -> &'a Nodes {
    look.tables.nodes.get_or_init(|| {
        let nodes = look.host.open_nodes();
        nodes.map_err(|error| format!("what processes have open cannot be seen: {}", words(&error)))
    })
}

/// The number of the device at `place`; `None` where it has no node.
fn number(look: Look<'_>, place: &str) -> Option<(u32, u32)> {
    let text = text(look.sysfs, &format!("{place}/dev"))?;
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Who has a node of the function open, block devices aside: whether those are
/// read is no matter, and [`writers`] tells who writes to them.
pub(super) fn facts(look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let devices = subject.devices.iter();
    for device in devices.filter(|device| device.subsystem != "block") {
        let Some(number) = number(look, &device.place) else {
            continue;
        };
        let nodes = match nodes(look) {
            Ok(nodes) => nodes,
            Err(text) => {
                let text = text.clone();
                return vec![Fact::Unchecked { text }];
            }
        };
        let open = nodes
            .iter()
            .filter(|node| !node.block && node.device == number)
            .filter(|node| node.writing || !is_read_by_anyone(device));
        facts.extend(open.map(|node| Fact::NodeOpen {
            subsystem: device.subsystem.clone(),
            node: device.name.clone(),
            process: node.process.clone(),
        }));
    }
    facts
}

/// Kinds of devices that are opened for reading by whoever looks round.
fn is_read_by_anyone(device: &Device) -> bool {
    matches!(
        device.subsystem.as_str(),
        "nvme" | "nvme-generic" | "scsi_generic" | "bsg" | "usb"
    )
}

/// Who writes to the block device with `number`, which a person knows as
/// `label`. A disk may be read by anyone, as udev and smartd do.
pub(super) fn writers(look: Look<'_>, label: &str, number: (u32, u32)) -> Vec<Fact> {
    match nodes(look) {
        Ok(nodes) => {
            let open = nodes
                .iter()
                .filter(|node| node.block && node.writing && node.device == number);
            let fact = |node: &OpenNode| Fact::OpenForWriting {
                device: label.to_owned(),
                process: node.process.clone(),
            };
            open.map(fact).collect()
        }
        Err(text) => {
            let text = text.clone();
            vec![Fact::Unchecked { text }]
        }
    }
}

/// Who has the vfio device of the function in `dir` open: its IOMMU group's
/// node, or its own since Linux 6.6.
pub(super) fn vfio(look: Look<'_>, dir: &str) -> Vec<Fact> {
    let group = link_name(look.sysfs, &format!("{dir}/iommu_group"));
    let group = group.map(|group| (format!("class/vfio/{group}"), format!("/dev/vfio/{group}")));
    let own = look.sysfs.list(&format!("{dir}/vfio-dev"));
    let own = own.unwrap_or_default().into_iter().map(|name| {
        let node = format!("/dev/vfio/devices/{name}");
        (format!("{dir}/vfio-dev/{name}"), node)
    });
    let mut facts = Vec::new();
    for (place, node) in group.into_iter().chain(own) {
        let Some(number) = number(look, &place) else {
            continue;
        };
        let nodes = match nodes(look) {
            Ok(nodes) => nodes,
            Err(text) => {
                let text = text.clone();
                return vec![Fact::Unchecked { text }];
            }
        };
        let open = nodes
            .iter()
            .filter(|open| !open.block && open.device == number);
        facts.extend(open.map(|open| Fact::VfioOpen {
            node: node.clone(),
            process: open.process.clone(),
        }));
    }
    facts
}
