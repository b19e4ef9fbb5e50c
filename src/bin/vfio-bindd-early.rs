//! The early stage's program for an initramfs: options in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    vfio_bindd::cli::image::run(std::env::args_os().skip(1).collect()).into()
}
