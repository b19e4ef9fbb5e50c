//! The arguments of what is done with Proxmox VE.

use std::path::PathBuf;

use clap::Subcommand;

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
