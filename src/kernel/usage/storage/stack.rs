//! The stack: the disks of a function, their partitions, and all block devices
//! that are made of those.
//!
//! Owns the walk up through `holders`. Never says what a device is used for.
//!
//! Source: Documentation/ABI/stable/sysfs-block, block/holder.c (v6.1): dm, md
//! and bcache show themselves there, btrfs and ZFS do not. Multipath disks:
//! drivers/nvme/host/core.c (`nvme_alloc_ns`) and multipath.c, v6.1 to v6.12.

use std::{
    collections::{HashSet, VecDeque},
    io,
};

use super::key::{device_number, logical_volume};
use crate::{
    kernel::{
        sysfs::text,
        usage::{Device, Look, Subject, words},
    },
    pci::usage::Fact,
};

/// A block device that a function is under.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The kernel's name for it.
    pub(super) name: String,
    /// The name for a person: `nvme0n1p3`, `dm-0 (pve-root) on nvme0n1p3`.
    pub(super) label: String,
    /// Its directory in sysfs.
    place: String,
    pub(super) kind: Kind,
    /// The disk or partition that it is made of, or that it is, as an index.
    pub(super) base: usize,
    /// What the device mapper calls it.
    pub(super) mapper: Option<Mapper>,
}

/// A device of the device mapper.
#[derive(Clone, Debug)]
pub(super) struct Mapper {
    /// Its name in /dev/mapper.
    pub(super) name: String,
    /// Whether LVM made it.
    is_volume: bool,
}

impl Mapper {
    /// The volume group that it is a volume of.
    pub(super) fn group(&self) -> Option<String> {
        let (group, _) = logical_volume(&self.name).filter(|_| self.is_volume)?;
        Some(group)
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Disk,
    Partition,
    /// Made of a disk or partition, or a partition of such a thing.
    Holder,
}

/// All nodes of a function.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// Disks and partitions come before what is made of them.
    pub(super) nodes: Vec<Node>,
    /// What is made of what, and what could not be found out.
    pub(super) facts: Vec<Fact>,
}

/// The stack on the disks of `subject`.
pub(super) fn stack(look: Look<'_>, subject: &Subject<'_>) -> Stack {
    let mut stack = Stack::default();
    let blocks: Vec<_> = subject.of("block").collect();
    let places: HashSet<&str> = blocks.iter().map(|device| device.place.as_str()).collect();
    let mut heads = HashSet::new();
    for device in &blocks {
        // A partition is below its disk.
        if above(&device.place).is_some_and(|above| places.contains(above)) {
            continue;
        }
        let hidden = text(look.sysfs, &format!("{}/hidden", device.place));
        if hidden.as_deref() != Some("1") {
            stack.push_disk(&device.name, &device.place);
            let below = blocks
                .iter()
                .filter(|part| above(&part.place) == Some(device.place.as_str()));
            for part in below {
                stack.push_partition(part);
            }
            continue;
        }
        // The disk that is used hangs below /sys/devices/virtual, where no
        // function owns it: it is used through this path too.
        match head(&device.name) {
            None => stack.unchecked(format!(
                "{} is a hidden disk, and what is made of it is not known",
                device.name
            )),
            Some(head) => {
                let place = format!("class/block/{head}");
                if text(look.sysfs, &format!("{place}/dev")).is_none() {
                    stack.unchecked(format!(
                        "{} is a path of the multipath disk {head}, which is not seen",
                        device.name
                    ));
                } else if heads.insert(head.clone()) {
                    stack.push_disk(&head, &place);
                    stack.push_partitions_of(look, &head, &place);
                }
            }
        }
    }
    stack.climb(look);
    stack
}

/// The directory above `place`.
fn above(place: &str) -> Option<&str> {
    place.rsplit_once('/').map(|(above, _)| above)
}

/// The disk that `nvme0c1n2`, subsystem 0's path over controller 1 to name
/// space 2, leads to: `nvme0n2`.
fn head(path: &str) -> Option<String> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (controller, namespace) = rest.split_once('n')?;
    let are_numbers = [subsystem, controller, namespace]
        .iter()
        .all(|part| part.parse::<u32>().is_ok());
    are_numbers.then(|| format!("nvme{subsystem}n{namespace}"))
}

/// What the device mapper says of the block device `name`. LVM begins the UUIDs
/// that it hands out with its own name (lvm2 lib/activate/dev_manager.c).
pub(super) fn mapper(look: Look<'_>, name: &str) -> Option<Mapper> {
    if !name.starts_with("dm-") {
        return None;
    }
    let attribute = |what: &str| text(look.sysfs, &format!("class/block/{name}/dm/{what}"));
    Some(Mapper {
        name: attribute("name")?,
        is_volume: attribute("uuid").is_some_and(|uuid| uuid.starts_with("LVM-")),
    })
}

