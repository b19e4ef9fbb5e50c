//! Guards: the named reasons why a function is not taken.
//!
//! Owns the names and the rules that need no look at what the host does right
//! now; `kernel::usage` brings that as evidence. Never lifts a guard by itself.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::pci::{
    address::Address,
    function::{Evidence, Function, Header, Role, Usage},
    id::ClassCode,
};

macro_rules! guards {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// A guard's name, as `allow` in the config spells it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard { $(#[doc = $doc] $variant,)* }

        impl Guard {
            /// All guards, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the config.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

guards! {
    Storage "storage" "A disk below the function is used.",
    Network "network" "A network interface below it is up or part of something.",
    Console "console" "It shows the console.",
    Display "display" "A display is connected to it or a program draws on it.",
    NativeGpu "native-gpu" "A GPU driver whose unbind is known to hang holds it.",
    Sound "sound" "A sound card is below it.",
    Usb "usb" "A USB device that the host needs is below it.",
    Serial "serial" "A serial port is below it.",
    Tpm "tpm" "A TPM is below it.",
    Rtc "rtc" "The real-time clock is below it.",
    Ipmi "ipmi" "It is the way to the BMC.",
    Watchdog "watchdog" "A watchdog is below it.",
    PfWithVfs "pf-with-vfs" "It is a PF that has VFs.",
    SystemClass "system-class" "Its class is one of the system's own.",
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no guard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such guard")]
pub struct UnknownGuard;

impl FromStr for Guard {
    type Err = UnknownGuard;

    fn from_str(name: &str) -> Result<Self, UnknownGuard> {
        Self::ALL
            .iter()
            .copied()
            .find(|guard| guard.name() == name)
            .ok_or(UnknownGuard)
    }
}

/// Why a function may not be taken. Data, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The guard that can be lifted by `allow`, `None` if nothing lifts it.
    pub guard: Option<Guard>,
    /// A clause that follows the address: `is a bridge`.
    pub text: String,
}

/// Policy said no to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The function.
    pub address: Address,
    /// The guard that `allow` would have to name, `None` if nothing lifts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<&'static str>,
    /// A clause that follows the address.
    pub reason: String,
}

impl Objection {
    /// An objection that nothing lifts.
    pub(crate) fn absolute(text: impl Into<String>) -> Self {
        Self {
            guard: None,
            text: text.into(),
        }
    }

    fn guarded(guard: Guard, text: impl Into<String>) -> Self {
        Self {
            guard: Some(guard),
            text: text.into(),
        }
    }
}

/// What a bridge is, wherever it is asked: vfio-pci refuses any header type
/// but 0 (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_core_register_device`).
#[must_use]
pub fn is_bridge(function: &Function) -> bool {
    function.header == Header::Bridge || function.class.subclass() == 0x0604
}

/// What speaks against taking `function`, whatever the host does with it now.
#[must_use]
pub fn static_objections(function: &Function) -> Vec<Objection> {
    let mut objections = Vec::new();
    if is_bridge(function) {
        objections.push(Objection::absolute("is a bridge, which vfio cannot take"));
    } else if let Some((guard, what)) = system_class(function.class) {
        objections.push(Objection::guarded(
            guard,
            format!("is {what} (class {}), which the host needs", function.class),
        ));
    }
    if function.boot_vga {
        objections.push(Objection::guarded(
            Guard::Console,
            "is the display that the host booted with (boot_vga)",
        ));
    }
    if let Role::Pf { vfs, .. } = &function.role
        && !vfs.is_empty()
    {
        objections.push(Objection::guarded(
            Guard::PfWithVfs,
            format!("is a PF with {} VFs, which would go with it", vfs.len()),
        ));
    }
    objections
}

/// Classes that vfio-pci would bind and that the host must keep
/// (PCI Code and ID Assignment; which of them vfio-pci takes was tried on 6.1
/// to 7.2: ISA bridge, SMBus and host bridge all bind).
fn system_class(class: ClassCode) -> Option<(Guard, &'static str)> {
    match (class.base(), class.subclass()) {
        (0x06, _) => Some((Guard::SystemClass, "a host or ISA bridge")),
        (0x05, _) => Some((Guard::SystemClass, "a memory controller")),
        (0x08, _) => Some((Guard::SystemClass, "a system peripheral")),
        (0x0b, _) => Some((Guard::SystemClass, "a processor")),
        (0x11, _) => Some((Guard::SystemClass, "a signal processing controller")),
        (_, 0x0c05) => Some((Guard::SystemClass, "an SMBus controller")),
        (_, 0x0c07) => Some((Guard::Ipmi, "an IPMI interface")),
        _ => None,
    }
}

/// What speaks against unbinding the native driver, by what a helper found.
#[must_use]
pub fn usage_objections(usage: &Usage) -> Vec<Objection> {
    let Usage::InUse(evidence) = usage else {
        return Vec::new();
    };
    evidence
        .iter()
        .map(|Evidence { guard, text }| Objection {
            guard: guard.parse().ok(),
            text: format!("is in use: {text}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_reads_back() {
        for guard in Guard::ALL {
            assert_eq!(guard.name().parse(), Ok(*guard));
        }
        assert!("disk".parse::<Guard>().is_err());
    }

    #[test]
    fn system_classes_are_the_ones_of_the_contract() {
        for (class, guarded) in [
            (0x06_0100, true),
            (0x05_8000, true),
            (0x08_0600, true),
            (0x0b_4000, true),
            (0x11_8000, true),
            (0x0c_0500, true),
            (0x0c_0701, true),
            (0x0c_0330, false),
            (0x02_0000, false),
            (0x03_0000, false),
            (0x01_0802, false),
            (0x12_0000, false),
        ] {
            assert_eq!(
                system_class(ClassCode::new(class)).is_some(),
                guarded,
                "{class:06x}"
            );
        }
    }
}
