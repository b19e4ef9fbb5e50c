//! What is refused by what the host does with a function.
//!
//! Pure: a fact in, a guard and the evidence in words out.

use super::{Guard, Objection};
use crate::pci::usage::Fact;

/// What speaks against unbinding the native driver, by what a helper found.
#[must_use]
pub fn usage_objections(usage: &[Fact]) -> Vec<Objection> {
    usage
        .iter()
        .map(|fact| {
            let (guard, evidence) = judge(fact);
            Objection {
                guard,
                text: format!("is in use: {evidence}"),
            }
        })
        .collect()
}

/// The guard that `fact` raises, `None` if nothing lifts it, and the evidence.
#[must_use]
pub fn judge(fact: &Fact) -> (Option<Guard>, String) {
    let guard = guard(fact);
    let evidence = match fact {
        Fact::DiskHeld { disk, error } => format!("{disk} cannot be opened exclusively: {error}"),
        Fact::Holder { device, holder } => format!("{holder} is made of {device}"),
        Fact::Mounted { device, on } => format!("{device} is mounted on {on}"),
        Fact::Swap { device } => format!("{device} is swapped to"),
        Fact::KernelParameter { device, parameter } => {
            format!("{device} is what {parameter} names")
        }
        Fact::Listed {
            device,
            file,
            entry,
        } => format!("{device} is in {file} for {entry}"),
        Fact::OpenForWriting { device, process } => {
            format!("{process} has {device} open for writing")
        }
        Fact::Signature { device, kind } => {
            format!("{device} carries {kind}, though no use of it is seen")
        }
        Fact::LinkUp { interface } => format!("{interface} is up"),
        Fact::HasAddress { interface, address } => format!("{interface} has {address}"),
        Fact::Routed {
            interface,
            destination,
        } => format!("{interface} carries the route to {destination}"),
        Fact::PortOf { interface, master } => format!("{interface} is a port of {master}"),
        Fact::Carries { interface, upper } => format!("{interface} carries {upper}"),
        Fact::Configured { interface, file } => format!("{interface} is in {file}"),
        Fact::Elsewhere { driver } => format!(
            "{driver} holds it and no network interface is seen; it may be in another network \
             namespace"
        ),
        Fact::InfinibandActive { port } => format!("the InfiniBand port {port} is active"),
        Fact::Connected { connector } => format!("a monitor is connected to {connector}"),
        Fact::ConsoleFramebuffer { framebuffer } => {
            format!("the console is drawn on {framebuffer}")
        }
        Fact::BootDisplay { card } => format!("the host booted with {card} as its display"),
        Fact::NativeGpu { driver } => {
            format!("{driver} holds it, whose unbind is known to hang")
        }
        Fact::NodeOpen { node, process, .. } | Fact::VfioOpen { node, process } => {
            format!("{process} has {node} open")
        }
        Fact::UsbDevice { device, kind } => format!("{kind} is plugged in at {device}"),
        Fact::Input { name } => format!("{name} is an input device of it"),
        Fact::ConsoleTerminal { terminal } => format!("the console is on {terminal}"),
        Fact::Tpm { device } => format!("{device} is a TPM of it"),
        Fact::Rtc { device } => format!("{device} is a clock of it"),
        Fact::Ipmi { device } => format!("{device} is the way to the BMC"),
        Fact::WatchdogActive { device } => format!("the watchdog {device} runs"),
        Fact::Mediated { device } => format!("{device} was made of it for a virtual machine"),
        Fact::HungTaskPanic { value } => format!(
            "an unbind that hangs would take the host down (kernel.hung_task_panic is {value}; \
             sysctl kernel.hung_task_panic=0 ends that)"
        ),
        Fact::Unchecked { text } => text.clone(),
    };
    (guard, evidence)
}

fn guard(fact: &Fact) -> Option<Guard> {
    Some(match fact {
        Fact::DiskHeld { .. }
        | Fact::Holder { .. }
        | Fact::Mounted { .. }
        | Fact::Swap { .. }
        | Fact::KernelParameter { .. }
        | Fact::Listed { .. }
        | Fact::OpenForWriting { .. } => Guard::Storage,
        Fact::Signature { .. } => Guard::Signature,
        Fact::LinkUp { .. }
        | Fact::HasAddress { .. }
        | Fact::Routed { .. }
        | Fact::PortOf { .. }
        | Fact::Carries { .. }
        | Fact::Configured { .. }
        | Fact::Elsewhere { .. }
        | Fact::InfinibandActive { .. } => Guard::Network,
        Fact::Connected { .. } => Guard::Display,
        Fact::ConsoleFramebuffer { .. } | Fact::BootDisplay { .. } => Guard::Console,
        Fact::NativeGpu { .. } => Guard::NativeGpu,
        Fact::NodeOpen { subsystem, .. } => of_subsystem(subsystem),
        Fact::UsbDevice { .. } | Fact::Input { .. } => Guard::Usb,
        Fact::ConsoleTerminal { .. } => Guard::Serial,
        Fact::Tpm { .. } => Guard::Tpm,
        Fact::Rtc { .. } => Guard::Rtc,
        Fact::Ipmi { .. } => Guard::Ipmi,
        Fact::WatchdogActive { .. } => Guard::Watchdog,
        Fact::HungTaskPanic { .. } => Guard::HungTaskPanic,
        Fact::Unchecked { .. } => Guard::Unchecked,
        // A virtual machine's device: nothing lifts that.
        Fact::Mediated { .. } | Fact::VfioOpen { .. } => return None,
    })
}

/// The guard of a device node by its subsystem.
fn of_subsystem(subsystem: &str) -> Guard {
    match subsystem {
        "drm" | "drm_dp_aux_dev" | "graphics" | "accel" | "nvidia" | "cec" | "i2c-dev" => {
            Guard::Display
        }
        "sound" => Guard::Sound,
        "usb" | "usbmisc" | "input" | "hidraw" => Guard::Usb,
        "tty" => Guard::Serial,
        "infiniband" | "infiniband_verbs" | "infiniband_mad" | "infiniband_cm" | "ptp" | "wwan" => {
            Guard::Network
        }
        "tpm" | "tpmrm" => Guard::Tpm,
        "watchdog" => Guard::Watchdog,
        "rtc" => Guard::Rtc,
        "block" | "bsg" | "scsi_generic" | "scsi_tape" | "scsi_changer" | "nvme"
        | "nvme-generic" => Guard::Storage,
        _ => Guard::Unchecked,
    }
}
