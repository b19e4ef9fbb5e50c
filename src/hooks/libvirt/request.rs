//! The mappings that a domain asks for in its `<metadata>`:
//!
//! ```xml
//! <vfio-bindd:devices xmlns:vfio-bindd="https://vfio-bindd.org/libvirt/1">
//!   <vfio-bindd:mapping name="gpu" count="1"/>
//! </vfio-bindd:devices>
//! ```
//!
//! Strict, as the config is: libvirt checks nothing in there, and a mistyped
//! request that is passed over is a guest without its device. What others have
//! in their own namespaces is theirs.

use roxmltree::{Attribute, Node};

use super::{
    alias::{AliasError, is_name},
    xml::{XmlError, text},
};

/// The namespace of our elements in `<metadata>`.
const NAMESPACE: &str = "https://vfio-bindd.org/libvirt/1";
/// What the namespaces of all versions start with.
const ANY_VERSION: &str = "https://vfio-bindd.org/libvirt/";

/// Functions of a mapping that a domain asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The mapping's name.
    pub mapping: String,
    /// How many of its devices, all without it.
    pub count: Option<u32>,
}

/// The requests in `metadata`, in the order that they are written in.
pub(super) fn read(metadata: Node<'_, '_>) -> Result<Vec<Request>, XmlError> {
    let mut requests = Vec::new();
    let mut seen = false;
    for element in metadata.children().filter(Node::is_element) {
        let namespace = element.tag_name().namespace().unwrap_or_default();
        if !namespace.starts_with(ANY_VERSION) {
            continue;
        }
        if namespace != NAMESPACE {
            let message = format!("the namespace {namespace} is not known, {NAMESPACE} is");
            return Err(XmlError::at(element, message));
        }
        expect(element, "devices")?;
        if seen {
            return Err(XmlError::at(element, "a second <devices> in our namespace"));
        }
        seen = true;
        devices(element, &mut requests)?;
    }
    Ok(requests)
}

fn devices(devices: Node<'_, '_>, requests: &mut Vec<Request>) -> Result<(), XmlError> {
    if let Some(one) = ours(devices).next() {
        return Err(unknown(devices, one, "<devices> takes none"));
    }
    no_text(devices)?;
    for element in devices.children().filter(Node::is_element) {
        match element.tag_name().namespace() {
            Some(NAMESPACE) => expect(element, "mapping")?,
            Some(_) => continue,
            None => {
                let name = element.tag_name().name();
                let message = format!("<{name}> is not in the namespace {NAMESPACE}");
                return Err(XmlError::at(element, message));
            }
        }
        let request = mapping(element)?;
        if requests.iter().any(|one| one.mapping == request.mapping) {
            let message = format!("the mapping '{}' is asked for twice", request.mapping);
            return Err(XmlError::at(element, message));
        }
        requests.push(request);
    }
    Ok(())
}

fn mapping(element: Node<'_, '_>) -> Result<Request, XmlError> {
    let mut name = None;
    let mut count = None;
    for one in ours(element) {
        let wrong = |message: String| XmlError::in_attribute(element, one, message);
        let value = one.value();
        match (one.namespace(), one.name()) {
            (None, "name") if is_name(value) => name = Some(value.to_owned()),
            (None, "name") => return Err(wrong(AliasError::Name(value.to_owned()).to_string())),
            (None, "count") => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse().ok().filter(|number| digits && *number > 0);
                let message = || wrong(format!("'{value}' is no count: expected 1 or more"));
                count = Some(number.ok_or_else(message)?);
            }
            _ => return Err(unknown(element, one, "<mapping> takes name and count")),
        }
    }
    no_text(element)?;
    let inner = |child: &Node<'_, '_>| {
        let namespace = child.tag_name().namespace();
        child.is_element() && namespace.is_none_or(|namespace| namespace == NAMESPACE)
    };
    if let Some(child) = element.children().find(inner) {
        let message = format!(
            "unknown element <{}>: <mapping> takes none",
            child.tag_name().name()
        );
        return Err(XmlError::at(child, message));
    }
    let mapping = name.ok_or_else(|| XmlError::at(element, "<mapping> without a name"))?;
    Ok(Request { mapping, count })
}

/// The attributes that are ours to judge: our namespace's, and those of none,
/// which belong to the element.
fn ours<'a, 'i>(element: Node<'a, 'i>) -> impl Iterator<Item = Attribute<'a, 'i>> {
    let ours = |one: &Attribute<'_, '_>| one.namespace().is_none_or(|uri| uri == NAMESPACE);
    element.attributes().filter(ours)
}

fn unknown(element: Node<'_, '_>, attribute: Attribute<'_, '_>, right: &str) -> XmlError {
    let message = format!("unknown attribute '{}': {right}", attribute.name());
    XmlError::in_attribute(element, attribute, message)
}

