//! Proxmox VE's hookscript: a guest's number and a phase in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    vfio_bindd::cli::hookscript(&arguments).into()
}
