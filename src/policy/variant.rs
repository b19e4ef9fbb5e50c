//! Variant: which vfio driver a function gets, and why that one.
//!
//! Owns the choice by the kernel's `vfio_pci:` aliases, as libvirt makes it
//! (src/util/virpci.c, `virPCIDeviceFindBestVFIOVariant`, 10.0): every field is
//! equal or a wildcard, the fewest wildcards win, the first of equals. Pure;
//! whoever binds makes sure that the driver is what it is taken for.

use serde::{Deserialize, Serialize};

use super::model::{DriverChoice, VFIO_DRIVERS, VFIO_PCI};
use crate::pci::function::{Function, Variant, is_vfio_driver};

/// How the aliases begin of drivers that bind by an override only
/// (scripts/mod/file2alias.c, `do_pci_entry`, v6.12).
const PREFIX: &str = "vfio_pci:";

/// The fields of a PCI alias in their order. Values are upper-case hex digits.
const FIELDS: [&str; 7] = ["v", "d", "sv", "sd", "bc", "sc", "i"];

/// The module of vfio-pci itself, which is made for every function.
const PLAIN: &str = "vfio_pci";

/// The `vfio_pci:` aliases of a kernel's modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(Vec<Alias>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Alias {
    text: String,
    module: String,
}

impl Aliases {
    /// Those in the text of a `modules.alias`. Lines that are not understood
    /// are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let aliases = text.lines().filter_map(|line| {
            let (alias, module) = line.strip_prefix("alias ")?.split_once(' ')?;
            let fits = fields(alias.strip_prefix(PREFIX)?).is_some() && is_name(module);
            fits.then(|| Alias {
                text: alias.to_owned(),
                module: module.replace('-', "_"),
            })
        });
        Self(aliases.collect())
    }

    /// The variant driver for a function with this `modalias`; `None` where
    /// vfio-pci is as good.
    #[must_use]
    pub fn best(&self, modalias: &str) -> Option<Variant> {
        let own = fields(modalias.trim_end().strip_prefix("pci:")?)?;
        let fitting = self.0.iter().filter_map(|alias| {
            let theirs = fields(alias.text.strip_prefix(PREFIX)?)?;
            let fits = own
                .iter()
                .zip(theirs)
                .all(|(own, theirs)| theirs == "*" || *own == theirs);
            let wildcards = theirs.iter().filter(|one| **one == "*").count();
            fits.then_some((wildcards, alias))
        });
        let (_, best) = fitting.min_by_key(|(wildcards, _)| *wildcards)?;
        (best.module != PLAIN).then(|| Variant::Module {
            module: best.module.clone(),
            alias: best.text.clone(),
        })
    }
}

/// The values of [`FIELDS`] in an alias without its prefix.
fn fields(text: &str) -> Option<[&str; 7]> {
    let mut rest = text;
    let mut values = [""; 7];
    for (value, key) in values.iter_mut().zip(FIELDS) {
        rest = rest.strip_prefix(key)?;
        let is_value = |c: char| c == '*' || c.is_ascii_digit() || c.is_ascii_uppercase();
        let end = rest.find(|c| !is_value(c)).unwrap_or(rest.len());
        (*value, rest) = rest.split_at_checked(end)?;
    }
    rest.is_empty().then_some(values)
}

/// Whether it can be a module's name, and so no option and no path.
fn is_name(module: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !module.starts_with('-') && !module.is_empty() && module.chars().all(fits)
}

/// The driver that a function is to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    /// The driver. With a `module` the name that is expected.
    pub driver: String,
    /// The module that an alias names. The kernel tells its driver's name once
    /// it is loaded; without that the function gets vfio-pci.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Why this one; a clause.
    pub why: String,
    /// Whether it is vfio-pci although there is a better one, or may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fell_back: bool,
}

/// What `choice` comes to for `function`.
#[must_use]
pub fn pick(choice: DriverChoice, function: &Function) -> Pick {
    let because = |driver: &str, why: String| Pick {
        driver: driver.to_owned(),
        module: None,
        why,
        fell_back: false,
    };
    if choice != DriverChoice::Auto {
        return because(choice.as_str(), "the config names it".to_owned());
    }
    let inspection = function.inspection.as_ref();
    let variant = inspection.and_then(|one| one.variant.as_ref());
    if let Some(driver) = function.driver.as_deref().filter(|one| is_vfio_driver(one)) {
        return on_it(driver, variant);
    }
    let set = inspection.and_then(|one| one.driver_override.as_deref());
    let known = set.and_then(|set| VFIO_DRIVERS.iter().find(|one| **one == set));
    match (variant, known) {
        (Some(Variant::Module { module, alias }), known) => {
            let expected = expected(module);
            match known.filter(|known| **known != expected) {
                Some(known) => because(known, "the driver override names it".to_owned()),
                None => Pick {
                    driver: expected,
                    module: Some(module.clone()),
                    why: format!("{alias} names its module"),
                    fell_back: false,
                },
            }
        }
        (_, Some(known)) => because(known, "the driver override names it".to_owned()),
        (Some(Variant::Unknown(why)), None) => Pick {
            fell_back: true,
            ..because(VFIO_PCI, format!("no variant driver can be chosen: {why}"))
        },
        (None, None) if inspection.is_none() => because(
            VFIO_PCI,
            "unless there is a variant driver for it".to_owned(),
        ),
        (None, None) => because(VFIO_PCI, "no variant driver is for it".to_owned()),
    }
}

