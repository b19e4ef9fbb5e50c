//! Diagnostics: what is wrong, where, and what would be right.
//!
//! Owns how a place in a file is found and shown.

use std::{fmt, ops::Range};

use serde::Serialize;

/// One thing to say about one place in a config file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    file: String,
    line: usize,
    column: usize,
    message: String,
    /// The line itself.
    text: String,
    /// How many characters of it are meant.
    width: usize,
    help: Option<String>,
}

impl Diagnostic {
    /// It in one line: `FILE:LINE:COLUMN: MESSAGE`.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{}:{}:{}: {}",
            self.file, self.line, self.column, self.message
        )
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the mark stands under what it marks.
        let before: String = self
            .text
            .chars()
            .take(self.column.saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{}", self.summary())?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.text)?;
        writeln!(f, "{margin} | {before}{}", "^".repeat(self.width.max(1)))?;
        if let Some(help) = &self.help {
            writeln!(f, "{margin} = {help}")?;
        }
        Ok(())
    }
}

/// A file's name and text.
#[derive(Debug)]
pub(super) struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> File<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text }
    }

    /// Says something about the bytes in `span`.
    pub(super) fn diagnose(
        &self,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let (line, column, text) = self.locate(span.start);
        let marked = self.text.get(span).unwrap_or_default();
        // A value of several lines is marked in its first one.
        let width = marked.lines().next().unwrap_or_default().chars().count();
        Diagnostic {
            file: self.name.to_owned(),
            line,
            column,
            message,
            text: text.to_owned(),
            width,
            help,
        }
    }

    /// `FILE:LINE` of a byte.
    pub(super) fn place(&self, at: usize) -> String {
        format!("{}:{}", self.name, self.locate(at).0)
    }

    /// Line and column of a byte, both from 1, and the line.
    fn locate(&self, at: usize) -> (usize, usize, &'a str) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        let rest = self.text.get(start..).unwrap_or_default();
        let text = rest.lines().next().unwrap_or_default();
        (line, column, text)
    }
}
