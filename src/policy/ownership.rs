//! Ownership: whose the nodes of bound functions are to be, in `/dev/vfio`.
//!
//! Owns what `owner`, `group` and `mode` of a mapping mean, alone and where
//! mappings share a node. Never looks a name up. Pure.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Serialize, de::Error as _};

use super::{
    model::Policy,
    plan::{MappingPlan, Verdict},
};
use crate::pci::{address::Address, inventory::Inventory};

/// The greatest ID: the one above it stands for none (setuid(2), chown(2)).
const GREATEST_ID: u32 = u32::MAX - 1;

/// The longest name of a user (useradd(8)).
const LONGEST_NAME: usize = 32;

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// By its number.
    Id(u32),
    /// By its name, which need not be there yet.
    Name(String),
}

/// No user and no group can be called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is a letter or _, then letters, digits, ., _ and -, {LONGEST_NAME} at most; a number \
     is one from 0 to {GREATEST_ID}"
)]
pub struct AccountError;

impl FromStr for Account {
    type Err = AccountError;

    /// A text of digits is a number, as everywhere (chown(1), udev(7)).
    fn from_str(text: &str) -> Result<Self, AccountError> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let id = text.parse().ok().filter(|id| *id <= GREATEST_ID);
            return id.map(Self::Id).ok_or(AccountError);
        }
        let mut rest = text.chars();
        let first = rest
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if first && text.len() <= LONGEST_NAME && rest.all(fits) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(AccountError)
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Permission bits, without those that mean nothing for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode(u32);

/// No mode of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mode is three octal digits for read (4) and write (2), like \"0660\"")]
pub struct ModeError;

impl Mode {
    /// What udev makes of a group without a mode (src/udev/udev-event.c,
    /// `update_devnode`, v252), so that the group can use the node.
    pub const OF_GROUP: Self = Self(0o660);

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3);
        let digits = digits.unwrap_or(text);
        let fits = digits.len() == 3 && digits.bytes().all(|byte| b"0246".contains(&byte));
        let bits = fits.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
        bits.map(Self).ok_or(ModeError)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

macro_rules! as_text {
    ($($name:ty),*) => { $(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )* };
}

as_text!(Account, Mode);

/// What a mapping wants of the nodes of its functions; what it leaves open
/// stays as the kernel made it: root, root and 0600 (drivers/base/devtmpfs.c,
/// `devtmpfs_create_node`, v6.12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ownership {
    /// The user that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Account>,
    /// The group that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// Who may read and write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

impl Ownership {
    /// Whether it leaves all as it is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.owner.is_none() && self.group.is_none() && self.mode.is_none()
    }

    /// The mode to set, if one is to be.
    #[must_use]
    pub fn effective_mode(&self) -> Option<Mode> {
        let of_group = self.group.as_ref().map(|_| Mode::OF_GROUP);
        self.mode.or(of_group)
    }

    /// The first key that both have, and with different values. A name and a
    /// number differ: what a name stands for may change.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_some_and(|(a, b)| a != b)
        }
        [
            (differ(self.owner.as_ref(), other.owner.as_ref()), "owner"),
            (differ(self.group.as_ref(), other.group.as_ref()), "group"),
            (differ(self.mode.as_ref(), other.mode.as_ref()), "mode"),
        ]
        .into_iter()
        .find_map(|(differs, key)| differs.then_some(key))
    }

    /// What both want together.
    fn with(self, other: &Self) -> Self {
        Self {
            owner: self.owner.or_else(|| other.owner.clone()),
            group: self.group.or_else(|| other.group.clone()),
            mode: self.mode.or(other.mode),
        }
    }
}

impl fmt::Display for Ownership {
    /// `owner microvm, group kvm, mode 0660`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut add = |key: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => {
                let comma = if text.is_empty() { "" } else { ", " };
                write!(text, "{comma}{key} {value}")
            }
            None => Ok(()),
        };
        add("owner", self.owner.as_ref().map(|one| one as _))?;
        add("group", self.group.as_ref().map(|one| one as _))?;
        add("mode", self.effective_mode().as_ref().map(|one| one as _))?;
        f.write_str(&text)
    }
}