/// What is said of a function that a vfio driver has: it stays with that one.
fn on_it(driver: &str, variant: Option<&Variant>) -> Pick {
    let mut pick = Pick {
        driver: driver.to_owned(),
        module: None,
        why: "it has the function already".to_owned(),
        fell_back: false,
    };
    if let Some(Variant::Module { module, alias }) = variant {
        if driver == VFIO_PCI {
            pick.fell_back = true;
            pick.why = format!("{}, although {alias} names {module}", pick.why);
        } else if driver == expected(module) {
            pick.why = format!("{alias} names its module");
        }
    }
    pick
}

/// The driver that a module is expected to have: most are called as it is.
fn expected(module: &str) -> String {
    let known = VFIO_DRIVERS
        .iter()
        .find(|name| name.replace('-', "_") == module);
    known.map_or_else(|| module.to_owned(), |name| (*name).to_owned())
}

/// Whether a mapping with `choice` is content with the driver that has a
/// function: with `auto`, any of vfio, since one that is bound may be in use.
#[must_use]
pub fn is_content(choice: DriverChoice, driver: Option<&str>) -> bool {
    driver.is_some_and(|driver| match choice {
        DriverChoice::Auto => is_vfio_driver(driver),
        _ => driver == choice.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VF of a ConnectX card, as its attribute `modalias` has it.
    const VF: &str = "pci:v000015B3d0000101Esv000015B3sd00000058bc02sc00i00\n";
    const ANY: &str = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n";

    fn best(aliases: &str, modalias: &str) -> Option<String> {
        match Aliases::parse(aliases).best(modalias)? {
            Variant::Module { module, .. } => Some(module),
            Variant::Unknown(_) => None,
        }
    }

    #[test]
    fn the_fewest_wildcards_win_and_the_first_of_equals() {
        let mlx5 = "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\n";
        let any_of_vendor = "alias vfio_pci:v000015B3d*sv*sd*bc*sc*i* vendor-vfio-pci\n";
        let twin = "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* twin_vfio_pci\n";
        let of_class = "alias vfio_pci:v000015B3d0000101Esv*sd*bc02sc00i* net_vfio_pci\n";
        let plain = "alias vfio_pci:v000015B3d0000101Esv*sd*bc02sc00i00 vfio_pci\n";
        for (aliases, wanted) in [
            (&[][..], None),
            (&[ANY], None),
            (&[ANY, mlx5], Some("mlx5_vfio_pci")),
            (&[mlx5, ANY], Some("mlx5_vfio_pci")),
            (&[any_of_vendor], Some("vendor_vfio_pci")),
            (&[any_of_vendor, mlx5], Some("mlx5_vfio_pci")),
            (&[twin, mlx5], Some("twin_vfio_pci")),
            (&[mlx5, of_class], Some("net_vfio_pci")),
            // vfio-pci itself may be the best, and then there is no better one.
            (&[mlx5, of_class, plain], None),
        ] {
            let found = best(&aliases.concat(), VF);
            assert_eq!(found.as_deref(), wanted, "{aliases:?}");
        }
    }

    #[test]
    fn what_does_not_fit_or_is_not_understood_is_left_out() {
        for alias in [
            // Another device, subsystem or class.
            "alias vfio_pci:v000015B3d0000101Fsv*sd*bc*sc*i* a_vfio_pci",
            "alias vfio_pci:v*d*sv*sd00000059bc*sc*i* a_vfio_pci",
            "alias vfio_pci:v*d*sv*sd*bc03sc*i* a_vfio_pci",
            // Drivers that udev loads, and not for an override.
            "alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core",
            // Broken.
            "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc* a_vfio_pci",
            "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*x a_vfio_pci",
            "alias vfio_pci:v000015B3d000010??sv*sd*bc*sc*i* a_vfio_pci",
            "alias vfio_pci:v*d*sv*sd*bc*sc*i* -r",
            "alias vfio_pci:v*d*sv*sd*bc*sc*i* ../a_vfio_pci",
            "alias vfio_pci:v*d*sv*sd*bc*sc*i* ",
            "alias vfio_pci:v*d*sv*sd*bc*sc*i*",
            "# alias vfio_pci:v*d*sv*sd*bc*sc*i* a_vfio_pci",
            "alias vfio_pci: a_vfio_pci",
            "alias",
        ] {
            assert_eq!(best(alias, VF), None, "{alias}");
        }
        let any = "alias vfio_pci:v*d*sv*sd*bc*sc*i* a_vfio_pci\n";
        assert_eq!(best(any, VF).as_deref(), Some("a_vfio_pci"));
        for modalias in ["", "pci:", "usb:v15B3", "pci:v000015b3d", "vfio_pci:v*"] {
            assert_eq!(best(any, modalias), None, "{modalias}");
        }
    }

    #[test]
    fn modules_are_called_as_their_drivers_but_for_dashes() {
        for (module, driver) in [
            ("mlx5_vfio_pci", "mlx5_vfio_pci"),
            ("xe_vfio_pci", "xe-vfio-pci"),
            ("vendor_vfio_pci", "vendor_vfio_pci"),
        ] {
            assert_eq!(expected(module), driver);
        }
        assert!(VFIO_DRIVERS.iter().all(|name| is_vfio_driver(name)));
    }
}
