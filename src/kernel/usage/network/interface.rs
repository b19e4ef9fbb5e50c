//! An interface as network configurations tell it from others: its names, its
//! hardware addresses, where it is plugged in and what drives it.

use crate::{
    kernel::{
        sysfs::text,
        usage::{Device, Look, files::Files},
    },
    policy::glob::Glob,
};

/// How well something fits. Of two demands the worse one counts (`min`), of two
/// choices the better one (`max`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    No,
    /// It cannot be told; for a guard that is as good as a yes.
    Maybe,
    Yes,
}

impl Fit {
    pub(super) const fn of(fits: bool) -> Self {
        if fits { Self::Yes } else { Self::No }
    }

    pub(super) const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// A network interface of a function.
#[derive(Debug, Default)]
pub(super) struct Interface {
    /// Its name, then those that udev knows it by, which are its alternative
    /// ones (systemd.link(5), `AlternativeNamesPolicy=`).
    pub(super) names: Vec<String>,
    /// Its hardware address now, hex digits only.
    pub(super) address: Option<String>,
    /// The address that it was made with, `None` where that is not known.
    pub(super) permanent: Option<String>,
    /// udev's `ID_PATH`.
    pub(super) path: Option<String>,
    /// udev's `ID_NET_DRIVER`.
    pub(super) driver: Option<String>,
    /// Its type as networkd calls it: `ether`, `wlan`.
    pub(super) kind: Option<String>,
}

/// `NET_ADDR_PERM` and `NET_ADDR_RANDOM`: nobody set another one since
/// (include/uapi/linux/netdevice.h, v6.12).
const AS_MADE: &[&str] = &["0", "1"];

impl Interface {
    pub(super) fn read(look: Look<'_>, device: &Device, files: &mut Files<'_>) -> Self {
        let attribute = |name: &str| text(look.sysfs, &format!("{}/{name}", device.place));
        let index = attribute("ifindex").unwrap_or_default();
        let record = files.read(&format!("/run/udev/data/n{index}"));
        let mut interface = Self {
            names: vec![device.name.clone()],
            address: attribute("address").map(|text| hex_digits(&text)),
            kind: kind(look, device),
            ..Self::default()
        };
        for line in record.lines() {
            let Some((key, value)) = line
                .strip_prefix("E:")
                .and_then(|line| line.split_once('='))
            else {
                continue;
            };
            match key {
                "ID_PATH" => interface.path = Some(value.to_owned()),
                "ID_NET_DRIVER" => interface.driver = Some(value.to_owned()),
                _ if key.starts_with("ID_NET_NAME") => interface.names.push(value.to_owned()),
                _ => {}
            }
            // `enx` and the address, made of a permanent one only
            // (systemd udev-builtin-net_id.c, `names_mac`, v252).
            if key == "ID_NET_NAME_MAC" {
                interface.permanent = value.get(3..).map(hex_digits);
            }
        }
        let assigned = attribute("addr_assign_type").unwrap_or_default();
        if AS_MADE.contains(&assigned.as_str()) {
            interface.permanent.clone_from(&interface.address);
        }
        interface
    }

    /// Whether one of its names is `name`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Whether one of its names fits one of the globs.
    pub(super) fn fits_name(&self, globs: &[&str]) -> Fit {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        any(globs, &names)
    }

    /// Whether its address now is one of `addresses`.
    pub(super) fn has_address(&self, addresses: &[&str]) -> Fit {
        is_address(self.address.as_deref(), addresses)
    }

    /// Whether the address that it was made with is one of `addresses`.
    pub(super) fn has_permanent(&self, addresses: &[&str]) -> Fit {
        is_address(self.permanent.as_deref(), addresses)
    }
}

fn is_address(own: Option<&str>, addresses: &[&str]) -> Fit {
    let Some(own) = own else {
        return Fit::Maybe;
    };
    Fit::of(addresses.iter().any(|address| hex_digits(address) == own))
}

/// Whether any of the globs fits any of the values; what is not known, or no
/// glob that can be read, may fit.
pub(super) fn any(globs: &[&str], values: &[&str]) -> Fit {
    if values.is_empty() {
        return Fit::Maybe;
    }
    let fits = globs.iter().map(|glob| match glob.parse::<Glob>() {
        Ok(glob) => Fit::of(values.iter().any(|value| glob.matches(value))),
        Err(_) => Fit::Maybe,
    });
    fits.max().unwrap_or(Fit::No)
}

/// A hardware address however it is written: `52:54:00-AB`, `5254.00ab`.
fn hex_digits(text: &str) -> String {
    let digits = text.chars().filter(char::is_ascii_hexdigit);
    digits.map(|digit| digit.to_ascii_lowercase()).collect()
}

/// What networkd's `Type=` means: the device type, or where there is none the
/// kind of hardware (systemd net-condition.c, `net_match_config`, v252).
fn kind(look: Look<'_>, device: &Device) -> Option<String> {
    let has = |name: &str| look.sysfs.list(&format!("{}/{name}", device.place)).is_ok();
    // include/uapi/linux/if_arp.h.
    let kind = match text(look.sysfs, &format!("{}/type", device.place))?.as_str() {
        "1" if has("phy80211") || has("wireless") => "wlan",
        "1" => "ether",
        "32" => "infiniband",
        _ => return None,
    };
    Some(kind.to_owned())
}
