//! Guards: the named reasons why a function is not taken.
//!
//! Owns the names. `class` has the rules that need no look at what the host
//! does right now, `evidence` those about what `kernel::usage` found. Never
//! lifts a guard by itself.

mod class;
mod evidence;

use std::{fmt, str::FromStr};

use serde::Serialize;

pub use self::{
    class::{is_bridge, static_objections},
    evidence::{judge, usage_objections},
};
use crate::pci::address::Address;

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
    Network "network" "A network interface below it is used, or meant to be.",
    Console "console" "The console is drawn on it, or the host booted with it.",
    Display "display" "A monitor is connected to it or a process has it open.",
    NativeGpu "native-gpu" "A GPU driver whose unbind is known to hang holds it.",
    Sound "sound" "A process has its sound card open.",
    Usb "usb" "A USB device that the host needs is below it.",
    Serial "serial" "A terminal below it is the console or open.",
    Tpm "tpm" "A TPM is below it.",
    Rtc "rtc" "A real-time clock is below it.",
    Ipmi "ipmi" "It is the way to the BMC.",
    Watchdog "watchdog" "A watchdog below it runs.",
    PfWithVfs "pf-with-vfs" "It is a PF that has VFs.",
    SystemClass "system-class" "Its class is one of the system's own.",
    Signature "signature" "A disk below it carries data that nothing uses now.",
    HungTaskPanic "hung-task-panic" "The kernel panics when an unbind hangs.",
    Unchecked "unchecked" "Whether the host uses it cannot be checked.",
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

    pub(crate) fn guarded(guard: Guard, text: impl Into<String>) -> Self {
        Self {
            guard: Some(guard),
            text: text.into(),
        }
    }
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
}
