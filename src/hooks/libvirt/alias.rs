//! The aliases by which our devices in a domain are known.
//!
//! `ua-vfio-bindd-NAME-N`: the N-th function of the mapping NAME. libvirt keeps
//! a user's alias if it starts with `ua-` and has only letters, digits, `_` and
//! `-`, which names of mappings are made of, too (formatdomain, since 3.9.0).

use std::fmt;

const PREFIX: &str = "ua-vfio-bindd-";
/// Far more than a domain can have functions.
const MOST: u32 = 999_999;

/// The alias of one function of a mapping; orders by mapping, then by number.
///
/// ```
/// use vfio_bindd::hooks::libvirt::alias::Alias;
/// let alias = Alias::read("ua-vfio-bindd-gpu-1-0").unwrap().unwrap();
/// assert_eq!((alias.mapping(), alias.number()), ("gpu-1", 0));
/// assert_eq!(Alias::read("hostdev0"), Ok(None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alias {
    mapping: String,
    number: u32,
}

/// What is no alias of ours, or no name of a mapping to make one of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// It starts as ours do, and goes on otherwise.
    #[error("'{0}' is not {PREFIX}NAME-N with a mapping's name and a number")]
    Form(String),
    /// No mapping can have this name.
    #[error(
        "'{0}' is no name of a mapping: expected a lower-case letter, then at least one more of \
         a-z, 0-9, _ and -"
    )]
    Name(String),
    /// No alias has so large a number.
    #[error("{0} is too large a number for an alias: the largest is {MOST}")]
    Number(u32),
}

impl Alias {
    /// The alias of function `number` of `mapping`.
    ///
    /// # Errors
    /// If no mapping can have that name, or the number is above 999999.
    pub fn new(mapping: &str, number: u32) -> Result<Self, AliasError> {
        if !is_name(mapping) {
            return Err(AliasError::Name(mapping.to_owned()));
        }
        if number > MOST {
            return Err(AliasError::Number(number));
        }
        Ok(Self {
            mapping: mapping.to_owned(),
            number,
        })
    }

    /// Reads a device's alias, `None` if it is somebody else's.
    ///
    /// # Errors
    /// If it has our prefix and not our form: nobody else would choose it, and
    /// taken for a foreign one the device would never be updated.
    pub fn read(text: &str) -> Result<Option<Self>, AliasError> {
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        let form = || AliasError::Form(text.to_owned());
        let (mapping, digits) = rest.rsplit_once('-').ok_or_else(form)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !plain {
            return Err(form());
        }
        let number = digits.parse().map_err(|_| form())?;
        Self::new(mapping, number)
            .map(Some)
            .map_err(|_invalid| form())
    }

    /// The mapping's name.
    #[must_use]
    pub fn mapping(&self) -> &str {
        &self.mapping
    }

    /// Which of the mapping's functions it is, from 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}", self.mapping, self.number)
    }
}

/// Whether a mapping can have this name: `[a-z][a-z0-9_-]+`.
pub(super) fn is_name(text: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    text.len() >= 2
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (mapping, number) in [("gpu", 0), ("gpu-", 7), ("a-1-2", 999_999), ("n_", 10)] {
            let alias = Alias::new(mapping, number).unwrap();
            assert_eq!(Alias::read(&alias.to_string()), Ok(Some(alias)));
        }
    }

    #[test]
    fn others_are_nobodys_mistake() {
        for text in [
            "",
            "hostdev0",
            "ua-gpu",
            "ua-vfio-bindd",
            "UA-vfio-bindd-gpu-0",
        ] {
            assert_eq!(Alias::read(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn ours_have_one_form() {
        for end in [
            "",
            "gpu",
            "gpu-",
            "gpu-x",
            "gpu-00",
            "gpu-01",
            "gpu-+1",
            "gpu--1x",
            "g-0",
            "-0",
            "Gpu-0",
            "1gpu-0",
            "gpu.x-0",
            "gpu-1000000",
        ] {
            let text = format!("{PREFIX}{end}");
            assert_eq!(
                Alias::read(&text),
                Err(AliasError::Form(text.clone())),
                "{text}"
            );
        }
        let error = Alias::new("gpu", 1_000_000).unwrap_err();
        assert_eq!(error, AliasError::Number(1_000_000));
        assert_eq!(
            Alias::read("ua-vfio-bindd-gpu").unwrap_err().to_string(),
            "'ua-vfio-bindd-gpu' is not ua-vfio-bindd-NAME-N with a mapping's name and a number"
        );
    }
}
