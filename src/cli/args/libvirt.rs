//! The arguments of what is done with libvirt.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::duration;

/// What is to be done with libvirt.
#[derive(Clone, Debug, Subcommand)]
pub enum Libvirt {
    /// Bring a domain's definition in step with the mappings that it asks for
    Update(Update),
    /// Have libvirt call the hook, and print what makes it look for hooks
    Enable {
        /// Use this directory as /
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
}

/// Which definition, and how.
#[derive(Clone, Debug, Args)]
pub struct Update {
    /// The domain's name or UUID
    pub domain: String,
    /// Only print what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Wait this long for each mapping to be bound, as 10s or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait: Option<Duration>,
    /// Talk to this libvirt
    #[arg(long, value_name = "URI", default_value = "qemu:///system")]
    pub connect: String,
}
