//! The helper's side: answers one request after the other until it is let go.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use super::protocol::{Reply, Request};
use crate::{
    kernel::{
        apply::{Modprobe, apply},
        host::ThisHost,
        inspect::inspect,
        restore::restore,
        scan::scan_all,
        survey::{self, Survey},
        sysfs::HostSysfs,
        usage::{Look, Tables},
    },
    policy::doctor::{Finding, examine_iommu},
};

/// How long what is read once for many functions serves inspections. Before a
/// write everything is read anew.
const KEPT: Duration = Duration::from_secs(1);

/// Serves what comes over `socket` until the other end closes it.
///
/// # Errors
/// If the socket breaks or somebody else than our own daemon talks over it.
pub fn serve(socket: OwnedFd, sysfs_root: &Path) -> io::Result<()> {
    let sysfs = HostSysfs::new(sysfs_root);
    let mut answers = UnixStream::from(socket);
    let requests = BufReader::new(answers.try_clone()?);
    let mut tables = Tables::default();
    let mut read = Instant::now();
    for line in requests.lines() {
        let request = serde_json::from_str(&line?)?;
        let look_is_enough = matches!(request, Request::Inspect { .. });
        if !look_is_enough || read.elapsed() > KEPT {
            tables = Tables::default();
            read = Instant::now();
        }
        let look = Look {
            sysfs: &sysfs,
            host: &ThisHost,
            tables: &tables,
        };
        let reply = match request {
            Request::Inspect {
                address,
                serial_known,
            } => Reply::Inspected(inspect(look, address, serial_known)),
            Request::Apply(order) => Reply::Applied(apply(look, &Modprobe, &order)),
            Request::Restore(order) => Reply::Restored(restore(look, &Modprobe, &order)),
            Request::Survey => Reply::Surveyed(survey(look)?),
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        answers.write_all(&line)?;
    }
    Ok(())
}

/// What is wrong with the host's IOMMU, a sentence each.
fn survey(look: Look<'_>) -> io::Result<Vec<String>> {
    let inventory = scan_all(look.sysfs)?;
    let kernel = rustix::system::uname();
    let facts = survey::iommu(Survey {
        sysfs: look.sysfs,
        host: look.host,
        inventory: &inventory,
        kernel: &kernel.release().to_string_lossy(),
    });
    let findings = examine_iommu(&inventory, &facts).into_iter();
    let sentence = |one: Finding| match one.advice.as_str() {
        "" => format!("{}: {}", one.name, one.text),
        advice => format!("{}: {}; {advice}", one.name, one.text),
    };
    Ok(findings.map(sentence).collect())
}
