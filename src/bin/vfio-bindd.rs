//! The daemon's program: options in, exit code out.

use std::{error::Error, io, os::fd::AsFd as _, process::ExitCode};

use clap::Parser as _;
use vfio_bindd::{
    daemon::{
        args::Args,
        log,
        run::{GRACE, Options, run},
    },
    kernel::helper::serve::serve,
};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = log::start(args.log).map_err(Into::into).and_then(|()| {
        if args.helper {
            help(&args)
        } else {
            daemon(args)
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn help(args: &Args) -> Result<(), Box<dyn Error>> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(serve(socket, &args.sysfs_root)?)
}

fn daemon(args: Args) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(run(Options {
        config: args.config,
        sysfs_root: args.sysfs_root,
        bus_address: args.bus_address,
        dry_run: args.dry_run,
    }));
    // Dropping it would wait for every read that is under way, for ever.
    runtime.shutdown_timeout(GRACE);
    Ok(ended?)
}
