//! Properties of updates, on domains with whatever may stand between devices.

use std::{collections::BTreeMap, ops::Range};

use proptest::{
    prelude::*,
    sample::{select, subsequence},
};
use vfio_bindd::{
    hooks::libvirt::{
        domain::read,
        update::{Update, update},
    },
    pci::address::Address,
};

const MAPPINGS: [&str; 3] = ["gpu", "gpu-1", "nvme"];

/// What stands between our devices. Nothing on the buses 0 and 0xff is wanted.
const FOREIGN: [&str; 14] = [
    "",
    "\n    ",
    "\r\n\t",
    "  ",
    "\n<!-- <hostdev type='pci'><alias name='ua-vfio-bindd-gpu-0'/></hostdev> -->\n",
    "<![CDATA[<hostdev> </devices>]]>",
    "<?pi </devices>?>",
    "text &lt;&#10;",
    "\n    <controller type='pci' index='7' model='pcie-root-port'/>",
    "<controller type='pci' index=\"0x9\" model='pcie-root-port'/>\n",
    "\n  <hostdev mode='subsystem' type='pci' managed='yes'><source><address bus='0xff'/></source><address type='pci' bus='7'/></hostdev>",
    "<interface type='hostdev'><source><address type='pci' slot = '0x1f'/></source><alias name='ua-net'/></interface>",
    "\n <hostdev type='usb'><alias name='ua-vfio-bindd-gpu-0'/></hostdev>\n",
    "\n    <disk type='file'>\n      <source file='é\"/&gt;'/>\n    </disk>",
];

/// Ways to write one of our devices; `MANAGED`, `ADDRESS` and `ALIAS` are put in.
const OURS: [&str; 4] = [
    "<hostdev mode='subsystem' type='pci' MANAGED>\n      <source>\n        <address ADDRESS/>\n      </source>\n      <boot order='1'/>\n      <alias name='ALIAS'/>\n    </hostdev>",
    "<hostdev type=\"pci\" MANAGED><alias name=\"ALIAS\"/><!-- <x> --><source ><address\nADDRESS\n/></source></hostdev >",
    "<interface MANAGED type='hostdev'><mac address='52:54:00:6d:90:02'/><source><address type='pci' ADDRESS/></source><alias name='ALIAS'/></interface>",
    "<hostdev MANAGED type='pci'><source><address ADDRESS></address></source><address type='pci' bus='9'/><alias name = 'ALIAS'/></hostdev>",
];

fn address() -> impl Strategy<Value = Address> {
    let domain = prop_oneof![4 => Just(0_u32), 1 => Just(0x10000)];
    (domain, 1_u8..6, 0_u8..2, 0_u8..4).prop_map(|(domain, bus, slot, function)| {
        Address::new(domain, bus, slot, function).unwrap()
    })
}

fn source() -> impl Strategy<Value = String> {
    let spell = (address(), 0..3).prop_map(|(at, spelling)| {
        let (domain, bus, slot, function) = (at.domain(), at.bus(), at.device(), at.function());
        match spelling {
            0 => format!("domain='0x{domain:04x}' bus='0x{bus:02x}' slot='0x{slot:02x}' function='0x{function:x}'"),
            1 => format!("function = \"{function}\" bus\n= '{bus}' slot=\"0{slot:o}\" domain='{domain}'"),
            _ => format!("bus='0X{bus:X}'"),
        }
    });
    prop_oneof![5 => spell, 1 => Just(String::new())]
}

fn ours() -> impl Strategy<Value = String> {
    let managed = select(&["", "managed='yes'", "managed = \"no\""][..]);
    (
        select(&OURS[..]),
        managed,
        source(),
        select(&MAPPINGS[..]),
        0_u32..12,
    )
        .prop_map(|(form, managed, source, mapping, number)| {
            form.replace("MANAGED", managed)
                .replace("ADDRESS", &source)
                .replace("ALIAS", &format!("ua-vfio-bindd-{mapping}-{number}"))
        })
}