/// The partitions of the disk `name` at `place`: the kernel makes their names
/// of the disk's and a number (block/partitions/core.c, `add_partition`).
fn partitions(look: Look<'_>, name: &str, place: &str) -> io::Result<Vec<Device>> {
    let mut below = look.sysfs.directories(place)?;
    below.retain(|entry| entry.starts_with(name));
    below.sort();
    let device = |name| Device {
        subsystem: "block".to_owned(),
        place: format!("{place}/{name}"),
        name,
    };
    Ok(below.into_iter().map(device).collect())
}

impl Stack {
    fn unchecked(&mut self, text: String) {
        self.facts.push(Fact::Unchecked { text });
    }

    fn push_disk(&mut self, name: &str, place: &str) {
        self.push_base(name, place, Kind::Disk);
    }

    fn push_partition(&mut self, part: &Device) {
        self.push_base(&part.name, &part.place, Kind::Partition);
    }

    fn push_base(&mut self, name: &str, place: &str, kind: Kind) {
        self.nodes.push(Node {
            name: name.to_owned(),
            label: name.to_owned(),
            place: place.to_owned(),
            kind,
            base: self.nodes.len(),
            mapper: None,
        });
    }

    fn push_partitions_of(&mut self, look: Look<'_>, name: &str, place: &str) {
        match partitions(look, name, place) {
            Ok(parts) => parts.iter().for_each(|part| self.push_partition(part)),
            Err(error) => {
                let error = words(&error);
                self.unchecked(format!(
                    "the partitions of {name} cannot be listed: {error}"
                ));
            }
        }
    }

    /// Adds all that is made of the nodes, whatever the floor.
    fn climb(&mut self, look: Look<'_>) {
        let mut seen = HashSet::new();
        let mut waiting: VecDeque<usize> = (0..self.nodes.len()).collect();
        while let Some(node) = waiting
            .pop_front()
            .and_then(|at| self.nodes.get(at))
            .cloned()
        {
            let before = self.nodes.len();
            self.add_holders(look, &node, &mut seen);
            if node.kind == Kind::Holder {
                self.add_partitions(look, &node, &mut seen);
            }
            waiting.extend(before..self.nodes.len());
        }
    }

    fn add_holders(&mut self, look: Look<'_>, node: &Node, seen: &mut HashSet<(usize, String)>) {
        let names = match look.sysfs.list(&format!("{}/holders", node.place)) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let error = words(&error);
                return self.unchecked(format!(
                    "what is made of {} cannot be listed: {error}",
                    node.label
                ));
            }
        };
        for name in names {
            let mapper = mapper(look, &name);
            let holder = match &mapper {
                Some(mapper) => format!("{name} ({})", mapper.name),
                None => name.clone(),
            };
            self.facts.push(Fact::Holder {
                device: node.label.clone(),
                holder: holder.clone(),
            });
            let place = format!("class/block/{name}");
            self.add(node, (name, holder, place, mapper), seen);
        }
    }

    fn add_partitions(&mut self, look: Look<'_>, node: &Node, seen: &mut HashSet<(usize, String)>) {
        match partitions(look, &node.name, &node.place) {
            Ok(parts) => {
                for part in parts {
                    self.add(node, (part.name.clone(), part.name, part.place, None), seen);
                }
            }
            Err(error) => {
                let error = words(&error);
                self.unchecked(format!(
                    "the partitions of {} cannot be listed: {error}",
                    node.label
                ));
            }
        }
    }

    /// Adds what is made of `on`, once for each disk or partition.
    fn add(
        &mut self,
        on: &Node,
        (name, title, place, mapper): (String, String, String, Option<Mapper>),
        seen: &mut HashSet<(usize, String)>,
    ) {
        if !seen.insert((on.base, name.clone())) {
            return;
        }
        let base = self.nodes.get(on.base).map_or("", |base| &base.name);
        self.nodes.push(Node {
            label: format!("{title} on {base}"),
            name,
            place,
            kind: Kind::Holder,
            base: on.base,
            mapper,
        });
    }
}

impl Node {
    /// Its major and minor number.
    pub(super) fn number(&self, look: Look<'_>) -> Option<(u32, u32)> {
        device_number(&text(look.sysfs, &format!("{}/dev", self.place))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_disk() {
        for (path, wanted) in [
            ("nvme0c1n2", Some("nvme0n2")),
            ("nvme12c0n345", Some("nvme12n345")),
            ("nvme0n1", None),
            ("nvme0cn1", None),
            ("sda", None),
        ] {
            assert_eq!(head(path).as_deref(), wanted, "{path}");
        }
    }
}
