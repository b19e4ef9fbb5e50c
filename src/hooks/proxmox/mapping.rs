//! The entries (`map` lines) of a resource mapping in `/etc/pve/mapping/pci.cfg`.
//!
//! Owns their grammar and what an entry for functions of this node says.
//! Source: pve-guest-common, src/PVE/Mapping/PCI.pm, `$map_fmt`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{
    Device, Devices,
    filter::Filter,
    property::{PropertyError, ensure, pairs},
};
use crate::pci::address::{Address, Slot};

/// The description of an entry that vfio-bindd wrote.
pub const MARKER: &str = "vfio-bindd";

const ID: &str = "an ID: expected vendor:device in hex, like 10de:2684";
const PATH: &str = "a list of PCI paths: expected domain:bus:device[.function] in lower-case hex, like 0000:3b:00, several joined by ';'";

/// One entry: a device of one node, and how to tell that it is still there.
///
/// Values are kept as they were written: PVE compares them as text. Keys that
/// are not known here are kept too.
///
/// ```
/// use vfio_bindd::hooks::proxmox::mapping::Entry;
/// let text = "node=pve1,path=0000:3b:00,id=10de:2684,iommugroup=31";
/// let entry: Entry = text.parse().unwrap();
/// assert_eq!((entry.node(), entry.to_string().as_str()), ("pve1", text));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) node: String,
    pub(super) path: Vec<Filter>,
    pub(super) id: String,
    pub(super) subsystem_id: Option<String>,
    pub(super) iommu_group: Option<String>,
    pub(super) description: Option<String>,
    pub(super) other: Vec<(String, String)>,
}

impl Entry {
    /// The entry of `node` for `device`, or for all of its slot.
    fn new(node: &str, device: &Device, is_whole: bool) -> Option<Self> {
        let path = if is_whole {
            device.address.slot().to_string()
        } else {
            device.address.to_string()
        };
        Some(Self {
            node: node.to_owned(),
            path: vec![path.parse().ok()?],
            id: device.id.to_string(),
            subsystem_id: device.subsystem.map(|id| id.to_string()),
            iommu_group: device.iommu_group.map(|group| group.to_string()),
            description: Some(MARKER.to_owned()),
            other: Vec::new(),
        })
    }

    /// The node that it is for.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its functions; several filters are one device of the guest.
    #[must_use]
    pub fn path(&self) -> &[Filter] {
        &self.path
    }

    /// Whether vfio-bindd wrote it.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.description.as_deref() == Some(MARKER)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<_> = self.path.iter().map(Filter::to_string).collect();
        write!(
            f,
            "node={},path={},id={}",
            self.node,
            path.join(";"),
            self.id
        )?;
        for (key, value) in [
            ("subsystem-id", &self.subsystem_id),
            ("iommugroup", &self.iommu_group),
            ("description", &self.description),
        ] {
            if let Some(value) = value {
                write!(f, ",{key}={value}")?;
            }
        }
        self.other
            .iter()
            .try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

impl FromStr for Entry {
    type Err = PropertyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut node, mut path, mut id) = (None, None, None);
        let (mut subsystem_id, mut iommu_group, mut description) = (None, None, None);
        let mut other = Vec::new();
        for (key, value) in pairs(text, None)? {
            let owned = value.to_owned();
            match key {
                "node" => {
                    ensure(is_node(value), key, value, "the name of a node")?;
                    node = Some(owned);
                }
                "path" => {
                    let filters = Filter::parse_list(value).unwrap_or_default();
                    let is_path = !filters.is_empty() && filters.iter().all(Filter::has_domain);
                    ensure(is_path, key, value, PATH)?;
                    path = Some(filters);
                }
                "id" => {
                    ensure(is_id(value), key, value, ID)?;
                    id = Some(owned);
                }
                "subsystem-id" => {
                    ensure(is_id(value), key, value, ID)?;
                    subsystem_id = Some(owned);
                }
                "iommugroup" => {
                    ensure(is_integer(value), key, value, "a number")?;
                    iommu_group = Some(owned);
                }
                "description" => {
                    let is_short = value.chars().count() <= 4096;
                    ensure(is_short, key, value, "a text of at most 4096 characters")?;
                    description = Some(owned);
                }
                _ => other.push((key.to_owned(), owned)),
            }
        }
        let missing = |key, wanted| PropertyError::Missing { key, wanted };
        Ok(Self {
            node: node.ok_or_else(|| missing("node", "NAME"))?,
            path: path.ok_or_else(|| missing("path", "0000:3b:00"))?,
            id: id.ok_or_else(|| missing("id", "10de:2684"))?,
            subsystem_id,
            iommu_group,
            description,
            other,
        })
    }
}

