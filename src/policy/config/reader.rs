//! Reader: typed access to a parsed file that notes what is wrong and goes on.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    diagnostic::{Diagnostic, File},
    nearest::nearest,
};

pub(super) type Key<'a> = Spanned<DeString<'a>>;
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Reads one file.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a File<'a>,
    errors: Vec<(usize, Diagnostic)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File<'a>) -> Self {
        Self {
            file,
            errors: Vec::new(),
        }
    }

    /// The mistakes in the order of their places.
    pub(super) fn finish(mut self) -> impl Iterator<Item = Diagnostic> {
        self.errors.sort_by_key(|(at, _)| *at);
        self.errors.into_iter().map(|(_, error)| error)
    }

    /// Notes what is no TOML. What was read behind the first such place may be
    /// read wrongly, so nothing else is said of it.
    pub(super) fn syntax(&mut self, errors: &[toml::de::Error]) {
        let span = |error: &toml::de::Error| error.span().unwrap_or(0..0);
        let Some(first) = errors.iter().map(|error| span(error).start).min() else {
            return;
        };
        self.errors.retain(|(at, _)| *at < first);
        for error in errors {
            self.error(span(error), error.message().to_owned(), None);
        }
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let at = span.start;
        self.errors
            .push((at, self.file.diagnose(span, message, help)));
    }

    pub(super) fn place(&self, span: Range<usize>) -> String {
        self.file.place(span.start)
    }

    /// Notes a key that is not one of `known`.
    pub(super) fn unknown_key(&mut self, key: &Key<'_>, place: &str, known: &[&str]) {
        let name = key.get_ref();
        let mut message = format!("unknown key `{name}` {place}");
        if let Some(near) = nearest(name, known) {
            message += &format!("; did you mean `{near}`?");
        }
        let help = format!("expected one of: {}", known.join(", "));
        self.error(key.span(), message, Some(help));
    }

    /// Notes a value of the wrong type.
    pub(super) fn wrong_type(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{key}` is {found}; expected {wanted}");
        self.error(value.span(), message, None);
    }

    pub(super) fn table<'v>(&mut self, value: &'v Value<'v>, key: &str) -> Option<&'v DeTable<'v>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong_type(key, value, "a table");
                None
            }
        }
    }

    pub(super) fn string<'v>(
        &mut self,
        key: &str,
        value: &'v Value<'v>,
        wanted: &str,
    ) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type(key, value, wanted);
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type(key, value, "true or false");
                None
            }
        }
    }

    /// A whole number from `least` on.
    pub(super) fn number(&mut self, key: &str, value: &Value<'_>, least: u32) -> Option<u32> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(key, value, &format!("a whole number from {least} on"));
            return None;
        };
        let found = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let fits = found.filter(|number| *number >= least);
        if fits.is_none() {
            let message = format!("`{key}` is {number}; expected a whole number from {least} on");
            self.error(value.span(), message, None);
        }
        fits
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        known: &[(&str, T)],
    ) -> Option<T> {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        let list = format!("\"{}\"", words.join("\", \""));
        let text = self.string(key, value, &format!("one of {list}"))?;
        let found = known.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let mut message = format!("`{key}` is not one of {list}");
            if let Some(near) = nearest(text, &words) {
                message += &format!("; did you mean \"{near}\"?");
            }
            self.error(value.span(), message, None);
        }
        found.map(|(_, value)| *value)
    }

    /// A value, or each of a list of them.
    pub(super) fn each<'v>(&mut self, key: &str, value: &'v Value<'v>) -> Vec<&'v Value<'v>> {
        match value.get_ref() {
            DeValue::Array(values) => {
                if values.is_empty() {
                    let message = format!("`{key}` is an empty list, which nothing matches");
                    self.error(value.span(), message, None);
                }
                values.iter().collect()
            }
            _ => vec![value],
        }
    }
}
