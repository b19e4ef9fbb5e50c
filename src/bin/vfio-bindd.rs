//! The daemon's program: options in, exit code out.

use std::{io, os::fd::AsFd as _, process::ExitCode};

use clap::Parser as _;
use vfio_bindd::{
    daemon::{args::Args, journal},
    kernel::helper::serve::serve,
};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = journal::start(args.log) {
        eprintln!("vfio-bindd: cannot log: {error}");
        return ExitCode::FAILURE;
    }
    let result = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|socket| serve(socket, &args.sysfs_root));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
