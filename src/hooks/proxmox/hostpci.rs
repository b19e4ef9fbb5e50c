//! The value of a guest's `hostpciN`.
//!
//! Owns its grammar and what of it matters to who binds functions. Source:
//! qemu-server, src/PVE/QemuServer/PCI.pm, `$hostpci_fmt` and `parse_hostpci`.

use std::str::FromStr;

use super::{
    filter::{self, Filter},
    property::{PropertyError, ensure, pairs},
};

const HOST: &str = "host";
const KNOWN: [&str; 13] = [
    HOST,
    "mapping",
    "rombar",
    "romfile",
    "pcie",
    "x-vga",
    "legacy-igd",
    "mdev",
    "vendor-id",
    "device-id",
    "sub-vendor-id",
    "sub-device-id",
    "driver",
];

/// What a guest has passed through by one `hostpciN`.
///
/// ```
/// use vfio_bindd::hooks::proxmox::hostpci::{Hostpci, Source};
/// let hostpci: Hostpci = "mapping=gpu0,pcie=1,driver=keep".parse().unwrap();
/// assert_eq!(hostpci.source, Source::Mapping("gpu0".into()));
/// assert!(hostpci.driver_keep);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostpci {
    /// Where the functions come from.
    pub source: Source,
    /// Whether qemu-server neither binds nor resets them (`driver=keep`).
    pub driver_keep: bool,
    /// The type of the mediated device that is made of the function.
    pub mdev: Option<String>,
}

/// Where the functions of a `hostpciN` come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// What all of these mean, as one device of the guest.
    Host(Vec<Filter>),
    /// One of the entries of this resource mapping.
    Mapping(String),
}

/// Why a text is no value of a `hostpciN`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostpciError {
    /// It is no property string, or a property of it is wrong.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The name of a mapping where the ID of a device belongs.
    #[error("host: '{name}' is no PCI ID: the name of a mapping is given as mapping={name}")]
    BareName {
        /// The name.
        name: String,
    },
    /// Two sources.
    #[error("host and mapping are both given: give one of them")]
    Both,
    /// No source.
    #[error("neither host nor mapping is given: give host=0000:3b:00 or mapping=NAME")]
    Neither,
}

impl FromStr for Hostpci {
    type Err = HostpciError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pairs = pairs(text, Some(HOST))?;
        let (mut host, mut mapping, mut mdev, mut driver_keep) = (None, None, None, false);
        for (key, value) in pairs {
            match key {
                HOST => host = Some(filters(value)?),
                "mapping" => {
                    let wanted =
                        "the name of a mapping: a letter, then letters, digits, '-' and '_'";
                    ensure(is_config_id(value), key, value, wanted)?;
                    mapping = Some(value.to_owned());
                }
                "mdev" => {
                    let is_type = !value.contains(['/', '.', ':']);
                    ensure(is_type, key, value, "a type without '/', '.' and ':'")?;
                    mdev = Some(value.to_owned());
                }
                "driver" => {
                    ensure(matches!(value, "vfio" | "keep"), key, value, "vfio or keep")?;
                    driver_keep = value == "keep";
                }
                _ => check_other(key, value)?,
            }
        }
        let source = match (host, mapping) {
            (Some(filters), None) => Source::Host(filters),
            (None, Some(name)) => Source::Mapping(name),
            (Some(_), Some(_)) => return Err(HostpciError::Both),
            (None, None) => return Err(HostpciError::Neither),
        };
        Ok(Self {
            source,
            driver_keep,
            mdev,
        })
    }
}

fn filters(value: &str) -> Result<Vec<Filter>, HostpciError> {
    if let Ok(filters) = Filter::parse_list(value) {
        return Ok(filters);
    }
    if is_config_id(value) {
        return Err(HostpciError::BareName { name: value.into() });
    }
    ensure(false, HOST, value, filter::WANTED)?;
    Ok(Vec::new())
}

