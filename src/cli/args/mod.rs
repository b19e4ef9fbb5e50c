//! The client's command line.

mod claim;
mod hook;
mod libvirt;
mod proxmox;
mod tree;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::{
    claim::Claim,
    hook::{Hook, LibvirtCall, ProxmoxCall},
    libvirt::{Libvirt, Update},
    proxmox::Proxmox,
    tree::Tree,
};
use crate::{pci::address::Address, policy::explain::Target};

/// Asks vfio-bindd which PCI functions mappings resolve to. See vfio-bindctl(1).
#[derive(Debug, Parser)]
#[command(name = "vfio-bindctl", version, arg_required_else_help = true)]
pub struct Cli {
    /// Talk over this bus instead of the system bus
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub bus_address: Option<String>,
    /// Read this config, and config.d/*.toml beside it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use this directory as /sys
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys")]
    pub sysfs_root: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// Whether to print JSON.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the daemon's state and every mapping
    Status(Json),
    /// Print where a mapping's functions are
    Resolve {
        /// The mapping
        name: String,
        /// Wait this long for it to be bound, as 10s or 500ms
        #[arg(long, value_name = "TIME", value_parser = duration)]
        wait: Option<Duration>,
        /// How to print them
        #[arg(long, value_enum, default_value = "address")]
        format: Format,
        /// The same as --format json
        #[command(flatten)]
        json: Json,
    },
    /// List the PCI functions of this host (needs no daemon)
    Functions(Json),
    /// Show how the functions hang together, from NUMA nodes and root ports down,
    /// and what they are for (needs no daemon)
    Tree(Tree),
    /// Show what would be done, and what is refused and why (needs no daemon)
    Plan {
        /// Plan for this recorded host instead
        #[arg(long, value_name = "DUMP")]
        host: Option<PathBuf>,
        /// Print JSON
        #[command(flatten)]
        json: Json,
    },
    /// Explain why a function is or is not taken, or why a mapping has what it
    /// has (needs no daemon)
    Explain {
        /// A mapping, or the address of a function
        #[arg(value_name = "NAME|ADDRESS")]
        target: Target,
        /// Explain it for this recorded host instead
        #[arg(long, value_name = "DUMP")]
        host: Option<PathBuf>,
        /// Do not ask the daemon
        #[arg(long)]
        offline: bool,
        /// Print JSON
        #[command(flatten)]
        json: Json,
    },
    /// Print terms that find a mapping's functions again wherever they are
    /// (needs no daemon)
    Pin {
        /// The mapping
        name: String,
        /// Do it for this recorded host instead
        #[arg(long, value_name = "DUMP")]
        host: Option<PathBuf>,
        /// Print JSON
        #[command(flatten)]
        json: Json,
    },
    /// Check the config (needs no daemon)
    Check {
        /// The file, instead of the default one
        file: Option<PathBuf>,
        /// Print JSON
        #[command(flatten)]
        json: Json,
    },
    /// Say what of this host stands in the way of virtual machines (needs no daemon)
    Doctor {
        /// Examine this recorded host instead
        #[arg(long, value_name = "DUMP")]
        host: Option<PathBuf>,
        /// Print JSON
        #[command(flatten)]
        json: Json,
    },
    /// Print each change of a mapping as it comes
    Watch(Json),
    /// Record this host as text, for a bug report (needs no daemon)
    Dump {
        /// Replace serial numbers
        #[arg(long)]
        redact: bool,
    },
    /// Have the daemon read its config again
    Reload,
    /// Have the daemon look at all functions again
    Rescan {
        /// And bind again what was given back
        #[arg(long)]
        take: bool,
    },
    /// Give functions back to the host, with the driver that they had
    Restore(Wanted),
    /// Have functions of a mapping for one owner, and print where they are
    Claim(Claim),
    /// Free all that an owner has
    Release {
        /// The owner
        owner: String,
    },
    /// Take at boot what no driver has yet (for vfio-bindd-early.service)
    Early {
        /// Only say what would be taken
        #[arg(long)]
        dry_run: bool,
        /// Be the process that does it, and that may hang
        #[arg(long, hide = true)]
        worker: bool,
    },
    /// Be what a hypervisor calls when a guest starts and stops
    #[command(subcommand)]
    Hook(Hook),
    /// Work with Proxmox VE
    #[command(subcommand)]
    Proxmox(Proxmox),
    /// Work with libvirt
    #[command(subcommand)]
    Libvirt(Libvirt),
    /// Answer a query of Terraform's external data source
    Terraform,
    /// Wait until the daemon is done with a function that was plugged in (for the
    /// udev rule)
    Hotplug {
        /// The function
        address: Address,
    },
    /// Print a completion script
    Completions {
        /// For this shell
        shell: Shell,
    },
    /// Be a helper process that serves its standard input
    #[command(hide = true)]
    Helper,
}

/// What is to be given back.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Wanted {
    /// The mapping that took them, or the address of one function
    #[arg(value_name = "NAME|ADDRESS")]
    pub target: Option<String>,
    /// Give back all that was taken
    #[arg(long)]
    pub all: bool,
}

/// How resolved functions are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An address a line: 0000:3b:00.0
    Address,
    /// A slot a line: 0000:3b:00
    Slot,
    /// Options for QEMU, in one line
    Qemu,
    /// Options for Cloud Hypervisor, in one line
    CloudHypervisor,
    /// Options for crosvm, in one line
    Crosvm,
    /// hostdev elements for libvirt
    Libvirt,
    /// The value of a hostpciN option of Proxmox VE
    Proxmox,
    /// JSON
    Json,
}

/// `10s`, `500ms`, `2min`, `1h`, or seconds without a unit, as systemd.time(7).
fn duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: Option<u64> = number.parse().ok();
    let factor = match unit.trim() {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        // As microseconds it has to fit what D-Bus takes.
        .filter(|millis| millis.checked_mul(1000).is_some())
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a time like 10s, 500ms or 2min".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("10s", 10_000),
            ("10", 10_000),
            ("500ms", 500),
            ("2min", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "10 days",
            "99999999999999999999s",
            "9999999999999999999ms",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
