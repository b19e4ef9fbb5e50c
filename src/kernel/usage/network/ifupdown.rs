//! Interfaces in /etc/network/interfaces, as ifupdown, ifupdown2 and Proxmox VE
//! write it.
//!
//! Source: interfaces(5) of ifupdown 0.8.41, of ifupdown2 3.0 and of Open
//! vSwitch; bridge-utils-interfaces(5).

use std::collections::BTreeSet;

use super::interface::{Fit, Interface};
use crate::{kernel::usage::files::Files, policy::glob::Glob};

const MAIN: &str = "/etc/network/interfaces";
const FOLDER: &str = "/etc/network/interfaces.d";

/// How deep files may name files.
const DEPTH: u32 = 8;

/// What the files name.
#[derive(Debug, Default)]
pub(super) struct Ifupdown {
    /// File and what it names.
    named: Vec<(String, Named)>,
}

#[derive(Debug)]
enum Named {
    /// One interface, or with a dot or colon in it a VLAN or alias of one.
    One(String),
    Pattern(String),
    /// Every interface, as `bridge_ports all`.
    All,
}

impl Ifupdown {
    pub(super) fn read(files: &mut Files<'_>) -> Self {
        let mut reader = Reader {
            files,
            seen: BTreeSet::new(),
            named: Vec::new(),
        };
        reader.file(MAIN, 0);
        // What the main file does not name is meant, too: `ifup -i` may.
        reader.folder(FOLDER, &|name| !name.starts_with('.'), 0);
        Self {
            named: reader.named,
        }
    }

    /// The files that speak of `interface`.
    pub(super) fn naming(&self, interface: &Interface) -> Vec<&str> {
        let mut found: Vec<_> = self
            .named
            .iter()
            .filter(|(_, named)| named.means(interface))
            .map(|(file, _)| file.as_str())
            .collect();
        found.dedup();
        found
    }
}

impl Named {
    fn means(&self, interface: &Interface) -> bool {
        match self {
            Self::One(name) => {
                let base = name.split(['.', ':']).next().unwrap_or_default();
                interface.is(name) || interface.is(base)
            }
            Self::Pattern(glob) => interface.fits_name(&[glob]) > Fit::No,
            Self::All => true,
        }
    }

    /// A word where interfaces may be named by `/GLOB/` and more behind it.
    fn word(word: &str) -> Self {
        match word.strip_prefix('/') {
            Some(rest) => Self::Pattern(rest.split('/').next().unwrap_or_default().to_owned()),
            None if word.contains(['*', '?', '[']) => Self::Pattern(word.to_owned()),
            None => Self::One(word.to_owned()),
        }
    }
}

/// A stanza `iface` whose end is not read yet.
struct Stanza {
    name: String,
    /// Whether it asks for anything. `iface eno2 inet manual` alone does not:
    /// Proxmox VE writes it for every NIC that there is.
    asks: bool,
}

struct Reader<'a, 'h> {
    files: &'a mut Files<'h>,
    seen: BTreeSet<String>,
    named: Vec<(String, Named)>,
}

impl Reader<'_, '_> {
    fn file(&mut self, path: &str, depth: u32) {
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        let text = self.files.read(path);
        let mut stanza: Option<Stanza> = None;
        for line in logical_lines(&text) {
            let words: Vec<_> = line.split_whitespace().collect();
            let [keyword, rest @ ..] = words.as_slice() else {
                continue;
            };
            let begins = matches!(
                *keyword,
                "iface" | "mapping" | "auto" | "rename" | "source" | "source-directory"
            ) || keyword.starts_with("allow-")
                || keyword.starts_with("no-auto-down")
                || keyword.starts_with("no-scripts");
            if begins {
                self.end(path, stanza.take());
            }
            match *keyword {
                "iface" => stanza = begin(rest),
                "source" => rest.iter().for_each(|to| self.source(path, to, depth)),
                "source-directory" => {
                    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                    for to in rest {
                        let to = beside(path, to);
                        self.folder(&to, &|name| name.chars().all(plain), depth);
                    }
                }
                _ if begins => {
                    let words = rest.iter().flat_map(|word| word.split('='));
                    self.name(path, words.map(Named::word));
                }
                option => {
                    if let Some(stanza) = stanza.as_mut() {
                        stanza.asks = true;
                    }
                    self.name(path, of_option(option, rest).into_iter());
                }
            }
        }
        self.end(path, stanza);
    }

