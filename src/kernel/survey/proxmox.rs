//! What Proxmox VE's config says of PCI devices, for this node.

use super::{file, names};
use crate::{
    kernel::host::Host,
    policy::doctor::facts::{MapEntry, Proxmox, RawDevice},
};

const MAPPINGS: &str = "/etc/pve/mapping/pci.cfg";
const GUESTS: &str = "/etc/pve/qemu-server";

pub(super) fn proxmox(host: &dyn Host) -> Result<Option<Proxmox>, String> {
    if host.stat("/usr/bin/pveversion").is_err() {
        return Ok(None);
    }
    let hostname = file(host, "/proc/sys/kernel/hostname")?.unwrap_or_default();
    let node = hostname.trim().split('.').next().unwrap_or_default();
    let mappings = file(host, MAPPINGS)?.unwrap_or_default();
    let (mut raw, mut rebound) = (Vec::new(), Vec::new());
    for name in names(host, GUESTS)? {
        if name.ends_with(".conf") {
            let path = format!("{GUESTS}/{name}");
            let text = file(host, &path)?.unwrap_or_default();
            for guest in devices(&path, &text) {
                if !guest.mapped {
                    raw.push(guest.device.clone());
                }
                if !guest.keeps {
                    rebound.push(guest.device);
                }
            }
        }
    }
    Ok(Some(Proxmox {
        entries: entries(&mappings, node),
        raw,
        rebound,
    }))
}

/// The entries for `node` in a text of sections: an ID at the start of a line,
/// then indented lines `map key=value,...` (pve-guest-common,
/// `PVE::Mapping::PCI`).
fn entries(text: &str, node: &str) -> Vec<MapEntry> {
    let mut mapping = String::new();
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('#') {
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            line.trim_end().clone_into(&mut mapping);
            continue;
        }
        let Some(properties) = line.trim().strip_prefix("map ") else {
            continue;
        };
        let get = |key: &str| {
            let mut pairs = properties.split(',').filter_map(|one| one.split_once('='));
            let value = pairs.find(|(name, _)| name.trim() == key);
            value.map(|(_, value)| value.trim().to_owned())
        };
        if get("node").as_deref() != Some(node) {
            continue;
        }
        entries.push(MapEntry {
            place: format!("{MAPPINGS}:{number}"),
            mapping: mapping.clone(),
            path: get("path").unwrap_or_default(),
            id: get("id").unwrap_or_default(),
            subsystem: get("subsystem-id"),
            group: get("iommugroup"),
        });
    }
    entries
}

/// A device of a guest.
struct GuestDevice {
    device: RawDevice,
    /// Whether it is named by a resource mapping.
    mapped: bool,
    /// Whether qemu-server leaves its driver alone (9.0.25 and later).
    keeps: bool,
}

/// The devices in a guest's config: `hostpciN` lines before the first section,
/// which would be a snapshot.
fn devices(path: &str, text: &str) -> Vec<GuestDevice> {
    let current = text.lines().take_while(|line| !line.starts_with('['));
    (1..)
        .zip(current)
        .filter_map(|(number, line)| {
            let (key, value) = line.split_once(':')?;
            let index = key.strip_prefix("hostpci")?;
            index.parse::<u8>().ok()?;
            let options = || value.split(',').map(str::trim);
            let named = |key: &str| options().find_map(|one| one.strip_prefix(key));
            let mapping = named("mapping=");
            let bare = || options().find(|one| !one.contains('='));
            Some(GuestDevice {
                device: RawDevice {
                    place: format!("{path}:{number}"),
                    path: mapping.or_else(|| named("host=")).or_else(bare)?.to_owned(),
                },
                mapped: mapping.is_some(),
                keeps: named("driver=") == Some("keep"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_other_nodes_are_not_this_nodes() {
        let text = "\
gpu
\tdescription two of them
\tmap id=10de:2684,iommugroup=31,node=pve1,path=0000:41:00,subsystem-id=10de:1234
\tmap id=10de:2684,node=pve2,path=0000:61:00

# a comment
nic
\tmap node=pve1,path=0000:01:00.0;0000:01:00.1,id=8086:10d3
\tmdev 1
";
        let found = entries(text, "pve1");
        assert_eq!(
            found,
            [
                MapEntry {
                    place: format!("{MAPPINGS}:3"),
                    mapping: "gpu".to_owned(),
                    path: "0000:41:00".to_owned(),
                    id: "10de:2684".to_owned(),
                    subsystem: Some("10de:1234".to_owned()),
                    group: Some("31".to_owned()),
                },
                MapEntry {
                    place: format!("{MAPPINGS}:8"),
                    mapping: "nic".to_owned(),
                    path: "0000:01:00.0;0000:01:00.1".to_owned(),
                    id: "8086:10d3".to_owned(),
                    subsystem: None,
                    group: None,
                },
            ]
        );
        assert_eq!(entries("", "pve1"), []);
    }

    #[test]
    fn guests_name_devices_in_two_ways() {
        let text = "\
memory: 4096
hostpci0: 0000:41:00,pcie=1,x-vga=1
hostpci1: mapping=gpu,pcie=1
hostpci2: pcie=1,host=01:00.0;01:00.1,driver=keep
hostpci4: mapping=nic, driver=keep
hostpci5: pcie=1
hostpcix: 0000:01:00.0
#hostpci3: 0000:01:00.0
[before]
hostpci0: 0000:42:00
";
        let found = devices("/100.conf", text);
        let found: Vec<_> = found
            .iter()
            .map(|one| {
                let device = &one.device;
                (
                    device.place.as_str(),
                    device.path.as_str(),
                    one.mapped,
                    one.keeps,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("/100.conf:2", "0000:41:00", false, false),
                ("/100.conf:3", "gpu", true, false),
                ("/100.conf:4", "01:00.0;01:00.1", false, true),
                ("/100.conf:5", "nic", true, true),
            ]
        );
    }
}
