//! As much of YAML as netplan's files are made of: nested maps and lists, also
//! in braces and brackets, plain and quoted scalars, comments.
//!
//! What it does not know, as anchors or texts of many lines, is an error: half
//! understood, a file could lose the interface that it names.
//! Source: YAML 1.2, chapters 6 to 8.

mod flow;

use self::flow::inline;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Nothing,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The entries of a map.
    pub(super) fn map(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let mut entries = self.map().iter();
        entries.find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The scalar, or those in the list.
    pub(super) fn scalars(&self) -> Vec<&str> {
        match self {
            Self::Scalar(text) => vec![text],
            Self::List(nodes) => nodes.iter().flat_map(Self::scalars).collect(),
            _ => Vec::new(),
        }
    }
}

/// A line with something on it, or lines that a bracket joins.
struct Line {
    indent: usize,
    text: String,
    number: usize,
}

/// Reads one document.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut lines = lines(text)?;
    let mut at = 0;
    let Some(indent) = lines.first().map(|first| first.indent) else {
        return Ok(Node::Nothing);
    };
    let node = block(&mut lines, &mut at, indent)?;
    match lines.get(at) {
        Some(line) => Err(wrong(line, "does not fit to the lines before it")),
        None => Ok(node),
    }
}

fn wrong(line: &Line, what: &str) -> String {
    format!("line {} {what}", line.number)
}

fn unknown(line: &Line) -> String {
    wrong(line, "has a value that is not understood")
}

fn lines(text: &str) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> = Vec::new();
    let mut depth = 0;
    for (number, raw) in (1..).zip(text.lines()) {
        let text = without_comment(raw).trim_end();
        let bare = text.trim_start_matches(' ');
        // `%` begins a directive, which may change what follows.
        if bare.is_empty() || text == "---" && lines.is_empty() {
            continue;
        }
        let line = Line {
            indent: text.len() - bare.len(),
            text: bare.to_owned(),
            number,
        };
        if bare.starts_with(['\t', '%']) || text == "---" || text == "..." {
            return Err(wrong(&line, "begins with what is not understood here"));
        }
        let opened = depth > 0;
        depth += brackets(bare);
        match lines.last_mut() {
            Some(before) if opened => before.text = format!("{} {bare}", before.text),
            _ => lines.push(line),
        }
    }
    match lines.last() {
        Some(line) if depth > 0 => Err(wrong(line, "opens a bracket that nothing closes")),
        _ => Ok(lines),
    }
}

/// Calls `each` with the characters outside of quotes and what is before each.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char, Option<char>)> {
    let mut quote = None;
    let mut before = None;
    text.char_indices().filter_map(move |(at, c)| {
        let last = before.replace(c);
        match quote {
            Some(open) => {
                if c == open && !(open == '"' && last == Some('\\')) {
                    quote = None;
                }
                None
            }
            // A quote within a word is a part of it.
            None if matches!(c, '"' | '\'') && last.is_none_or(|c| " [{,:".contains(c)) => {
                quote = Some(c);
                None
            }
            None => Some((at, c, last)),
        }
    })
}

fn without_comment(line: &str) -> &str {
    let start = unquoted(line)
        .find(|(_, c, before)| *c == '#' && before.is_none_or(char::is_whitespace))
        .map_or(line.len(), |(at, ..)| at);
    line.get(..start).unwrap_or_default()
}

/// By how many brackets more are opened than closed.
fn brackets(text: &str) -> i32 {
    unquoted(text)
        .map(|(_, c, _)| match c {
            '[' | '{' => 1,
            ']' | '}' => -1,
            _ => 0,
        })
        .sum()
}

/// The value that the lines from `at` on with `indent` make.
fn block(lines: &mut [Line], at: &mut usize, indent: usize) -> Result<Node, String> {
    let Some(line) = lines.get(*at) else {
        return Ok(Node::Nothing);
    };
    if item(&line.text).is_some() {
        list(lines, at, indent)
    } else if key(&line.text).is_some() {
        map(lines, at, indent)
    } else {
        *at += 1;
        inline(&line.text).ok_or_else(|| unknown(line))
    }
}

/// The items with `indent`, up to a line that is none.
fn list(lines: &mut [Line], at: &mut usize, indent: usize) -> Result<Node, String> {
    let mut nodes = Vec::new();
    while let Some(line) = lines.get_mut(*at).filter(|line| line.indent == indent)
        && let Some(rest) = item(&line.text)
    {
        let rest = rest.trim_start();
        if rest.is_empty() {
            *at += 1;
            nodes.push(nested(lines, at, indent + 1)?);
        } else {
            // The item is a block that begins on this very line.
            line.indent += line.text.len() - rest.len();
            line.text = rest.to_owned();
            let indent = line.indent;
            nodes.push(block(lines, at, indent)?);
        }
    }
    Ok(Node::List(nodes))
}

