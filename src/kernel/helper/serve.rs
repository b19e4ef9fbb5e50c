//! The helper's side: answers one request after the other until it is let go.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use super::protocol::{Reply, Request};
use crate::kernel::{
    apply::{Modprobe, apply},
    inspect::inspect,
    sysfs::HostSysfs,
    usage::HostDisks,
};

/// Serves what comes over `socket` until the other end closes it.
///
/// # Errors
/// If the socket breaks or somebody else than our own daemon talks over it.
pub fn serve(socket: OwnedFd, sysfs_root: &Path) -> io::Result<()> {
    let sysfs = HostSysfs::new(sysfs_root);
    let mut answers = UnixStream::from(socket);
    let requests = BufReader::new(answers.try_clone()?);
    for line in requests.lines() {
        let reply = match serde_json::from_str(&line?)? {
            Request::Inspect {
                address,
                serial_known,
            } => Reply::Inspected(inspect(&sysfs, &HostDisks, address, serial_known)),
            Request::Apply(order) => Reply::Applied(apply(&sysfs, &HostDisks, &Modprobe, &order)),
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        answers.write_all(&line)?;
    }
    Ok(())
}
