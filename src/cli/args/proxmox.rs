//! The arguments of what Proxmox VE calls, and of what is done with it.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;

use super::duration;

/// Who calls, and with what.
#[derive(Clone, Debug, Subcommand)]
pub enum Hook {
    /// As a hookscript of Proxmox VE
    Proxmox {
        /// The guest's number
        #[arg(value_name = "VMID")]
        vm: u32,
        /// What happens to it
        phase: String,
        /// What a start may wait for the daemon
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
        timeout: Duration,
        /// Use this directory as /
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
}

/// What is to be done with Proxmox VE.
#[derive(Clone, Debug, Subcommand)]
pub enum Proxmox {
    /// Bring this node's entries in resource mappings in step with vfio-bindd's
    Sync {
        /// Only print what would be written
        #[arg(long)]
        dry_run: bool,
        /// Do nothing unless the config says so (for vfio-bindd-pve-sync.service)
        #[arg(long)]
        auto: bool,
        /// Use this directory as /
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Make the hookscript a snippet, and print how a guest gets it
    Enable {
        /// The guest's number
        #[arg(value_name = "VMID")]
        vm: u32,
        /// Use this directory as /
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
}
