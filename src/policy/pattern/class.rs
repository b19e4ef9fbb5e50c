//! Class patterns: names and hex globs.
//!
//! Source of the codes: PCI Code and ID Assignment Specification 1.16.

use std::{fmt, str::FromStr};

use super::PatternError;
use crate::{pci::id::ClassCode, policy::glob::Glob};

/// Class names and the leading hex digits that each covers.
const CLASSES: &[(&str, &[&str])] = &[
    ("storage", &["01"]),
    ("raid", &["0104"]),
    ("sata", &["0106"]),
    ("sas", &["0107"]),
    ("nvme", &["0108"]),
    ("network", &["02"]),
    ("ethernet", &["0200"]),
    ("display", &["03"]),
    ("vga", &["0300"]),
    ("3d", &["0302"]),
    ("multimedia", &["04"]),
    ("audio", &["0401", "0403"]),
    ("memory", &["05"]),
    ("bridge", &["06"]),
    ("communication", &["07"]),
    ("system", &["08"]),
    ("input", &["09"]),
    ("processor", &["0b"]),
    ("serial-bus", &["0c"]),
    ("firewire", &["0c00"]),
    ("usb", &["0c03"]),
    ("infiniband", &["0207", "0c06"]),
    ("wireless", &["0d"]),
    ("crypto", &["10"]),
    ("accelerator", &["12"]),
];

/// A hex glob over the six digits of a class code, or a class name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassPattern {
    text: String,
    test: ClassTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ClassTest {
    Prefixes(&'static [&'static str]),
    Digits(Glob),
}

impl ClassPattern {
    /// Whether the six digits of a class code match.
    #[must_use]
    pub fn matches(&self, digits: &str) -> bool {
        match &self.test {
            ClassTest::Prefixes(prefixes) => {
                prefixes.iter().any(|prefix| digits.starts_with(prefix))
            }
            ClassTest::Digits(glob) => glob.matches(digits),
        }
    }

    /// The name that says most of what has this class code, `None` if none covers it.
    #[must_use]
    pub fn name_of(class: ClassCode) -> Option<&'static str> {
        let digits = class.to_string();
        let prefixes = CLASSES
            .iter()
            .flat_map(|(name, prefixes)| prefixes.iter().map(move |prefix| (*name, *prefix)));
        let covering = prefixes.filter(|(_, prefix)| digits.starts_with(prefix));
        covering
            .max_by_key(|(_, prefix)| prefix.len())
            .map(|(name, _)| name)
    }

    /// The class names, for messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CLASSES.iter().map(|(name, _)| *name)
    }
}

impl FromStr for ClassPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let lower = text.to_ascii_lowercase();
        let named = CLASSES.iter().find(|(name, _)| *name == lower);
        let test = match named {
            Some((_, prefixes)) => ClassTest::Prefixes(prefixes),
            None => ClassTest::Digits(class_glob(text)?),
        };
        Ok(Self { text: lower, test })
    }
}

fn class_glob(text: &str) -> Result<Glob, PatternError> {
    let wrong = |why: &str| {
        PatternError(format!(
            "'{text}' is not a class: {why}; expected six hex digits or a glob over them, like \
             '0108*', or a name: {}",
            ClassPattern::names().collect::<Vec<_>>().join(", ")
        ))
    };
    let glob: Glob = text.parse().map_err(|error| wrong(&format!("{error}")))?;
    if !text
        .chars()
        .all(|c| c.is_ascii_hexdigit() || "*?[]!-".contains(c))
    {
        return Err(wrong("no class has this name"));
    }
    if !text.contains('*') && width(text) != 6 {
        return Err(wrong("a class code has six digits"));
    }
    Ok(glob)
}

/// How many characters a glob without `*` matches.
fn width(glob: &str) -> usize {
    let mut inside = false;
    glob.chars()
        .filter(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                _ if inside => return false,
                _ => return true,
            }
            *c == ']'
        })
        .count()
}

impl fmt::Display for ClassPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_names_or_globs() {
        for (class, code, wanted) in [
            ("nvme", 0x01_0802, true),
            ("NVMe", 0x01_0802, true),
            ("storage", 0x01_0601, true),
            ("0108*", 0x01_0802, true),
            ("01080?", 0x01_0802, true),
            ("010[0-6]*", 0x01_0802, false),
            ("010802", 0x01_0802, true),
            ("audio", 0x04_0300, true),
        ] {
            let pattern: ClassPattern = class.parse().unwrap();
            assert_eq!(pattern.matches(&format!("{code:06x}")), wanted, "{class}");
        }
        for (code, name) in [
            (0x01_0802, Some("nvme")),
            (0x01_0400, Some("raid")),
            (0x01_0000, Some("storage")),
            (0x0c_0500, Some("serial-bus")),
            (0xff_0000, None),
        ] {
            assert_eq!(
                ClassPattern::name_of(ClassCode::new(code)),
                name,
                "{code:06x}"
            );
        }
        for text in ["", "gpu", "0108", "0x0108*", "01080200", "01[08"] {
            assert!(text.parse::<ClassPattern>().is_err(), "{text}");
        }
    }
}
