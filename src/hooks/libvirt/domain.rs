//! What a domain's XML says that concerns functions of the host.
//!
//! Host functions are in `<hostdev>`, `<interface type='hostdev'>` and
//! `<disk type='nvme'>` (libvirt formatdomain); all else is passed over.

use std::fmt;

use roxmltree::{Document, Node};

use super::{
    alias::Alias,
    request::{self, Request},
    xml::{XmlError, attribute, children, is, number, parse, text, value},
};
use crate::pci::address::Address;

/// A domain, as far as it concerns functions of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its UUID as it is written; libvirt makes one up where there is none.
    pub uuid: Option<String>,
    /// The functions that it takes, in the order of the text.
    pub devices: Vec<Device>,
    /// The mappings that its metadata asks for.
    pub requests: Vec<Request>,
}

/// A function of the host that a domain takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is there.
    pub kind: Kind,
    /// Where it is on the host.
    pub address: Address,
    /// Whether libvirt binds it and gives it back.
    pub managed: bool,
    /// The alias, whoever chose it.
    pub alias: Option<String>,
    /// The alias if it is ours.
    pub ours: Option<Alias>,
}

/// Which element takes the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<hostdev type='pci'>`.
    Hostdev,
    /// `<interface type='hostdev'>`.
    Interface,
    /// `<disk type='nvme'>`.
    Disk,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hostdev => "hostdev",
            Self::Interface => "interface",
            Self::Disk => "disk",
        })
    }
}

/// Reads a domain's XML.
///
/// # Errors
/// If it is no XML or no domain, if a host device has no address or an alias
/// that ours is mistyped in, or if the metadata asks for what there is not.
pub fn read(xml: &str) -> Result<Domain, XmlError> {
    let document = parse(xml)?;
    let root = root(&document)?;
    let name = children(root, "name").next().map(text);
    let mut requests = Vec::new();
    for metadata in children(root, "metadata") {
        requests.extend(request::read(metadata)?);
    }
    Ok(Domain {
        name: name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| XmlError::at(root, "the domain has no name"))?,
        uuid: children(root, "uuid")
            .next()
            .map(|uuid| text(uuid).trim().to_owned()),
        devices: scan(root)?.into_iter().map(|found| found.device).collect(),
        requests,
    })
}

/// The document's `<domain>`.
pub(super) fn root<'a, 'i>(document: &'a Document<'i>) -> Result<Node<'a, 'i>, XmlError> {
    let root = document.root_element();
    if is(root, "domain") {
        return Ok(root);
    }
    Err(XmlError::at(root, "the root is no <domain> of libvirt's"))
}

/// A device with the elements that it was read from.
pub(super) struct Found<'a, 'i> {
    pub(super) device: Device,
    pub(super) element: Node<'a, 'i>,
    /// The element that says whether it is managed.
    pub(super) holder: Node<'a, 'i>,
    /// The `<address>` on the host.
    pub(super) source: Node<'a, 'i>,
}

/// The host devices of the domain `root`, in the order of the text.
pub(super) fn scan<'a, 'i>(root: Node<'a, 'i>) -> Result<Vec<Found<'a, 'i>>, XmlError> {
    let mut found = Vec::new();
    for devices in children(root, "devices") {
        for element in devices.children().filter(Node::is_element) {
            if let Some(kind) = kind(element) {
                found.extend(device(element, kind)?);
            }
        }
    }
    Ok(found)
}

fn kind(element: Node<'_, '_>) -> Option<Kind> {
    let has = |name, wanted: &str| value(element, name) == Some(wanted);
    // A subsystem's is libvirt's default mode.
    let subsystem = value(element, "mode").is_none_or(|mode| mode == "subsystem");
    if is(element, "hostdev") && subsystem && has("type", "pci") {
        Some(Kind::Hostdev)
    } else if is(element, "interface") && has("type", "hostdev") {
        Some(Kind::Interface)
    } else if is(element, "disk") && has("type", "nvme") {
        Some(Kind::Disk)
    } else {
        None
    }
}

/// `None` for an interface that is another bus's device.
fn device<'a, 'i>(element: Node<'a, 'i>, kind: Kind) -> Result<Option<Found<'a, 'i>>, XmlError> {
    let missing = || XmlError::at(element, format!("the {kind} has no source address"));
    let holder = children(element, "source").next().ok_or_else(missing)?;
    let source = children(holder, "address").next().ok_or_else(missing)?;
    if value(source, "type").is_some_and(|bus| bus != "pci") {
        return Ok(None);
    }
    let holder = if kind == Kind::Disk { holder } else { element };
    let (alias, ours) = alias(element)?;
    let device = Device {
        kind,
        address: address(source)?,
        managed: value(holder, "managed") == Some("yes"),
        alias,
        ours,
    };
    Ok(Some(Found {
        device,
        element,
        holder,
        source,
    }))
}

/// A device's alias, and what it says if it is ours.
fn alias(element: Node<'_, '_>) -> Result<(Option<String>, Option<Alias>), XmlError> {
    let named =
        children(element, "alias").find_map(|alias| Some((alias, attribute(alias, "name")?)));
    let Some((alias, name)) = named else {
        return Ok((None, None));
    };
    let ours = Alias::read(name.value())
        .map_err(|error| XmlError::in_attribute(alias, name, error.to_string()))?;
    Ok((Some(name.value().to_owned()), ours))
}

