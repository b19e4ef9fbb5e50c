//! Knobs: what settings of its functions a mapping wants to be otherwise.
//!
//! Owns what `reset_method`, `d3cold`, `power` and `resize_bar` mean, alone and
//! where mappings share a function. What a device offers is not known here. Pure.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    model::{Mapping, Policy},
    plan::{MappingPlan, Verdict},
    resolve::wanted,
    selector::Candidate,
};
use crate::pci::{
    address::Address,
    inventory::Inventory,
    settings::{BarSize, Power, Settings},
};

/// How many BARs a function has at most (PCI_STD_NUM_BARS).
pub const BARS: u8 = 6;

/// A way to reset a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetMethod {
    /// What the kernel knows of this very device.
    DeviceSpecific,
    /// The firmware's `_RST`.
    Acpi,
    /// Function Level Reset.
    Flr,
    /// The same, of a function that is not PCI Express.
    AfFlr,
    /// To sleep and back.
    Pm,
    /// The bus, or the hotplug slot, that it is alone on.
    Bus,
    /// The bus of a CXL device.
    CxlBus,
}

impl ResetMethod {
    /// All of them, in the order in which the kernel tries them
    /// (drivers/pci/pci.c, `pci_reset_fn_methods`, v6.12; 6.1 has no `cxl_bus`).
    pub const ALL: [Self; 7] = [
        Self::DeviceSpecific,
        Self::Acpi,
        Self::Flr,
        Self::AfFlr,
        Self::Pm,
        Self::Bus,
        Self::CxlBus,
    ];

    /// The kernel's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeviceSpecific => "device_specific",
            Self::Acpi => "acpi",
            Self::Flr => "flr",
            Self::AfFlr => "af_flr",
            Self::Pm => "pm",
            Self::Bus => "bus",
            Self::CxlBus => "cxl_bus",
        }
    }
}

/// What a mapping wants of the settings of its functions; what it leaves open
/// stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knobs {
    /// The ways to reset it that the kernel is to try, in this order; none if the
    /// mapping does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reset_method: Vec<ResetMethod>,
    /// Whether it may be without power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d3cold: Option<bool>,
    /// Whether it may sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// The sizes of its BARs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resize_bar: BTreeMap<u8, BarSize>,
}

impl Knobs {
    /// Whether it leaves all as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The value of `reset_method` in sysfs, if it is to be something.
    #[must_use]
    pub fn reset_words(&self) -> Option<String> {
        let words: Vec<_> = self.reset_method.iter().map(|one| one.as_str()).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// The same as settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            reset_method: self.reset_words(),
            d3cold: self.d3cold,
            power: self.power,
            bars: self.resize_bar.clone(),
        }
    }

    /// The first key that both have, and with different values.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.zip(b).is_some_and(|(a, b)| a != b)
        }
        let single = [
            (
                differ(self.reset_words(), other.reset_words()),
                "reset_method",
            ),
            (differ(self.d3cold, other.d3cold), "d3cold"),
            (differ(self.power, other.power), "power"),
        ];
        let single = single.into_iter().find(|(differs, _)| *differs);
        let mut bars = self.resize_bar.iter();
        let bar = bars.find(|(bar, size)| differ(Some(*size), other.resize_bar.get(bar)));
        single
            .map(|(_, key)| key.to_owned())
            .or_else(|| bar.map(|(bar, _)| format!("size of BAR {bar}")))
    }

    /// What both want together.
    fn with(mut self, other: &Self) -> Self {
        if self.reset_method.is_empty() {
            self.reset_method.clone_from(&other.reset_method);
        }
        self.d3cold = self.d3cold.or(other.d3cold);
        self.power = self.power.or(other.power);
        for (bar, size) in &other.resize_bar {
            self.resize_bar.entry(*bar).or_insert(*size);
        }
        self
    }
}

impl fmt::Display for Knobs {
    /// `reset_method "flr bus", d3cold false, power on, BAR 0 8G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings().fmt(f)
    }
}

