//! Globs: `*`, `?`, `[a-f]`, `[!0]`; text compares without case.
//!
//! Owns the grammar and the matching. Knows nothing of what the text means.

use std::{fmt, str::FromStr};

/// A parsed glob.
///
/// ```
/// use vfio_bindd::policy::glob::Glob;
/// let glob: Glob = "0000:c[1-4]:00.?".parse().unwrap();
/// assert!(glob.matches("0000:C2:00.0"));
/// assert!(!glob.matches("0000:c5:00.0"));
/// assert!("a[1-".parse::<Glob>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Many,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It is empty, and so could match nothing.
    #[error("an empty pattern matches nothing; '*' matches everything")]
    Empty,
    /// A `[` without its `]`.
    #[error("'[' without its ']'")]
    OpenSet,
    /// `[]` or `[!]`.
    #[error("an empty set '[]' matches nothing")]
    EmptySet,
    /// A range like `[f-a]`.
    #[error("the range '{0}-{1}' runs backwards")]
    Backwards(char, char),
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        let mut tokens = Vec::new();
        let mut rest = text.chars().map(|c| c.to_ascii_lowercase());
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '[' => set(&mut rest)?,
                literal => Token::Literal(literal),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Many && *b == Token::Many);
        Ok(Self {
            text: text.to_owned(),
            tokens,
        })
    }
}

/// Reads a set up to its `]`; the `[` is read already.
fn set(rest: &mut impl Iterator<Item = char>) -> Result<Token, GlobError> {
    let mut body = Vec::new();
    loop {
        match rest.next() {
            None => return Err(GlobError::OpenSet),
            Some(']') => break,
            Some(c) => body.push(c),
        }
    }
    let (negated, body) = match body.as_slice() {
        ['!', body @ ..] => (true, body),
        body => (false, body),
    };
    let mut ranges = Vec::new();
    let mut body = body;
    loop {
        body = match body {
            [] if ranges.is_empty() => return Err(GlobError::EmptySet),
            [] => return Ok(Token::Set { negated, ranges }),
            [first, '-', last, more @ ..] => {
                if first > last {
                    return Err(GlobError::Backwards(*first, *last));
                }
                ranges.push((*first, *last));
                more
            }
            [one, more @ ..] => {
                ranges.push((*one, *one));
                more
            }
        };
    }
}

impl Glob {
    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut tokens = self.tokens.as_slice();
        let mut text = text.chars();
        // One level of backtracking is enough: a later `*` can take whatever
        // an earlier one could have.
        let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
        loop {
            let before = text.clone();
            match (tokens, text.next()) {
                ([], None) => return true,
                ([Token::Many, more @ ..], _) => {
                    retry = Some((more, before.clone()));
                    (tokens, text) = (more, before);
                    continue;
                }
                ([token, more @ ..], Some(c)) if token.accepts(c.to_ascii_lowercase()) => {
                    tokens = more;
                    continue;
                }
                _ => {}
            }
            let Some((after, from)) = retry.as_mut() else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            (tokens, text) = (after, from.clone());
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Token {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == c,
            Self::One => true,
            Self::Many => false,
            Self::Set { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c))
                    != *negated
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_as_a_table_says() {
        for (glob, text, wanted) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abcc", true),
            ("a*c", "abcd", false),
            ("a**c", "ac", true),
            ("?", "", false),
            ("?", "x", true),
            ("[!0]", "0", false),
            ("[!0]", "1", true),
            ("[0-9a-f]x", "Fx", true),
            ("[-a]", "-", true),
            ("ABC", "abc", true),
            ("abc", "abcd", false),
            ("*a*b*c", "xxaxxbxxcxc", true),
        ] {
            assert_eq!(
                glob.parse::<Glob>().unwrap().matches(text),
                wanted,
                "{glob} {text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_glob() {
        for (text, error) in [
            ("", GlobError::Empty),
            ("a[", GlobError::OpenSet),
            ("a[]b", GlobError::EmptySet),
            ("[!]", GlobError::EmptySet),
            ("[f-a]", GlobError::Backwards('f', 'a')),
        ] {
            assert_eq!(text.parse::<Glob>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn plain_text_matches_itself(text in "[a-z0-9:.]{1,20}") {
            prop_assert!(text.parse::<Glob>().unwrap().matches(&text));
        }

        #[test]
        fn never_panics(glob: String, text: String) {
            if let Ok(glob) = glob.parse::<Glob>() {
                prop_assert_eq!(glob.matches(&text), glob.matches(&text));
            }
        }
    }
}