fn expect(element: Node<'_, '_>, name: &str) -> Result<(), XmlError> {
    let found = element.tag_name().name();
    if found == name {
        return Ok(());
    }
    let message = format!("unknown element <{found}>: expected <{name}>");
    Err(XmlError::at(element, message))
}

fn no_text(element: Node<'_, '_>) -> Result<(), XmlError> {
    let text = text(element);
    let text = text.trim();
    if text.is_empty() {
        return Ok(());
    }
    let name = element.tag_name().name();
    let message = format!("<{name}> takes no text, but has '{text}'");
    Err(XmlError::at(element, message))
}

#[cfg(test)]
mod tests {
    use super::{super::xml::parse, *};

    fn requests(inner: &str) -> Result<Vec<Request>, String> {
        let text = format!(
            "<metadata xmlns:v='{NAMESPACE}' xmlns:o='https://libosinfo.org/'>\n{inner}\n</metadata>"
        );
        let document = parse(&text).unwrap();
        read(document.root_element()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_others_have_is_theirs() {
        for inner in [
            "",
            "<o:devices><o:mapping/>text</o:devices>",
            "<devices><mapping nam='gpu'/></devices>",
            "<v:devices/>",
            "<v:devices o:x='1'>\n<!-- v:mapping --><o:mapping/></v:devices>",
        ] {
            assert_eq!(requests(inner), Ok(Vec::new()), "{inner}");
        }
    }

    #[test]
    fn mappings_are_read_in_order() {
        let inner = "<v:devices><v:mapping name=\"nvme-pool\" count='2' o:y=''><o:z/></v:mapping>\
                     <v:mapping name='gpu'/></v:devices>";
        let expected = [("nvme-pool", Some(2)), ("gpu", None)].map(|(mapping, count)| Request {
            mapping: mapping.to_owned(),
            count,
        });
        assert_eq!(requests(inner), Ok(expected.to_vec()));
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let in_devices = |inner: &str| requests(&format!("<v:devices>{inner}</v:devices>"));
        for (inner, expected) in [
            (
                "<v:mapping nam='gpu'/>",
                "column 23: unknown attribute 'nam': <mapping> takes name and count",
            ),
            (
                "<v:mapping v:name='gpu'/>",
                "column 23: unknown attribute 'name': <mapping> takes name and count",
            ),
            ("<v:mapping/>", "column 12: <mapping> without a name"),
            (
                "<v:mapping name='GPU'/>",
                "column 23: 'GPU' is no name of a mapping: expected a lower-case letter, then at \
                 least one more of a-z, 0-9, _ and -",
            ),
            (
                "<v:mapping name='gpu' count='0'/>",
                "column 34: '0' is no count: expected 1 or more",
            ),
            (
                "<v:mapping name='gpu' count='+1'/>",
                "column 34: '+1' is no count: expected 1 or more",
            ),
            (
                "<v:mapping name='gpu' count=''/>",
                "column 34: '' is no count: expected 1 or more",
            ),
            (
                "<v:mapping name='gpu'/><v:mapping name='gpu'/>",
                "column 35: the mapping 'gpu' is asked for twice",
            ),
            (
                "<v:map name='gpu'/>",
                "column 12: unknown element <map>: expected <mapping>",
            ),
            (
                "<mapping name='gpu'/>",
                "column 12: <mapping> is not in the namespace https://vfio-bindd.org/libvirt/1",
            ),
            (
                "<v:mapping name='gpu'><count/></v:mapping>",
                "column 34: unknown element <count>: <mapping> takes none",
            ),
            (
                "<v:mapping name='gpu'>2</v:mapping>",
                "column 12: <mapping> takes no text, but has '2'",
            ),
            ("gpu", "column 1: <devices> takes no text, but has 'gpu'"),
        ] {
            let expected = format!("the domain's XML, line 2, {expected}");
            assert_eq!(in_devices(inner), Err(expected), "{inner}");
        }
    }

    #[test]
    fn our_namespace_has_one_element_and_one_version() {
        for (inner, expected) in [
            (
                "<v:device/>",
                "column 1: unknown element <device>: expected <devices>",
            ),
            (
                "<v:devices/><v:devices/>",
                "column 13: a second <devices> in our namespace",
            ),
            (
                "<v:devices count='1'/>",
                "column 12: unknown attribute 'count': <devices> takes none",
            ),
            (
                "<v:devices xmlns:v='https://vfio-bindd.org/libvirt/2'/>",
                "column 1: the namespace https://vfio-bindd.org/libvirt/2 is not known, \
                 https://vfio-bindd.org/libvirt/1 is",
            ),
        ] {
            let expected = format!("the domain's XML, line 2, {expected}");
            assert_eq!(requests(inner), Err(expected), "{inner}");
        }
    }
}