/// The numbers of an `<address>`; what is not said is 0.
fn address(element: Node<'_, '_>) -> Result<Address, XmlError> {
    let part = |name| {
        attribute(element, name).map_or(Ok(0), |one| {
            let message = || format!("'{}' is no {name} of a PCI address", one.value());
            number(one.value()).ok_or_else(|| XmlError::in_attribute(element, one, message()))
        })
    };
    let (domain, bus) = (part("domain")?, part("bus")?);
    let (slot, function) = (part("slot")?, part("function")?);
    let narrow = |number| u8::try_from(number).ok();
    let address = || Address::new(domain, narrow(bus)?, narrow(slot)?, narrow(function)?);
    let message = "expected bus up to 0xff, slot up to 0x1f, function up to 7";
    address().ok_or_else(|| XmlError::at(element, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(inner: &str) -> Result<Vec<Device>, String> {
        let xml = format!("<domain><name>vm</name>\n<devices>{inner}</devices></domain>");
        read(&xml)
            .map(|domain| domain.devices)
            .map_err(|error| error.to_string())
    }

    fn device(kind: Kind, address: &str, managed: bool, alias: Option<&str>) -> Device {
        Device {
            kind,
            address: address.parse().unwrap(),
            managed,
            alias: alias.map(str::to_owned),
            ours: alias.and_then(|alias| Alias::read(alias).unwrap()),
        }
    }

    #[test]
    fn each_way_to_take_a_function_is_read() {
        let found = devices(
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>
               <address domain='0x0000' bus='0x41' slot='0x00' function='0x1'/></source>
               <address type='pci' domain='0' bus='0x06' slot='0' function='0'/></hostdev>
             <hostdev type=\"pci\"><alias name='ua-vfio-bindd-gpu-3'/>
               <source><!-- --><address bus='65' slot='010'/></source></hostdev>
             <interface type='hostdev' managed='no'><alias name='hostdev1'/><source>
               <address type='pci' domain='0x10000' bus='0xe1' slot='0x02' function='7'/></source></interface>
             <disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'>
               <address domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></source></disk>",
        );
        let expected = vec![
            device(Kind::Hostdev, "0000:41:00.1", true, None),
            device(
                Kind::Hostdev,
                "0000:41:08.0",
                false,
                Some("ua-vfio-bindd-gpu-3"),
            ),
            device(Kind::Interface, "10000:e1:02.7", false, Some("hostdev1")),
            device(Kind::Disk, "0000:02:00.0", true, None),
        ];
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn all_else_is_passed_over() {
        let source = "<source><address bus='0x41'/></source>";
        for other in [
            format!("<hostdev mode='subsystem' type='usb'>{source}</hostdev>"),
            format!("<hostdev mode='capabilities' type='pci'>{source}</hostdev>"),
            format!("<hostdev mode='subsystem'>{source}</hostdev>"),
            format!("<interface type='network'>{source}</interface>"),
            "<interface type='hostdev'><source><address type='usb' bus='1' device='2'/></source></interface>".to_owned(),
            format!("<x:hostdev xmlns:x='urn:x' type='pci'>{source}</x:hostdev>"),
            format!("<!-- <hostdev type='pci'>{source}</hostdev> -->"),
            format!("<![CDATA[<hostdev type='pci'>{source}</hostdev>]]>"),
            format!("<group><hostdev type='pci'>{source}</hostdev></group>"),
        ] {
            assert_eq!(devices(&other), Ok(Vec::new()), "{other}");
        }
    }

    #[test]
    fn a_bad_device_is_told_with_its_place() {
        let hostdev = |inner: &str| devices(&format!("<hostdev type='pci'>{inner}</hostdev>"));
        for (inner, expected) in [
            ("", "column 10: the hostdev has no source address"),
            ("<source/>", "column 10: the hostdev has no source address"),
            (
                "<source><address bus='0xgg'/></source>",
                "column 47: '0xgg' is no bus of a PCI address",
            ),
            (
                "<source><address bus='0x100'/></source>",
                "column 38: expected bus up to 0xff, slot up to 0x1f, function up to 7",
            ),
            (
                "<source><address function='8'/></source>",
                "column 38: expected bus up to 0xff, slot up to 0x1f, function up to 7",
            ),
            (
                "<source><address bus='1'/></source><alias name='ua-vfio-bindd-gpu'/>",
                "column 72: 'ua-vfio-bindd-gpu' is not ua-vfio-bindd-NAME-N with a mapping's name and a number",
            ),
        ] {
            let expected = format!("the domain's XML, line 2, {expected}");
            assert_eq!(hostdev(inner), Err(expected), "{inner}");
        }
    }

    #[test]
    fn only_a_named_domain_is_one() {
        for (xml, expected) in [
            ("<network/>", "the root is no <domain> of libvirt's"),
            (
                "<domain xmlns='urn:x'><name>vm</name></domain>",
                "the root is no <domain> of libvirt's",
            ),
            ("<domain/>", "the domain has no name"),
            ("<domain><name/></domain>", "the domain has no name"),
        ] {
            let expected = format!("the domain's XML, line 1, column 1: {expected}");
            assert_eq!(read(xml).unwrap_err().to_string(), expected);
        }
        let xml = "<domain><name>a&lt;<!-- -->b<![CDATA[&c]]></name><uuid>\n4dea </uuid></domain>";
        let domain = read(xml).unwrap();
        assert_eq!(domain.name, "a<b&c");
        assert_eq!(domain.uuid.as_deref(), Some("4dea"));
    }

    #[test]
    fn a_mebibyte_and_deep_nesting_are_fine() {
        let inner = "<channel type='unix'/>\n".repeat(50_000);
        assert_eq!(devices(&inner), Ok(Vec::new()));
        let depth = 150_000;
        let deep = format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert_eq!(devices(&deep), Ok(Vec::new()));
    }
}