/// Checks a property that nothing here depends on: PVE drops the whole value if
/// one of them is wrong.
fn check_other(key: &str, value: &str) -> Result<(), PropertyError> {
    match key {
        "rombar" | "pcie" | "x-vga" | "legacy-igd" => {
            ensure(is_boolean(value), key, value, "0 or 1")
        }
        "romfile" => ensure(!value.contains(';'), key, value, "a file name without ';'"),
        "vendor-id" | "device-id" | "sub-vendor-id" | "sub-device-id" => ensure(
            is_hex_id(value),
            key,
            value,
            "an ID: expected 0x and four hex digits",
        ),
        _ => Err(PropertyError::Unknown {
            key: key.into(),
            known: KNOWN.join(", "),
        }),
    }
}

/// The name of a mapping (`pve-configid`).
fn is_config_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() > 1
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_boolean(text: &str) -> bool {
    let words = ["1", "on", "yes", "true", "0", "off", "no", "false"];
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_hex_id(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| {
        digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(list: &str) -> Source {
        Source::Host(Filter::parse_list(list).unwrap())
    }

    #[test]
    fn takes_what_qemu_server_takes() {
        for (text, source, driver_keep, mdev) in [
            ("01:00", host("01:00"), false, None),
            ("01:00.0,pcie=1,x-vga=on", host("01:00.0"), false, None),
            ("host=0000:01:00", host("0000:01:00"), false, None),
            ("pcie=1,01:00", host("01:00"), false, None),
            ("10000:e1:00.0", host("10000:e1:00.0"), false, None),
            ("01:00;02:00.0,rombar=0", host("01:00;02:00.0"), false, None),
            ("01:00,driver=keep", host("01:00"), true, None),
            ("01:00,driver=vfio", host("01:00"), false, None),
            ("01:00,,pcie=TRUE,", host("01:00"), false, None),
            (
                "01:00.4,mdev=nvidia-63",
                host("01:00.4"),
                false,
                Some("nvidia-63"),
            ),
            (
                "01:00,romfile=a=b.rom,legacy-igd=off",
                host("01:00"),
                false,
                None,
            ),
            (
                "01:00,vendor-id=0x10DE,device-id=0x2231,sub-vendor-id=0x10de,sub-device-id=0x0000",
                host("01:00"),
                false,
                None,
            ),
            ("mapping=gpu0", Source::Mapping("gpu0".into()), false, None),
            (
                "mapping=G-p_U,driver=keep",
                Source::Mapping("G-p_U".into()),
                true,
                None,
            ),
        ] {
            let wanted = Hostpci {
                source,
                driver_keep,
                mdev: mdev.map(str::to_owned),
            };
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn refuses_what_qemu_server_refuses() {
        for (text, said) in [
            ("", "neither host nor mapping is given"),
            ("pcie=1", "neither host nor mapping is given"),
            ("01:00,mapping=gpu0", "host and mapping are both given"),
            ("gpu0", "given as mapping=gpu0"),
            ("0000:0A:00.0", "lower-case hex, like 0000:3b:00"),
            ("host=000:01:00", "host: '000:01:00' is not a PCI ID"),
            ("01:00;", "host: '01:00;' is not"),
            ("01:00 ,pcie=1", "host: '01:00 ' is not"),
            ("01:00,02:00", "host is given more than once"),
            ("01:00,pcie=1,pcie=1", "pcie is given more than once"),
            ("01:00,pcie=2", "pcie: '2' is not 0 or 1"),
            ("01:00,pcie=", "'pcie=' is no property"),
            ("01:00, pcie=1", " pcie is no property of it: host, mapping"),
            ("01:00,PCIE=1", "PCIE is no property of it"),
            (
                "01:00,driver=nouveau",
                "driver: 'nouveau' is not vfio or keep",
            ),
            ("01:00,romfile=a;b", "romfile: 'a;b' is not a file name"),
            ("01:00,mdev=a/b", "mdev: 'a/b' is not"),
            ("01:00,vendor-id=10de", "vendor-id: '10de' is not an ID"),
            ("01:00,device-id=0x10de1", "device-id: '0x10de1' is not"),
            ("mapping=0gpu", "mapping: '0gpu' is not the name"),
            ("mapping=g", "mapping: 'g' is not the name"),
            ("mapping=gpu.0", "mapping: 'gpu.0' is not the name"),
        ] {
            let error = text.parse::<Hostpci>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }
}
