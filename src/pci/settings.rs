//! Settings of one PCI function: how it is reset, how deep it sleeps, how large
//! its memory is.
//!
//! Owns their values and the texts that the kernel has for them. Never reads them
//! and never decides what they are to be.
//! Source of the attributes: Documentation/ABI/testing/sysfs-bus-pci and
//! sysfs-devices-power (v6.12).

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};

/// What a function's settings are, where they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `reset_method`: the methods that the kernel would try, in their order and
    /// its words; empty if it is to try none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_method: Option<String>,
    /// `d3cold_allowed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d3cold: Option<bool>,
    /// `power/control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// The sizes of its BARs, of those that can be resized.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bars: BTreeMap<u8, BarSize>,
}

impl Settings {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those of them that `other` has, too.
    #[must_use]
    pub fn those_of(&self, other: &Self) -> Self {
        self.chosen(other, true)
    }

    /// Those of them that `other` does not have.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        self.chosen(other, false)
    }

    fn chosen(&self, other: &Self, both: bool) -> Self {
        let bars = self.bars.iter();
        let bars = bars.filter(|(bar, _)| other.bars.contains_key(bar) == both);
        let reset = self.reset_method.clone();
        Self {
            reset_method: reset.filter(|_| other.reset_method.is_some() == both),
            d3cold: self.d3cold.filter(|_| other.d3cold.is_some() == both),
            power: self.power.filter(|_| other.power.is_some() == both),
            bars: bars.map(|(bar, size)| (*bar, *size)).collect(),
        }
    }

    /// These, and those of `other` that are not among them.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.reset_method = self.reset_method.or(other.reset_method);
        self.d3cold = self.d3cold.or(other.d3cold);
        self.power = self.power.or(other.power);
        for (bar, size) in other.bars {
            self.bars.entry(bar).or_insert(size);
        }
        self
    }
}

impl fmt::Display for Settings {
    /// `reset_method "flr bus", d3cold true, power on, BAR 0 256M`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = self.reset_method.as_ref();
        let single = [
            reset.map(|words| format!("reset_method \"{words}\"")),
            self.d3cold.map(|allowed| format!("d3cold {allowed}")),
            self.power.map(|power| format!("power {power}")),
        ];
        let bars = self.bars.iter();
        let bars = bars.map(|(bar, size)| format!("BAR {bar} {size}"));
        let all: Vec<_> = single.into_iter().flatten().chain(bars).collect();
        f.write_str(&all.join(", "))
    }
}

/// Whether the kernel may have the device sleep while nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It stays awake.
    On,
    /// It may sleep.
    Auto,
}

impl Power {
    /// The kernel's word (drivers/base/power/sysfs.c, `control_store`, v6.12).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Auto => "auto",
        }
    }

    /// The value of the attribute.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let all = [Self::On, Self::Auto];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The size of a BAR that can be resized: a power of two of MiB, as the exponent
/// that the kernel takes (drivers/pci/pci.c, `pci_rebar_size_to_bytes`, v6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BarSize(u8);

/// The letters of sizes, each 1024 times the one before.
const UNITS: [char; 5] = ['M', 'G', 'T', 'P', 'E'];

/// No BAR has this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is a power of two from 1M on with M, G or T, like \"256M\" or \"8G\"")]
pub struct BarSizeError;

impl BarSize {
    /// The greatest exponent: 8 EiB (PCI Express Base Specification 6.0, 7.8.6.3).
    const GREATEST: u8 = 43;

    /// What the kernel takes for it: the exponent.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.0
    }

    /// The size of this many bytes, if a BAR that can be resized can have it.
    #[must_use]
    pub fn of_bytes(bytes: u64) -> Option<Self> {
        let exponent = bytes.trailing_zeros().checked_sub(20)?;
        let size = u8::try_from(exponent).ok()?;
        (bytes.is_power_of_two() && size <= Self::GREATEST).then_some(Self(size))
    }

    /// The sizes in a bitmap as `resourceN_resize` shows it: bit N is 2^N MiB.
    #[must_use]
    pub fn of_bitmap(bits: u64) -> Vec<Self> {
        let all = 0..=Self::GREATEST;
        all.filter(|bit| bits >> bit & 1 == 1).map(Self).collect()
    }
}

