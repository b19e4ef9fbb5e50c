//! The arguments that hypervisors call with.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::duration;

/// Who calls, and with what.
#[derive(Clone, Debug, Subcommand)]
pub enum Hook {
    /// As a hookscript of Proxmox VE
    Proxmox(ProxmoxCall),
    /// As a hook of libvirt's for QEMU, with the domain's XML on standard input
    Libvirt(LibvirtCall),
}

/// A call of Proxmox VE's.
#[derive(Clone, Debug, Args)]
pub struct ProxmoxCall {
    /// The guest's number
    #[arg(value_name = "VMID")]
    pub vm: u32,
    /// What happens to it
    pub phase: String,
    /// What a start may wait for the daemon, 30s without
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Use this directory as /
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

/// A call of libvirt's.
#[derive(Clone, Debug, Args)]
pub struct LibvirtCall {
    /// The domain's name
    pub domain: String,
    /// What happens to it
    pub operation: String,
    /// Whether that begins or ends
    pub sub_operation: String,
    /// Why it ended, and what a later libvirt may say
    #[arg(allow_hyphen_values = true)]
    pub extra: Vec<String>,
    /// What a start may wait for the daemon, 30s without
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Use this directory as /
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}
