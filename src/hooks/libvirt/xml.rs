//! XML with places: where an error is, and which bytes a value has.

use std::{fmt, ops::Range};

use roxmltree::{Attribute, Document, Error, Node};

/// More than libvirt itself hands out: a string of its protocol ends at 4 MiB
/// (libvirt remote_protocol.x, `REMOTE_STRING_MAX`).
const MOST_BYTES: usize = 4 << 20;
/// The parser copies the namespaces in scope for each element that declares
/// one: half a mebibyte of nested ones takes gigabytes. Domains have a few.
const MOST_NAMESPACES: usize = 1000;
/// The parser compares each attribute with all before it in its element: a
/// mebibyte of them takes ten seconds. Libvirt's elements have ten or so.
const MOST_ATTRIBUTES: usize = 10_000;

/// A line and a column in characters, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Position {
    /// Where byte `offset` of `text` is.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A domain's XML that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the domain's XML, {position}: {message}")]
pub struct XmlError {
    /// Where.
    pub position: Position,
    /// What is wrong.
    pub message: String,
}

impl XmlError {
    pub(super) fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self {
            position: Position::of(text, offset),
            message: message.into(),
        }
    }

    pub(super) fn at(node: Node<'_, '_>, message: impl Into<String>) -> Self {
        Self::new(node.document().input_text(), node.range().start, message)
    }

    pub(super) fn in_attribute(
        node: Node<'_, '_>,
        attribute: Attribute<'_, '_>,
        message: impl Into<String>,
    ) -> Self {
        let offset = attribute.range().start;
        Self::new(node.document().input_text(), offset, message)
    }
}

/// Reads a document. A DTD is refused: libvirt writes none, and entities that
/// name each other grow without end.
pub(super) fn parse(text: &str) -> Result<Document<'_>, XmlError> {
    if text.len() > MOST_BYTES {
        let message = format!("more than {MOST_BYTES} bytes are no domain's XML");
        return Err(XmlError::new(text, 0, message));
    }
    bounded(text)?;
    Document::parse(text).map_err(|error| match error {
        Error::DtdDetected => {
            let offset = text.find("<!DOCTYPE").unwrap_or_default();
            XmlError::new(text, offset, "a document type is not taken")
        }
        Error::UnexpectedEndOfStream | Error::UnclosedRootNode => {
            XmlError::new(text, text.len(), "it ends too early")
        }
        Error::NoRootNode => XmlError::new(text, text.len(), "it has no element"),
        other => {
            let found = other.pos();
            XmlError {
                position: Position {
                    line: usize::try_from(found.row).unwrap_or(usize::MAX),
                    column: usize::try_from(found.col).unwrap_or(usize::MAX),
                },
                message: other.to_string().replace(&format!(" at {found}"), ""),
            }
        }
    })
}

/// Refuses what would take the parser long. Counts also what only looks like a
/// declaration or an attribute, of which real text has few as well.
fn bounded(text: &str) -> Result<(), XmlError> {
    if let Some((offset, _)) = text.match_indices("xmlns").nth(MOST_NAMESPACES) {
        let message = format!("more than {MOST_NAMESPACES} declarations of namespaces");
        return Err(XmlError::new(text, offset, message));
    }
    let mut offset = 0;
    for part in text.split('<') {
        if let Some((within, _)) = part.match_indices('=').nth(MOST_ATTRIBUTES) {
            let message = format!("more than {MOST_ATTRIBUTES} attributes in one element");
            return Err(XmlError::new(text, offset + within, message));
        }
        offset += part.len() + "<".len();
    }
    Ok(())
}

/// Whether `node` is an element of libvirt's, which have no namespace.
pub(super) fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

/// The elements of libvirt's in `node` with this name.
pub(super) fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| is(*child, name))
}

/// The attribute of libvirt's with this name.
pub(super) fn attribute<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Attribute<'a, 'i>> {
    node.attributes()
        .find(|one| one.namespace().is_none() && one.name() == name)
}

/// The value of the attribute of libvirt's with this name.
pub(super) fn value<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    attribute(node, name).map(|one| one.value())
}