impl FromStr for BarSize {
    type Err = BarSizeError;

    fn from_str(text: &str) -> Result<Self, BarSizeError> {
        let unit = text.chars().next_back().ok_or(BarSizeError)?;
        let place = UNITS.iter().position(|one| *one == unit);
        let digits = text.strip_suffix(unit).unwrap_or_default();
        let is_number = !digits.is_empty() && digits.bytes().all(|one| one.is_ascii_digit());
        let number: Option<u64> = digits.parse().ok().filter(|_| is_number);
        let (place, number) = place.zip(number).ok_or(BarSizeError)?;
        let shift = u32::try_from(place * 10).map_err(|_| BarSizeError)?;
        let exponent = number.trailing_zeros() + shift;
        let size = u8::try_from(exponent).map_err(|_| BarSizeError)?;
        if number.is_power_of_two() && size <= Self::GREATEST {
            Ok(Self(size))
        } else {
            Err(BarSizeError)
        }
    }
}

impl fmt::Display for BarSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.get(usize::from(self.0 / 10)).unwrap_or(&'E');
        write!(f, "{}{unit}", 1_u32 << (self.0 % 10))
    }
}

impl Serialize for BarSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BarSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, exponent, shown) in [
            ("1M", 0, "1M"),
            ("256M", 8, "256M"),
            ("1024M", 10, "1G"),
            ("8G", 13, "8G"),
            ("2T", 21, "2T"),
            ("8E", 43, "8E"),
        ] {
            let size: BarSize = text.parse().unwrap();
            assert_eq!(size.exponent(), exponent, "{text}");
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse(), Ok(size));
        }
        for text in [
            "",
            "M",
            "0M",
            "3G",
            "16E",
            "8",
            "8g",
            "8 G",
            "8GB",
            "+8G",
            "-1M",
            "512K",
            "8Gé",
            "99999999999999999999G",
        ] {
            assert_eq!(text.parse::<BarSize>(), Err(BarSizeError), "{text}");
        }
    }

    #[test]
    fn sizes_come_of_bytes_and_of_bitmaps() {
        let shown = |all: &[BarSize]| all.iter().map(BarSize::to_string).collect::<Vec<_>>();
        assert_eq!(BarSize::of_bytes(256 << 20), "256M".parse().ok());
        assert_eq!(BarSize::of_bytes(1 << 20), "1M".parse().ok());
        for bytes in [0, 1, 1 << 19, 3 << 20, u64::MAX] {
            assert_eq!(BarSize::of_bytes(bytes), None, "{bytes}");
        }
        assert_eq!(shown(&BarSize::of_bitmap(0x700)), ["256M", "512M", "1G"]);
        assert_eq!(shown(&BarSize::of_bitmap(0)), Vec::<String>::new());
        assert_eq!(BarSize::of_bitmap(u64::MAX).len(), 44);
    }

    #[test]
    fn settings_are_told_in_a_line() {
        let settings = Settings {
            reset_method: Some("flr bus".to_owned()),
            d3cold: Some(true),
            power: Power::of("auto"),
            bars: BTreeMap::from([(0, "256M".parse().unwrap())]),
        };
        let line = "reset_method \"flr bus\", d3cold true, power auto, BAR 0 256M";
        assert_eq!(settings.to_string(), line);
        let text = serde_json::to_string(&settings).unwrap();
        let wanted =
            r#"{"reset_method":"flr bus","d3cold":true,"power":"auto","bars":{"0":"256M"}}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert!(Settings::default().is_empty());
        assert_eq!(Power::of("off"), None);
    }
}
