//! The client's program: options in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use vfio_bindd::cli::{self, args::Cli};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let exit = cli::at_once(&arguments).unwrap_or_else(|| cli::run(Cli::parse()));
    exit.into()
}