/// All text in `node`, also around comments and in CDATA.
pub(super) fn text(node: Node<'_, '_>) -> String {
    node.children()
        .filter(|child| child.is_text())
        .filter_map(|child| child.text())
        .collect()
}

/// The name of an element as it is written, with a prefix if it has one.
pub(super) fn written_name<'i>(node: Node<'_, 'i>) -> &'i str {
    let written = node.document().input_text().get(node.range());
    let inner = written.and_then(|written| written.strip_prefix('<'));
    let mut parts = inner
        .unwrap_or_default()
        .split([' ', '\t', '\r', '\n', '/', '>']);
    parts.next().unwrap_or_default()
}

/// The bytes between an attribute's quotes. The crate's own range is wrong
/// with more than 255 spaces around the `=` (roxmltree 0.21, `range_value`).
pub(super) fn value_range(node: Node<'_, '_>, attribute: Attribute<'_, '_>) -> Range<usize> {
    let range = attribute.range();
    let written = node.document().input_text().get(range.clone());
    let quote = written.and_then(|written| {
        let equals = written.find('=')?;
        let quote = written.get(equals..)?.find(['\'', '"'])?;
        Some(range.start + equals + quote + 1)
    });
    let end = range.end.saturating_sub(1);
    quote.unwrap_or(end)..end
}

/// A number as libvirt reads it: `0x` is hex, a leading `0` octal (libvirt
/// device_conf.c, `virPCIDeviceAddressParseXML`, which asks for base 0).
pub(super) fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_libvirt_does() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0x41", Some(0x41)),
            ("0X1F", Some(0x1f)),
            ("10", Some(10)),
            ("010", Some(8)),
            ("0x10000", Some(0x10000)),
            ("", None),
            ("0x", None),
            ("08", None),
            ("+1", None),
            ("0x+1", None),
            ("-1", None),
            ("1a", None),
            ("0x100000000", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        let many = "x".repeat(MOST_BYTES + 1);
        for (text, expected) in [
            ("", "line 1, column 1: it has no element"),
            ("<a>\n  <b>\n", "line 3, column 1: it ends too early"),
            ("<a>\n é</b>", "line 2, column 3: expected 'a' tag, not 'b'"),
            ("<a\n b='<'/>", "line 2, column 5: expected ''' not '<'"),
            (
                "<a b='1' b='2'/>",
                "line 1, column 10: attribute 'b' is already defined",
            ),
            (
                "<a>\n&x;</a>",
                "line 2, column 1: unknown entity reference 'x'",
            ),
            ("<a/>\n<a/>", "line 2, column 1: unknown token"),
            (
                "\n<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
                "line 2, column 1: a document type is not taken",
            ),
            (
                &many,
                "line 1, column 1: more than 4194304 bytes are no domain's XML",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("the domain's XML, {expected}"));
        }
    }

    #[test]
    fn what_takes_long_is_refused() {
        let nested: String = (0..20_000)
            .map(|n| format!("<a xmlns:n{n}='{n}'>\n"))
            .collect();
        let wide: String = (0..20_000).map(|n| format!(" a{n}=''")).collect();
        for (text, expected) in [
            (
                nested,
                "line 1001, column 4: more than 1000 declarations of namespaces",
            ),
            (
                format!("<b c='1'/>\n<a{wide}/>"),
                "line 2, column 88900: more than 10000 attributes in one element",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert_eq!(error, format!("the domain's XML, {expected}"));
        }
    }

    #[test]
    fn a_value_is_found_behind_any_spaces() {
        for (spaces, quote) in [(0, '\''), (1, '"'), (300, '\'')] {
            let spaces = " ".repeat(spaces);
            let text = format!("<a b{spaces}={spaces}{quote}1 = 2{quote} c=''/>");
            let document = parse(&text).unwrap();
            let root = document.root_element();
            let range = value_range(root, attribute(root, "b").unwrap());
            assert_eq!(&text[range], "1 = 2");
            let empty = value_range(root, attribute(root, "c").unwrap());
            assert_eq!(&text[empty.clone()], "");
            assert_eq!(&text[empty.end..], "'/>");
        }
    }
}