/// The entries that `node` should have for the `resolved` functions, in their
/// order; to PVE they are alternatives. All functions of a device are one entry
/// without a function, which passes them on together. VFs are devices of their
/// own and have one each.
///
/// What is not in `present` has no entry: it would be stale from the start, and
/// a stale one blocks every start.
#[must_use]
pub fn entries(
    node: &str,
    resolved: impl IntoIterator<Item = Address>,
    present: &Devices,
) -> Vec<Entry> {
    let resolved: Vec<_> = resolved.into_iter().collect();
    let wanted: BTreeSet<_> = resolved.iter().copied().collect();
    let entry = |address: Address| match whole(address.slot(), &wanted, present) {
        Some(first) => Entry::new(node, first, true),
        None => Entry::new(node, present.get(&address)?, false),
    };
    let mut entries: Vec<_> = resolved.into_iter().filter_map(entry).collect();
    let mut seen = BTreeSet::new();
    entries.retain(|entry| seen.insert(entry.path.clone()));
    entries
}

/// Function 0 of `slot` if all functions of the slot are `wanted` together: it
/// is the one whose IDs PVE compares.
fn whole<'a>(slot: Slot, wanted: &BTreeSet<Address>, present: &'a Devices) -> Option<&'a Device> {
    let mut functions = present
        .values()
        .filter(|device| device.address.slot() == slot);
    functions
        .all(|device| wanted.contains(&device.address) && !device.is_vf)
        .then(|| present.get(&slot.function(0)?))
        .flatten()
}

