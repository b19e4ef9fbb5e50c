//! A domain's XML with the addresses that its mappings have now.
//!
//! Our devices are known by their alias. The N-th of a mapping, in the order of
//! the aliases' numbers, has the mapping's N-th address: after a renumbering
//! every device of the guest has the same card as before. What the user wrote
//! for one (guest address, boot order, ROM, MAC) stays with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    alias::{Alias, AliasError},
    domain::{self, Found},
    hostdev::{self, GuestSlot},
    xml::{Position, XmlError, children, parse},
};
use crate::pci::address::{Address, Slot};
use edits::Edits;

mod diff;
mod edits;
mod ports;

pub use self::diff::diff;

/// What became of the XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// It is right as it is.
    Unchanged,
    /// The whole new text.
    Changed(String),
}

/// Why the XML cannot be updated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The XML is wrong.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A mapping's name is none, or an alias cannot be made of it.
    #[error(transparent)]
    Name(#[from] AliasError),
    /// A function is to be given to the domain twice.
    #[error("{address} is in the mapping '{first}' and again in '{second}': a domain has it once")]
    Twice {
        /// The function.
        address: Address,
        /// The mapping that has it.
        first: String,
        /// The one that has it, too, maybe the same.
        second: String,
    },
    /// A device that is not ours to update has a function of a mapping.
    #[error(
        "the {device} at {position} has {address} of the mapping '{mapping}' already: give it the \
         alias ua-vfio-bindd-{mapping}-0 (or its number there), or take it out"
    )]
    Taken {
        /// The element, with its alias if it has one.
        device: String,
        /// Where it is.
        position: Position,
        /// The function.
        address: Address,
        /// The mapping that it is of.
        mapping: String,
    },
}

/// Puts the addresses that the mappings in `wanted` have into a domain's XML
/// (`virsh dumpxml --inactive --security-info`).
///
/// Where a mapping has as many as before, the source addresses are replaced in
/// place. More are added behind its last device, or at the end of `<devices>`;
/// several functions of one host slot share a guest slot if a PCI Express root
/// port of the domain is free, else libvirt chooses. Of fewer, the last devices
/// are taken out; an empty list takes all out. Ours become `managed='no'`.
/// Devices of mappings that are not in `wanted` stay as they are.
///
/// # Errors
/// If the XML is wrong, a name is no mapping's, a function is in `wanted` twice,
/// or a device that stays as it is has one.
pub fn update(xml: &str, wanted: &BTreeMap<String, Vec<Address>>) -> Result<Update, UpdateError> {
    let owners = owners(wanted)?;
    let document = parse(xml)?;
    let root = domain::root(&document)?;
    let mut ours: BTreeMap<&str, Vec<&Found<'_, '_>>> = BTreeMap::new();
    let found = domain::scan(root)?;
    for found in &found {
        let alias = found.device.ours.as_ref();
        match alias.filter(|alias| wanted.contains_key(alias.mapping())) {
            Some(alias) => ours.entry(alias.mapping()).or_default().push(found),
            None => check(found, &owners)?,
        }
    }
    let mut edits = Edits::new(xml);
    let mut free = ports::free(root).into_iter();
    for (mapping, addresses) in wanted {
        let mut ours = ours.remove(mapping.as_str()).unwrap_or_default();
        ours.sort_by_key(|found| found.device.ours.as_ref().map(|alias| alias.number()));
        for (found, address) in ours.iter().zip(addresses) {
            replace(&mut edits, found, *address);
        }
        for found in ours.iter().skip(addresses.len()) {
            edits.remove(found.element);
        }
        let (had, added) = addresses.split_at(ours.len().min(addresses.len()));
        if added.is_empty() {
            continue;
        }
        let added = elements(mapping, &ours, had, added, &mut free)?;
        match ours.iter().max_by_key(|found| found.element.range().end) {
            Some(last) => edits.insert_behind(last.element, &added),
            None => {
                let missing = || XmlError::at(root, "the domain has no <devices>");
                let devices = children(root, "devices").next().ok_or_else(missing)?;
                edits.append(devices, &added);
            }
        }
    }
    Ok(edits.apply().map_or(Update::Unchanged, Update::Changed))
}

/// The mapping that each wanted function is of; that their names are ones.
fn owners(wanted: &BTreeMap<String, Vec<Address>>) -> Result<BTreeMap<Address, &str>, UpdateError> {
    let mut owners = BTreeMap::new();
    for (mapping, addresses) in wanted {
        Alias::new(mapping, 0)?;
        for address in addresses {
            if let Some(first) = owners.insert(*address, mapping.as_str()) {
                return Err(UpdateError::Twice {
                    address: *address,
                    first: first.to_owned(),
                    second: mapping.clone(),
                });
            }
        }
    }
    Ok(owners)
}