/// Whose the nodes of each function are to be, of the mappings that want
/// something of theirs. The functions of an IOMMU group have a node together,
/// so what several mappings want of it adds up; where they disagree they are
/// refused, all of them.
pub(super) fn nodes(
    inventory: &Inventory,
    policy: &Policy,
    mappings: &BTreeMap<&String, MappingPlan>,
) -> BTreeMap<Address, Ownership> {
    let live = || {
        let wishes = mappings.iter().filter_map(|(name, plan)| {
            let wish = &policy.mappings.get(*name)?.ownership;
            let live = matches!(plan.verdict, Verdict::Ready | Verdict::Pending);
            (live && !wish.is_empty()).then_some((wish, plan))
        });
        wishes.flat_map(|(wish, plan)| {
            plan.addresses().filter_map(move |address| {
                let group = inventory.get(address)?.iommu_group?;
                Some((wish, address, group))
            })
        })
    };
    let mut groups: BTreeMap<u32, Ownership> = BTreeMap::new();
    for (wish, _, group) in live() {
        let known = groups.remove(&group).unwrap_or_default();
        groups.insert(group, known.with(wish));
    }
    live()
        .filter_map(|(_, address, group)| Some((address, groups.get(&group)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_names_or_numbers() {
        let name = |text: &str| Account::Name(text.to_owned());
        for (text, wanted) in [
            ("microvm", name("microvm")),
            ("_a.b-C9", name("_a.b-C9")),
            ("0", Account::Id(0)),
            ("0107", Account::Id(107)),
            ("4294967294", Account::Id(GREATEST_ID)),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        let long = "a".repeat(33);
        for text in [
            "",
            "4294967295",
            "99999999999",
            "-1",
            "1a",
            "a b",
            "a:b",
            "$USER",
            "../a",
            "a\n",
            "ä",
            &long,
        ] {
            assert_eq!(text.parse::<Account>(), Err(AccountError), "{text:?}");
        }
    }

    #[test]
    fn modes_are_octal_and_of_devices() {
        for (text, bits) in [
            ("0660", 0o660),
            ("660", 0o660),
            ("0600", 0o600),
            ("0000", 0),
        ] {
            let mode: Mode = text.parse().unwrap();
            assert_eq!(mode.bits(), bits, "{text}");
        }
        assert_eq!("640".parse::<Mode>().unwrap().to_string(), "0640");
        for text in [
            "", "66", "0o660", "00660", "1660", "0770", "0680", "rw-", "+660", "06600",
        ] {
            assert_eq!(text.parse::<Mode>(), Err(ModeError), "{text:?}");
        }
    }

    fn wish(owner: &str, group: &str, mode: &str) -> Ownership {
        let account = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Ownership {
            owner: account(owner),
            group: account(group),
            mode: (!mode.is_empty()).then(|| mode.parse().unwrap()),
        }
    }

    #[test]
    fn wishes_differ_in_what_both_have() {
        let full = wish("microvm", "kvm", "0660");
        assert_eq!(full.difference(&full), None);
        assert_eq!(full.difference(&Ownership::default()), None);
        assert_eq!(full.difference(&wish("", "kvm", "")), None);
        assert_eq!(full.difference(&wish("other", "disk", "")), Some("owner"));
        assert_eq!(full.difference(&wish("", "107", "0600")), Some("group"));
        assert_eq!(full.difference(&wish("", "", "0600")), Some("mode"));
        let both = wish("microvm", "", "").with(&wish("", "kvm", "0640"));
        assert_eq!(both, wish("microvm", "kvm", "0640"));
    }

    #[test]
    fn a_group_without_a_mode_may_use_the_node() {
        assert_eq!(wish("", "kvm", "").to_string(), "group kvm, mode 0660");
        assert_eq!(wish("9", "", "").to_string(), "owner 9");
        assert_eq!(wish("", "kvm", "0640").to_string(), "group kvm, mode 0640");
        let all = wish("microvm", "9", "0600");
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"owner":"microvm","group":"9","mode":"0600"}"#);
        assert_eq!(serde_json::from_str::<Ownership>(&text).unwrap(), all);
        assert!(serde_json::from_str::<Ownership>(r#"{"mode":"rw"}"#).is_err());
    }
}