/// What `mapping` wants of the settings of a function that it chooses: it is asked
/// of those that `match` names. What only comes with them, by their slot or their
/// IOMMU group, need not offer the same, and keeps what it has.
#[must_use]
pub(crate) fn of<'a>(
    mapping: &'a Mapping,
    inventory: &Inventory,
    address: Address,
) -> Option<&'a Knobs> {
    let function = inventory.get(address)?;
    let is_meant = || {
        let candidate = Candidate::new(function, inventory);
        matches!(wanted(mapping, &candidate), Ok(Some(_)))
    };
    (!mapping.knobs.is_empty() && is_meant()).then_some(&mapping.knobs)
}

/// What the settings of each function are to be, of the mappings that want
/// something of theirs. Those that disagree are refused, all of them.
pub(super) fn knobs(
    inventory: &Inventory,
    policy: &Policy,
    mappings: &BTreeMap<&String, MappingPlan>,
) -> BTreeMap<Address, Knobs> {
    let mut all: BTreeMap<Address, Knobs> = BTreeMap::new();
    for (name, plan) in mappings {
        let live = matches!(plan.verdict, Verdict::Ready | Verdict::Pending);
        let Some(mapping) = policy.mappings.get(*name).filter(|_| live) else {
            continue;
        };
        for address in plan.addresses() {
            if let Some(wish) = of(mapping, inventory, address) {
                let known = all.remove(&address).unwrap_or_default();
                all.insert(address, known.with(wish));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(reset: &[ResetMethod], d3cold: Option<bool>, bars: &[(u8, &str)]) -> Knobs {
        let bars = bars.iter();
        Knobs {
            reset_method: reset.to_vec(),
            d3cold,
            power: None,
            resize_bar: bars
                .map(|(bar, size)| (*bar, size.parse().unwrap()))
                .collect(),
        }
    }

    #[test]
    fn the_words_are_the_kernels() {
        for method in ResetMethod::ALL {
            let word = serde_json::to_string(&method).unwrap();
            assert_eq!(word, format!("\"{}\"", method.as_str()));
        }
        let both = wish(&[ResetMethod::Flr, ResetMethod::Bus], Some(false), &[]);
        assert_eq!(both.reset_words().as_deref(), Some("flr bus"));
        assert_eq!(both.to_string(), "reset_method \"flr bus\", d3cold false");
        assert_eq!(Knobs::default().reset_words(), None);
        assert!(Knobs::default().is_empty());
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(text, r#"{"reset_method":["flr","bus"],"d3cold":false}"#);
        assert_eq!(serde_json::from_str::<Knobs>(&text).unwrap(), both);
    }

    #[test]
    fn wishes_differ_in_what_both_have() {
        let flr = wish(&[ResetMethod::Flr], None, &[(0, "8G")]);
        let bus = wish(&[ResetMethod::Bus, ResetMethod::Flr], Some(true), &[]);
        assert_eq!(flr.difference(&flr), None);
        assert_eq!(flr.difference(&Knobs::default()), None);
        assert_eq!(flr.difference(&bus).as_deref(), Some("reset_method"));
        let none = wish(&[], Some(false), &[(0, "4G"), (1, "1M")]);
        assert_eq!(bus.difference(&none).as_deref(), Some("d3cold"));
        assert_eq!(flr.difference(&none).as_deref(), Some("size of BAR 0"));
        let sum = flr.with(&wish(&[], Some(false), &[(2, "1M")]));
        let wanted = wish(&[ResetMethod::Flr], Some(false), &[(0, "8G"), (2, "1M")]);
        assert_eq!(sum, wanted);
        let on = Knobs {
            power: Some(Power::On),
            ..Knobs::default()
        };
        let auto = Knobs {
            power: Some(Power::Auto),
            ..Knobs::default()
        };
        assert_eq!(on.difference(&auto).as_deref(), Some("power"));
    }
}