fn is_node(text: &str) -> bool {
    let is_ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_ok) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_id(text: &str) -> bool {
    let is_half = |half: &str| half.len() == 4 && half.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_once(':')
        .is_some_and(|(vendor, device)| is_half(vendor) && is_half(device))
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(address: &str, id: &str, iommu_group: Option<u32>) -> Device {
        Device {
            address: address.parse().unwrap(),
            id: id.parse().unwrap(),
            subsystem: Some("1043:88DC".parse().unwrap()),
            iommu_group,
            is_vf: false,
        }
    }

    fn host() -> Devices {
        let mut host: Vec<_> = vec![
            device("0000:01:00.0", "10DE:2684", Some(31)),
            device("0000:01:00.1", "10de:22ba", Some(31)),
            device("0000:02:00.0", "8086:1533", None),
            device("0000:03:00.1", "8086:1520", Some(7)),
        ];
        for function in 0..4 {
            let mut vf = device(
                &format!("0000:07:10.{function}"),
                "8086:1520",
                Some(40 + function),
            );
            vf.is_vf = true;
            host.push(vf);
        }
        host[2].subsystem = None;
        host.into_iter().map(|one| (one.address, one)).collect()
    }

    fn rendered(resolved: &[&str]) -> Vec<String> {
        let resolved = resolved.iter().map(|one| one.parse().unwrap());
        let entries = entries("pve1", resolved, &host());
        entries.iter().map(Entry::to_string).collect()
    }

    #[test]
    fn all_functions_of_a_device_are_one_entry() {
        assert_eq!(
            rendered(&["0000:01:00.1", "0000:02:00.0", "0000:01:00.0"]),
            [
                "node=pve1,path=0000:01:00,id=10de:2684,subsystem-id=1043:88dc,iommugroup=31,description=vfio-bindd",
                "node=pve1,path=0000:02:00,id=8086:1533,description=vfio-bindd",
            ]
        );
    }

    #[test]
    fn a_part_of_a_device_is_an_entry_per_function() {
        assert_eq!(
            rendered(&["0000:01:00.1", "0000:01:00.1", "0000:0f:00.0"]),
            [
                "node=pve1,path=0000:01:00.1,id=10de:22ba,subsystem-id=1043:88dc,iommugroup=31,description=vfio-bindd"
            ]
        );
        // PVE looks at function 0 of a whole device.
        assert!(rendered(&["0000:03:00.1"])[0].contains("path=0000:03:00.1,"));
        assert!(rendered(&[]).is_empty());
    }

    #[test]
    fn vfs_are_alternatives() {
        let entries = rendered(&[
            "0000:07:10.0",
            "0000:07:10.1",
            "0000:07:10.2",
            "0000:07:10.3",
        ]);
        assert_eq!(entries.len(), 4);
        assert!(entries[3].starts_with("node=pve1,path=0000:07:10.3,"));
    }

    #[test]
    fn an_entry_reads_back_with_what_is_unknown() {
        for text in [
            "node=pve1,path=0000:01:00,id=10DE:2684",
            "node=a-1,path=10000:01:00.0;0000:02:00,id=10de:2684,subsystem-id=1043:88dc,iommugroup=031,description=the left = one,driver=x,numa=1",
        ] {
            let entry: Entry = text.parse().unwrap();
            assert_eq!(entry.to_string(), text);
        }
        let entry: Entry = "id=10de:2684,description=vfio-bindd,x=y,path=0000:01:00,node=pve1"
            .parse()
            .unwrap();
        assert!(entry.is_marked());
        assert_eq!(
            entry.to_string(),
            "node=pve1,path=0000:01:00,id=10de:2684,description=vfio-bindd,x=y"
        );
    }

    #[test]
    fn refuses_what_is_no_entry() {
        for (text, said) in [
            ("", "node is missing: give it as node=NAME"),
            ("node=pve1,id=10de:2684", "path is missing"),
            (
                "node=pve1,path=0000:01:00",
                "id is missing: give it as id=10de:2684",
            ),
            (
                "node=pve_1,path=0000:01:00,id=10de:2684",
                "node: 'pve_1' is not the name",
            ),
            ("node=-a,path=0000:01:00,id=10de:2684", "node: '-a' is not"),
            (
                "node=pve1,path=01:00,id=10de:2684",
                "path: '01:00' is not a list",
            ),
            (
                "node=pve1,path=0000:01:00;,id=10de:2684",
                "path: '0000:01:00;' is not",
            ),
            (
                "node=pve1,path=0000:0A:00,id=10de:2684",
                "in lower-case hex",
            ),
            (
                "node=pve1,path=0000:01:00,id=0x10de:0x2684",
                "id: '0x10de:0x2684' is not",
            ),
            (
                "node=pve1,path=0000:01:00,id=10de:2684,subsystem-id=1",
                "subsystem-id: '1' is not",
            ),
            (
                "node=pve1,path=0000:01:00,id=10de:2684,iommugroup=x",
                "iommugroup: 'x' is not a number",
            ),
            (
                "node=pve1,path=0000:01:00,id=10de:2684,description=a,b",
                "'b' is no property",
            ),
            (
                "node=pve1,node=pve2,path=0000:01:00,id=10de:2684",
                "node is given more than once",
            ),
        ] {
            let error = text.parse::<Entry>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let long = format!(
            "node=a,path=0000:01:00,id=10de:2684,description={}",
            "x".repeat(4097)
        );
        assert!(long.parse::<Entry>().is_err());
    }
}