/// The keys with `indent`, up to a line that has none.
fn map(lines: &mut [Line], at: &mut usize, indent: usize) -> Result<Node, String> {
    let mut entries = Vec::new();
    while let Some(line) = lines.get(*at).filter(|line| line.indent == indent)
        && item(&line.text).is_none()
        && let Some((name, rest)) = key(&line.text)
    {
        let name = name.to_owned();
        *at += 1;
        let value = if rest.is_empty() {
            // A list may stand right below its key.
            let next = lines.get(*at);
            let is_list = next.is_some_and(|next| item(&next.text).is_some());
            nested(lines, at, if is_list { indent } else { indent + 1 })?
        } else {
            inline(rest).ok_or_else(|| unknown(line))?
        };
        entries.push((name, value));
    }
    Ok(Node::Map(entries))
}

/// The block that follows, if it is indented by `least` or more.
fn nested(lines: &mut [Line], at: &mut usize, least: usize) -> Result<Node, String> {
    match lines.get(*at).map(|line| line.indent) {
        Some(indent) if indent >= least => block(lines, at, indent),
        _ => Ok(Node::Nothing),
    }
}

/// What stands behind the dash of an item.
fn item(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('-')?;
    (rest.is_empty() || rest.starts_with(' ')).then_some(rest)
}

/// A key without its quotes, and what stands behind its colon.
fn key(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['[', '{']) {
        return None;
    }
    let ends = |at: usize| {
        text.get(at + 1..)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let (at, ..) = unquoted(text).find(|(at, c, _)| *c == ':' && ends(*at))?;
    let (name, rest) = text.split_at_checked(at)?;
    let rest = rest.strip_prefix(':').unwrap_or_default();
    Some((name.trim().trim_matches(['"', '\'']), rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        match node {
            Node::Nothing => "~".to_owned(),
            Node::Scalar(text) => text.clone(),
            Node::List(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(shown).collect();
                format!("[{}]", nodes.join(","))
            }
            Node::Map(entries) => {
                let entries = entries.iter();
                let entries: Vec<_> = entries
                    .map(|(key, value)| format!("{key}={}", shown(value)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    #[test]
    fn what_netplan_has_is_read() {
        for (text, wanted) in [
            ("", "~"),
            ("# only\n\n---\n", "~"),
            ("a: 1 # one\nb:\nc: 'x # y'\n", "{a=1,b=~,c=x # y}"),
            (
                "---\na:\n  b:\n    c: d\n  e: f\ng: h\n",
                "{a={b={c=d},e=f},g=h}",
            ),
            ("a:\n- 1\n- 2\nb: 3\n", "{a=[1,2],b=3}"),
            (
                "a:\n  - b: 1\n    c: 2\n  - b: 3\n",
                "{a=[{b=1,c=2},{b=3}]}",
            ),
            ("a:\n  -\n    b: 1\n", "{a=[{b=1}]}"),
            ("a: [x, \"y, z\", [w]]\n", "{a=[x,y, z,[w]]}"),
            (
                "a: {b: 52:54:00:12, c: {d: e}, f: }\n",
                "{a={b=52:54:00:12,c={d=e},f=~}}",
            ),
            ("a: [x,\n    y, # why\n]\nb: 1\n", "{a=[x,y],b=1}"),
            (
                "mac: 52:54:00:12:34:56\nip: fe80::1\n",
                "{mac=52:54:00:12:34:56,ip=fe80::1}",
            ),
            (
                "\"a b\": 1\n'fe80::1/64':\n  x: 1\n",
                "{a b=1,fe80::1/64={x=1}}",
            ),
            ("name: en*s[0-9]\nit: don't\n", "{name=en*s[0-9],it=don't}"),
            ("a: {}\nb: []\n", "{a={},b=[]}"),
        ] {
            let read = parse(text).map(|node| shown(&node));
            assert_eq!(read.as_deref(), Ok(wanted), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error_with_its_line() {
        for (text, line) in [
            ("a: 1\n b: 2\n", 2),
            ("a:\n\tb: 1\n", 2),
            ("a: &x 1\n", 1),
            ("a: *x\n", 1),
            ("a: |\n  text\n", 1),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: [x\nb: 1\n", 1),
            ("a: \"x\\ty\"\n", 1),
            ("a: 'x\n", 1),
            ("a: long\n  text\n", 2),
            ("a: 1\nword\n", 2),
            ("a: 1\n- 2\n", 2),
            ("a: {b}\n", 1),
            ("%YAML 1.2\n", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("line {line} ")),
                "{text:?}: {error}"
            );
        }
    }
}
