//! The daemon's program: options in, exit code out.

use std::{
    error::Error,
    io,
    os::fd::AsFd as _,
    process::{Command, ExitCode},
};

use clap::Parser as _;
use vfio_bindd::{
    daemon::{
        args::Args,
        log,
        run::{GRACE, Options, SPARE_THREAD, run},
    },
    kernel::helper::{listen::listen, serve::serve},
};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = log::start(args.log).map_err(Into::into).and_then(|()| {
        if args.helper {
            help(&args)
        } else if args.helpers {
            start_helpers(args)
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

fn start_helpers(args: Args) -> Result<(), Box<dyn Error>> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let program = std::env::current_exe()?;
    Ok(listen(socket, || {
        let mut helper = Command::new(&program);
        helper.arg("--helper").arg("--sysfs-root");
        helper.arg(&args.sysfs_root);
        helper
    })?)
}

fn daemon(args: Args) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(SPARE_THREAD)
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
