//! The daemon's command line.

use std::path::PathBuf;

use clap::Parser;
use tracing::level_filters::LevelFilter;

/// Binds PCI functions to vfio for virtual machines. See vfio-bindd(8).
#[derive(Debug, Parser)]
#[command(name = "vfio-bindd", version)]
pub struct Args {
    /// Read this file, and config.d/*.toml beside it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use this directory as /sys
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub sysfs_root: PathBuf,
    /// Serve on this bus instead of the system bus
    #[arg(long, value_name = "ADDRESS")]
    pub bus_address: Option<String>,
    /// Plan and publish, but bind nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: LevelFilter,
    /// Be a helper process that serves its standard input
    #[arg(long, hide = true)]
    pub helper: bool,
    /// Start a helper for each connection to the socket at standard input
    #[arg(long, hide = true)]
    pub helpers: bool,
}
