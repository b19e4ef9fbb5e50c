//! Property strings, `key=value,key=value`: how PVE writes a value with parts.
//!
//! Owns where they are split and what is wrong with one. Source: pve-common,
//! src/PVE/JSONSchema.pm, `parse_property_string`.

/// What is wrong with a property string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// A part that is no `key=value`.
    #[error("'{part}' is no property: write it as key=value")]
    NoPair {
        /// The part between two commas.
        part: String,
    },
    /// A key that is there more than once.
    #[error("{key} is given more than once: give it once")]
    Twice {
        /// The key.
        key: String,
    },
    /// A key that PVE does not know here.
    #[error("{key} is no property of it: {known} are")]
    Unknown {
        /// The key.
        key: String,
        /// The keys that there are.
        known: String,
    },
    /// A key that has to be there and is not.
    #[error("{key} is missing: give it as {key}={wanted}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What its value looks like.
        wanted: &'static str,
    },
    /// A value that PVE does not take.
    #[error("{key}: '{value}' is not {wanted}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
}

/// The keys and values in `text`, in its order; a part without a key is the
/// value of `default_key`. Nothing is trimmed, as PVE trims nothing.
pub(super) fn pairs<'a>(
    text: &'a str,
    default_key: Option<&'a str>,
) -> Result<Vec<(&'a str, &'a str)>, PropertyError> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (key, value) = match (part.split_once('='), default_key) {
            (Some((key, value)), _) if !key.is_empty() && !value.is_empty() => (key, value),
            (None, Some(key)) => (key, part),
            _ => return Err(PropertyError::NoPair { part: part.into() }),
        };
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(PropertyError::Twice { key: key.into() });
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// That the value of `key` is right, or that it is not what is `wanted`.
pub(super) fn ensure(
    is_right: bool,
    key: &str,
    value: &str,
    wanted: &'static str,
) -> Result<(), PropertyError> {
    if is_right {
        return Ok(());
    }
    Err(PropertyError::Value {
        key: key.into(),
        value: value.into(),
        wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_split_as_pve_splits_them() {
        let read = |text| pairs(text, Some("host"));
        assert_eq!(
            read("01:00,pcie=1"),
            Ok(vec![("host", "01:00"), ("pcie", "1")])
        );
        assert_eq!(read(",a=b=c, ,"), Ok(vec![("a", "b=c")]));
        for text in ["a=", "=b", "="] {
            assert_eq!(read(text), Err(PropertyError::NoPair { part: text.into() }));
        }
        for text in ["01:00,02:00", "host=01:00,02:00", "01:00,host=02:00"] {
            assert_eq!(read(text), Err(PropertyError::Twice { key: "host".into() }));
        }
        assert!(pairs("alone", None).is_err());
    }
}
