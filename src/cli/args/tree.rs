//! The arguments of `tree`.

use std::path::PathBuf;

use clap::Args;

use super::Json;
use crate::policy::explain::Target;

/// What of the host is shown, and how.
#[derive(Clone, Debug, Args)]
pub struct Tree {
    /// Only the functions of this mapping, or what is around this function
    #[arg(value_name = "NAME|ADDRESS")]
    pub target: Option<Target>,
    /// Show each virtual function, where there are many too
    #[arg(long)]
    pub all: bool,
    /// Print a picture for Graphviz's dot
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// Show this recorded host instead
    #[arg(long, value_name = "DUMP")]
    pub host: Option<PathBuf>,
    /// Do not ask the daemon
    #[arg(long)]
    pub offline: bool,
    /// Print JSON
    #[command(flatten)]
    pub json: Json,
}
