//! Values on one line: scalars, and lists and maps in brackets and braces.

use super::Node;

/// The value that the whole of `text` is, `None` if it is not understood.
pub(super) fn inline(text: &str) -> Option<Node> {
    let mut flow = Flow { rest: text };
    let node = flow.value(&[])?;
    flow.rest.trim().is_empty().then_some(node)
}

struct Flow<'a> {
    rest: &'a str,
}

impl Flow<'_> {
    fn value(&mut self, ends: &[char]) -> Option<Node> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '[' => self.collection(']', false),
            '{' => self.collection('}', true),
            quote @ ('"' | '\'') => self.quoted(quote).map(Node::Scalar),
            // Anchors, aliases, tags, texts of many lines, reserved.
            '&' | '*' | '!' | '|' | '>' | '@' | '`' | '%' => None,
            _ => {
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at_checked(end)?;
                self.rest = rest;
                Some(Node::Scalar(text.trim().to_owned()))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let body = self.rest.strip_prefix(quote)?;
        let (text, rest) = body.split_at_checked(body.find(quote)?)?;
        // An escape, or a quote that is doubled, is in no name of an interface.
        let rest = rest
            .strip_prefix(quote)
            .filter(|rest| !rest.starts_with(quote))?;
        if quote == '"' && text.contains('\\') {
            return None;
        }
        self.rest = rest;
        Some(text.to_owned())
    }

    fn collection(&mut self, end: char, is_map: bool) -> Option<Node> {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
        let (mut list, mut map) = (Vec::new(), Vec::new());
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(end) {
                self.rest = rest;
                return Some(if is_map {
                    Node::Map(map)
                } else {
                    Node::List(list)
                });
            }
            if is_map {
                let Node::Scalar(name) = self.value(&[':', ',', '}'])? else {
                    return None;
                };
                self.rest = self.rest.trim_start().strip_prefix(':')?.trim_start();
                let value = if self.rest.starts_with([',', '}']) {
                    Node::Nothing
                } else {
                    self.value(&[',', '}'])?
                };
                map.push((name, value));
            } else {
                list.push(self.value(&[',', ']'])?);
            }
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None if self.rest.starts_with(end) => {}
                None => return None,
            }
        }
    }
}