/// That a device which stays as it is has no wanted function.
fn check(found: &Found<'_, '_>, owners: &BTreeMap<Address, &str>) -> Result<(), UpdateError> {
    let device = &found.device;
    let Some(mapping) = owners.get(&device.address) else {
        return Ok(());
    };
    let xml = found.element.document().input_text();
    Err(UpdateError::Taken {
        device: match &device.alias {
            Some(alias) => format!("{} '{alias}'", device.kind),
            None => device.kind.to_string(),
        },
        position: Position::of(xml, found.element.range().start),
        address: device.address,
        mapping: (*mapping).to_owned(),
    })
}

/// Gives a device of ours its address. What is right stays as it is spelled.
fn replace(edits: &mut Edits<'_>, found: &Found<'_, '_>, address: Address) {
    let old = hostdev::attributes(found.device.address);
    for ((name, value), (_, before)) in hostdev::attributes(address).iter().zip(&old) {
        if value != before {
            edits.set(found.source, name, value);
        }
    }
    if found.device.managed {
        edits.set(found.holder, "managed", "no");
    }
}

/// The elements for the functions that a mapping has beyond those it `had`.
fn elements(
    mapping: &str,
    ours: &[&Found<'_, '_>],
    had: &[Address],
    added: &[Address],
    free: &mut impl Iterator<Item = GuestSlot>,
) -> Result<Vec<hostdev::Hostdev>, AliasError> {
    let mut elements = hostdev::place(added, free);
    // Of such a slot the guest has a part already, where the user put it.
    let parted: BTreeSet<Slot> = had.iter().map(|address| address.slot()).collect();
    for element in &mut elements {
        element.guest = element
            .guest
            .filter(|_| !parted.contains(&element.host.slot()));
    }
    let last = ours.iter().filter_map(|found| found.device.ours.as_ref());
    let next = last.map(|alias| alias.number() + 1).max().unwrap_or(0);
    hostdev::give_aliases(&mut elements, mapping, next)?;
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(lines: &[&str]) -> BTreeMap<String, Vec<Address>> {
        let one = |line: &&str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_owned();
            (name, words.map(|word| word.parse().unwrap()).collect())
        };
        lines.iter().map(one).collect()
    }

    fn domain(devices: &str) -> String {
        format!("<domain><name>vm</name><devices>{devices}</devices></domain>")
    }

    fn changed(devices: &str, lines: &[&str]) -> String {
        match update(&domain(devices), &wanted(lines)).unwrap() {
            Update::Unchanged => "unchanged".to_owned(),
            Update::Changed(text) => text
                .strip_prefix("<domain><name>vm</name>")
                .and_then(|text| text.strip_suffix("</domain>"))
                .unwrap()
                .to_owned(),
        }
    }

    fn ours(number: u32, address: &str) -> String {
        format!(
            "<hostdev type='pci'><source><address {address}/></source><alias name='ua-vfio-bindd-gpu-{number}'/></hostdev>"
        )
    }

    #[test]
    fn only_what_is_another_number_is_written() {
        for (before, after) in [
            ("domain='0' bus=\"0x41\" slot='0' function='0'", "unchanged"),
            ("domain='0' bus='65'", "unchanged"),
            (
                "domain = '0' bus\n=\n\"0x3b\" slot='00' function='0x0'",
                "domain = '0' bus\n=\n\"0x41\" slot='00' function='0x0'",
            ),
            ("bus='&#x31;' slot='1'", "bus='0x41' slot='0x00'"),
            (
                "x:y='z' xmlns:x='urn:x' slot='0x02'",
                "x:y='z' xmlns:x='urn:x' slot='0x00' bus='0x41'",
            ),
        ] {
            let found = changed(&ours(0, before), &["gpu 0000:41:00.0"]);
            let expected = match after {
                "unchanged" => after.to_owned(),
                _ => format!("<devices>{}</devices>", ours(0, after)),
            };
            assert_eq!(found, expected, "{before}");
        }
        // Without attributes the first one follows the name.
        let bare = ours(0, "").replace("<address />", "<address/>");
        let after = format!("<devices>{}</devices>", ours(0, "bus='0x41'"));
        assert_eq!(changed(&bare, &["gpu 0000:41:00.0"]), after);
    }

    #[test]
    fn numbers_count_and_not_places() {
        let before = [
            ours(10, "bus='0x01'"),
            ours(2, "bus='0x02'"),
            ours(3, "bus='0x03'"),
        ];
        let lines = ["gpu 0000:41:00.0 0000:42:00.0 0000:43:00.0"];
        let after = [
            ours(10, "bus='0x43'"),
            ours(2, "bus='0x41'"),
            ours(3, "bus='0x42'"),
        ];
        assert_eq!(
            changed(&before.concat(), &lines),
            format!("<devices>{}</devices>", after.concat())
        );
        // The last by number goes, and a new one has the number behind it.
        assert_eq!(
            changed(&before.concat(), &["gpu 0000:02:00.0 0000:03:00.0"]),
            format!(
                "<devices>{}{}</devices>",
                ours(2, "bus='0x02'"),
                ours(3, "bus='0x03'")
            )
        );
        let four = ["gpu 0000:02:00.0 0000:03:00.0 0000:01:00.0 0000:05:00.0"];
        assert!(changed(&before.concat(), &four).contains("name='ua-vfio-bindd-gpu-11'"));
    }

    #[test]
    fn ours_are_not_managed() {
        for (before, after) in [
            ("managed='yes'", "<devices><hostdev managed='no' "),
            ("managed = \"yes\"", "<devices><hostdev managed = \"no\" "),
            ("managed='no'", "unchanged"),
            ("", "unchanged"),
        ] {
            let device = ours(0, "bus='0x41'").replace("<hostdev", &format!("<hostdev {before}"));
            let found = changed(&device, &["gpu 0000:41:00.0"]);
            assert!(found.starts_with(after), "{before}: {found}");
        }
    }

    #[test]
    fn other_mappings_and_foreign_devices_stay() {
        let foreign =
            "<hostdev type='pci' managed='yes'><source><address bus='9'/></source></hostdev>";
        let devices = format!("{foreign}{}", ours(0, "bus='1'"));
        assert_eq!(changed(&devices, &["nic"]), "unchanged");
        assert_eq!(changed(&devices, &[]), "unchanged");
        assert_eq!(
            changed(&devices, &["gpu"]),
            format!("<devices>{foreign}</devices>")
        );
    }

    #[test]
    fn elements_are_added_where_there_are_none() {
        for (before, start, end) in [
            ("<devices/>", "<devices>\n<hostdev ", "</hostdev></devices>"),
            (
                "<devices />",
                "<devices >\n<hostdev ",
                "</hostdev></devices>",
            ),
            (
                "<devices></devices>",
                "<devices>\n<hostdev ",
                "</hostdev></devices>",
            ),
            (
                "<devices>\r\n  </devices>",
                "<devices>\r\n    <hostdev ",
                "\r\n    </hostdev>\r\n  </devices>",
            ),
            (
                "<devices>\n\t<a/>\n\n</devices>",
                "<devices>\n\t<a/>\n\t<hostdev ",
                "\n\t</hostdev>\n\n</devices>",
            ),
            (
                "<devices><a/><!-- </devices> -->\n</devices>",
                "<devices><a/><!-- </devices> -->\n  <hostdev ",
                "</hostdev>\n</devices>",
            ),
        ] {
            let xml = format!("<domain>{before}</domain>");
            let Update::Changed(after) = update(&xml, &wanted(&["gpu 0000:41:00.0"])).unwrap()
            else {
                panic!("{before}");
            };
            assert!(after.starts_with(&format!("<domain>{start}")), "{after:?}");
            assert!(after.ends_with(&format!("{end}</domain>")), "{after:?}");
            assert_eq!(
                update(&after, &wanted(&["gpu 0000:41:00.0"])),
                Ok(Update::Unchanged)
            );
        }
    }

    #[test]
    fn a_slot_in_part_there_is_left_to_libvirt() {
        let port = "<controller type='pci' index='7' model='pcie-root-port'/>";
        let devices = format!("{port}{}", ours(0, "bus='0x41'"));
        let after = changed(&devices, &["gpu 0000:41:00.0 0000:41:00.1 0000:41:00.2"]);
        assert!(!after.contains("multifunction"), "{after}");
        let after = changed(&devices, &["gpu 0000:40:00.0 0000:41:00.1 0000:41:00.2"]);
        assert!(after.contains("bus='0x07' slot='0x00' function='0x0' multifunction='on'/>"));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let at = "bus='0x41'";
        let foreign = format!("<hostdev type='pci'><source><address {at}/></source></hostdev>");
        let nic = format!(
            "\n <interface type='hostdev'><source><address {at}/></source><alias name='hostdev0'/></interface>"
        );
        for (devices, lines, expected) in [
            (
                foreign,
                vec!["gpu 0000:41:00.0"],
                "the hostdev at line 1, column 33 has 0000:41:00.0 of the mapping 'gpu' already: give it the \
                 alias ua-vfio-bindd-gpu-0 (or its number there), or take it out",
            ),
            (
                nic,
                vec!["gpu 0000:41:00.0"],
                "the interface 'hostdev0' at line 2, column 2 has 0000:41:00.0 of the mapping 'gpu' already: give \
                 it the alias ua-vfio-bindd-gpu-0 (or its number there), or take it out",
            ),
            (
                ours(1, at),
                vec!["nic 0000:41:00.0"],
                "the hostdev 'ua-vfio-bindd-gpu-1' at line 1, column 33 has 0000:41:00.0 of the mapping 'nic' \
                 already: give it the alias ua-vfio-bindd-nic-0 (or its number there), or take it out",
            ),
            (
                String::new(),
                vec!["gpu 0000:41:00.0", "nic 0000:41:00.0"],
                "0000:41:00.0 is in the mapping 'gpu' and again in 'nic': a domain has it once",
            ),
            (
                String::new(),
                vec!["GPU"],
                "'GPU' is no name of a mapping: expected a lower-case letter, then at least one more of a-z, \
                 0-9, _ and -",
            ),
        ] {
            let error = update(&domain(&devices), &wanted(&lines)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = update("<domain/>", &wanted(&["gpu 0000:41:00.0"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the domain's XML, line 1, column 1: the domain has no <devices>"
        );
    }
}