    fn end(&mut self, path: &str, stanza: Option<Stanza>) {
        if let Some(stanza) = stanza.filter(|stanza| stanza.asks) {
            self.name(path, std::iter::once(Named::word(&stanza.name)));
        }
    }

    fn name(&mut self, path: &str, named: impl Iterator<Item = Named>) {
        self.named
            .extend(named.map(|named| (path.to_owned(), named)));
    }

    /// Files by a pattern of the shell, in the last part of the path only.
    fn source(&mut self, from: &str, pattern: &str, depth: u32) {
        let path = beside(from, pattern);
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        if folder.contains(['*', '?', '[', '$', '`', '~', '{']) || name.contains(['$', '`', '{']) {
            let text = format!("{from} names more files by {pattern}, which cannot be followed");
            self.files.troubles.push(text);
        } else if !name.contains(['*', '?', '[']) {
            self.deeper(&path, depth);
        } else if let Ok(glob) = name.parse::<Glob>() {
            let hidden = name.starts_with('.');
            let fits = |name: &str| glob.matches(name) && name.starts_with('.') == hidden;
            self.folder(folder, &fits, depth);
        }
    }

    fn folder(&mut self, folder: &str, fits: &dyn Fn(&str) -> bool, depth: u32) {
        for name in self.files.list(folder) {
            if fits(&name) {
                self.deeper(&format!("{folder}/{name}"), depth);
            }
        }
    }

    fn deeper(&mut self, path: &str, depth: u32) {
        if depth < DEPTH {
            self.file(path, depth + 1);
        } else {
            let text = format!("{path} is named by files that are named by too many others");
            self.files.troubles.push(text);
        }
    }
}

/// Lines without comments; a backslash at the end of one joins the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before = String::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        before += line;
        if let Some(unfinished) = before.strip_suffix('\\') {
            before = format!("{unfinished} ");
        } else {
            lines.push(std::mem::take(&mut before));
        }
    }
    lines.push(before);
    lines
}

/// `iface NAME [FAMILY [METHOD]]`, and after that `inherits` or nothing.
fn begin(words: &[&str]) -> Option<Stanza> {
    let [name, rest @ ..] = words else {
        return None;
    };
    Some(Stanza {
        name: (*name).to_owned(),
        asks: !matches!(rest, [] | [_, "manual"]),
    })
}

/// What an option of a stanza names: any word of it may be an interface, be it
/// of `bridge-ports`, `vlan-raw-device`, `ovs_bonds` or of a command in
/// `post-up`.
fn of_option(option: &str, words: &[&str]) -> Vec<Named> {
    let is_list = option.ends_with("ports") || option.ends_with("slaves");
    let mut globs = false;
    let mut named = Vec::new();
    for word in words {
        match *word {
            "all" | "regex" if is_list => named.push(Named::All),
            "glob" if is_list => globs = true,
            // `swp1-6` is a range of ifupdown2.
            word if globs && word.contains('-') && !word.contains('[') => {
                let digits = |c: char| c.is_ascii_digit();
                let start = word.split('-').next().unwrap_or_default();
                let start = start.trim_end_matches(digits);
                named.push(Named::Pattern(format!("{start}*")));
            }
            word if is_list => named.push(Named::word(word)),
            word => named.push(Named::One(word.to_owned())),
        }
    }
    named
}

/// A path as the file at `from` means it.
fn beside(from: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.trim_end_matches('/').to_owned();
    }
    let (folder, _) = from.rsplit_once('/').unwrap_or_default();
    format!("{folder}/{}", path.trim_end_matches('/'))
}