fn domain() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        2 => select(&FOREIGN[..]).prop_map(str::to_owned),
        1 => ours(),
    ];
    let pieces = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    (pieces, any::<bool>()).prop_map(|(pieces, bom)| {
        let bom = if bom { "\u{feff}" } else { "" };
        format!("{bom}<domain>\n<name>vm</name> <devices>{pieces}</devices>\r\n</domain>\n")
    })
}

/// Each address in one mapping at most.
fn wanted() -> impl Strategy<Value = BTreeMap<String, Vec<Address>>> {
    let some = prop::collection::btree_map(address(), select(&MAPPINGS[..]), 0..12);
    (some, subsequence(&MAPPINGS[..], 0..=3)).prop_map(|(some, named)| {
        let of = |mapping: &str| {
            let all = some.iter().filter(|(_, of)| **of == mapping);
            all.map(|(address, _)| *address).collect()
        };
        let entry = |mapping: &str| (mapping.to_owned(), of(mapping));
        named.into_iter().map(entry).collect()
    })
}

/// The text without the devices of `mappings` and the white space before them.
fn foreign(xml: &str, mappings: &BTreeMap<String, Vec<Address>>) -> String {
    let document = roxmltree::Document::parse(xml).unwrap();
    let is_ours = |node: &roxmltree::Node<'_, '_>| {
        let alias = node.children().find(|child| child.has_tag_name("alias"));
        let name = alias.and_then(|alias| alias.attribute("name"));
        let rest = name.and_then(|name| name.strip_prefix("ua-vfio-bindd-"));
        let mapping = rest
            .and_then(|rest| rest.rsplit_once('-'))
            .map(|(name, _)| name);
        mapping.is_some_and(|mapping| mappings.contains_key(mapping))
            && node.attribute("type") != Some("usb")
    };
    let cut: Vec<Range<usize>> = document
        .descendants()
        .filter(is_ours)
        .map(|node| node.range())
        .collect();
    let mut text = String::new();
    let mut from = 0;
    for range in cut {
        text.push_str(xml.get(from..range.start).unwrap().trim_end());
        from = range.end;
    }
    text.push_str(xml.get(from..).unwrap());
    text
}

/// The text without white space.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn an_update_is_done_once_and_leaves_the_rest(xml in domain(), wanted in wanted()) {
        let before = read(&xml).unwrap();
        // A device of a mapping that is not asked about may have the address.
        let Ok(updated) = update(&xml, &wanted) else { return Ok(()) };
        let after = match updated {
            Update::Unchanged => xml.clone(),
            Update::Changed(after) => {
                prop_assert_ne!(&after, &xml);
                after
            }
        };
        prop_assert_eq!(update(&after, &wanted), Ok(Update::Unchanged));

        let (old, new) = (foreign(&xml, &wanted), foreign(&after, &wanted));
        prop_assert_eq!(dense(&old), dense(&new));
        // The white space before a device goes with it, as far as its line.
        let had = |name: &str| {
            let ours = before.devices.iter().filter_map(|one| one.ours.as_ref());
            ours.filter(|alias| alias.mapping() == name).count()
        };
        if wanted.iter().all(|(name, all)| all.len() >= had(name)) {
            prop_assert_eq!(old, new);
        }

        let domain = read(&after).unwrap();
        for (mapping, addresses) in &wanted {
            let mut found: Vec<_> = domain.devices.iter().filter_map(|device| {
                let alias = device.ours.as_ref()?;
                (alias.mapping() == mapping).then_some((alias.number(), device))
            }).collect();
            found.sort_by_key(|(number, _)| *number);
            prop_assert!(found.iter().all(|(_, device)| !device.managed));
            let found: Vec<_> = found.iter().map(|(_, device)| device.address).collect();
            prop_assert_eq!(&found, addresses);
        }
    }

    #[test]
    fn no_text_panics(text in "[<>/=!'\" a-d&;\\[\\]\\n-]{0,60}") {
        drop(read(&text));
        drop(update(&text, &BTreeMap::new()));
        drop(read(&format!("<domain><name>a</name><devices>{text}</devices></domain>")));
    }
}
