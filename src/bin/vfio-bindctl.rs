//! The client's program: options in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use vfio_bindd::cli::{self, args::Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse()).into()
}
