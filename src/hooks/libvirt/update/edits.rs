//! Splices in a text by byte ranges.

use std::ops::Range;

use roxmltree::Node;

use super::super::{
    hostdev::Hostdev,
    xml::{attribute, value_range, written_name},
};

/// What XML calls white space.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
/// How libvirt indents.
const INDENT: &str = "  ";

/// Replacements in one text, none of which overlap.
pub(super) struct Edits<'t> {
    text: &'t str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'t> Edits<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            edits: Vec::new(),
        }
    }

    /// Gives the element's attribute this value, in the quotes that it has. A
    /// new one is put behind the others, or behind the name.
    pub(super) fn set(&mut self, element: Node<'_, '_>, name: &str, value: &str) {
        if let Some(attribute) = attribute(element, name) {
            let range = value_range(element, attribute);
            self.edits.push((range, value.to_owned()));
            return;
        }
        let last = element.attributes().map(|one| one.range().end).max();
        let at = last.unwrap_or(element.range().start + 1 + written_name(element).len());
        self.edits.push((at..at, format!(" {name}='{value}'")));
    }

    /// Takes out the element and its line, as far as that is its own.
    pub(super) fn remove(&mut self, element: Node<'_, '_>) {
        let range = element.range();
        let start = range.start - self.lead(range.start).len();
        self.edits.push((start..range.end, String::new()));
    }

    /// Puts elements behind `element`, indented as it is.
    pub(super) fn insert_behind(&mut self, element: Node<'_, '_>, hostdevs: &[Hostdev]) {
        let range = element.range();
        let lead = line_start(self.lead(range.start)).unwrap_or("\n");
        self.edits
            .push((range.end..range.end, lines(hostdevs, lead)));
    }

    /// Puts elements at the end of `devices`, indented as its first element.
    pub(super) fn append(&mut self, devices: Node<'_, '_>, hostdevs: &[Hostdev]) {
        let range = devices.range();
        let whole = self.text.get(range.clone()).unwrap_or_default();
        if let Some(open) = whole.strip_suffix("/>") {
            let lead = line_start(self.lead(range.start));
            let inner = lead.map_or("\n".to_owned(), |lead| format!("{lead}{INDENT}"));
            let end = lead.unwrap_or_default();
            let text = format!(
                ">{}{end}</{}>",
                lines(hostdevs, &inner),
                written_name(devices)
            );
            self.edits.push((range.start + open.len()..range.end, text));
            return;
        }
        let close = range.start + whole.rfind("</").unwrap_or(whole.len());
        let first = devices.first_element_child();
        let first = first.and_then(|first| line_start(self.lead(first.range().start)));
        let outer = line_start(self.lead(close)).map(|lead| format!("{lead}{INDENT}"));
        let lead = first.map(str::to_owned).or(outer);
        let at = self
            .text
            .get(..close)
            .unwrap_or_default()
            .trim_end_matches(SPACE)
            .len();
        let text = lines(hostdevs, lead.as_deref().unwrap_or("\n"));
        self.edits.push((at..at, text));
    }

    /// The new text, `None` if nothing is to be changed. Each part is there,
    /// since the ranges are the parser's and none overlap.
    pub(super) fn apply(mut self) -> Option<String> {
        // What is put at an end goes before what is taken out from there on.
        self.edits
            .sort_by_key(|(range, _)| (range.start, range.end));
        let mut new = String::with_capacity(self.text.len());
        let mut from = 0;
        for (range, text) in &self.edits {
            new.push_str(self.text.get(from..range.start)?);
            new.push_str(text);
            from = range.end;
        }
        new.push_str(self.text.get(from..)?);
        (!self.edits.is_empty()).then_some(new)
    }

    /// The white space before byte `at`, from the last line end on if it has one.
    fn lead(&self, at: usize) -> &'t str {
        let before = self.text.get(..at).unwrap_or_default();
        let space = before.get(before.trim_end_matches(SPACE).len()..);
        let space = space.unwrap_or_default();
        let Some(end) = space.rfind('\n') else {
            return space;
        };
        let start = match space.get(..end) {
            Some(ahead) if ahead.ends_with('\r') => end - 1,
            _ => end,
        };
        space.get(start..).unwrap_or_default()
    }
}

/// The white space if it begins a line.
fn line_start(lead: &str) -> Option<&str> {
    lead.contains('\n').then_some(lead)
}

/// The lines of the elements, `lead` (a line end and what indents) before each.
fn lines(hostdevs: &[Hostdev], lead: &str) -> String {
    let mut text = String::new();
    for hostdev in hostdevs {
        for line in hostdev.to_string().lines() {
            text.push_str(lead);
            text.push_str(line);
        }
    }
    text
}
