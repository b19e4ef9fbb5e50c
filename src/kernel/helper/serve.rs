//! The helper's side: answers one request after the other until it is let go.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    process::Process,
    protocol::{Reply, Request},
};
use crate::{
    kernel::{
        apply::apply,
        autoprobe,
        host::ThisHost,
        inspect::inspect,
        modules::Modprobe,
        nodes::own,
        restore::restore,
        scan::scan_all,
        sriov,
        survey::{self, Survey},
        sysfs::HostSysfs,
        tune::tune,
        usage::{self, Look, Tables},
    },
    policy::doctor::{Finding, examine_iommu},
};

/// How long what is read once for many functions serves inspections.
const LOOKS_KEPT: Duration = Duration::from_secs(1);

/// How long what [`Tables::for_next_write`] leaves of them serves writes. A card's
/// functions, or a row of cards, are not worth a walk each through all that
/// processes have open.
const WRITES_KEPT: Duration = Duration::from_secs(5);

/// Tables, and when they were begun.
struct Kept {
    tables: Tables,
    since: Instant,
}

impl Kept {
    fn new() -> Self {
        Self {
            tables: Tables::default(),
            since: Instant::now(),
        }
    }

    /// The tables, empty if they are too old.
    fn for_look(&mut self) -> &Tables {
        self.expire(LOOKS_KEPT);
        &self.tables
    }

    /// What of them serves a write.
    fn for_write(&mut self) -> &Tables {
        self.expire(WRITES_KEPT);
        self.tables = std::mem::take(&mut self.tables).for_next_write();
        &self.tables
    }

    /// None of them: what was closed since must be seen as well as what was opened,
    /// and nobody sees a close.
    fn for_now(&mut self) -> &Tables {
        *self = Self::new();
        &self.tables
    }

    fn expire(&mut self, most: Duration) {
        if self.since.elapsed() > most {
            *self = Self::new();
        }
    }
}

/// Serves what comes over `socket` until the other end closes it, after having
/// told which process this is. An answer that nobody is there for any more is
/// nothing to complain of: so it goes with helpers that are left behind.
///
/// # Errors
/// If the socket breaks or somebody else than our own daemon talks over it: the
/// process at the other end must be of our user (unix(7), SO_PEERCRED).
pub fn serve(socket: OwnedFd, sysfs_root: &Path) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&socket)?.uid;
    let own = rustix::process::geteuid();
    if peer != own {
        let text = format!("a helper serves user {own} only, and not {peer}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    match answer_all(UnixStream::from(socket), &HostSysfs::new(sysfs_root)) {
        Err(error) if is_alone(&error) => Ok(()),
        ended => ended,
    }
}

/// Whether the other end is gone, with answers unread or requests unsent.
fn is_alone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

fn answer_all(mut answers: UnixStream, sysfs: &HostSysfs) -> io::Result<()> {
    let requests = BufReader::new(answers.try_clone()?);
    say(&mut answers, &Process::of(std::process::id())?)?;
    let mut kept = Kept::new();
    for line in requests.lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let tables = match request {
            Request::Inspect { .. }
            | Request::Holders { .. }
            | Request::Withhold { .. }
            | Request::Own { .. }
            | Request::Tune(_)
            | Request::Survey => kept.for_look(),
            // What was opened since must be seen: something is decided by it.
            Request::Apply(_) | Request::Restore(_) => kept.for_write(),
            Request::Users { .. } | Request::MakeVfs(_) | Request::SettleVfs(_) => kept.for_now(),
        };
        let near = request.address().map(|address| sysfs.near(address));
        let look = Look {
            sysfs: near.as_ref().unwrap_or(sysfs),
            host: &ThisHost,
            tables,
        };
        if let Some(address) = request.unbinds() {
            say(&mut answers, &Reply::Handles(usage::handles(look, address)))?;
        }
        if let Request::MakeVfs(order) = &request {
            let handles = usage::vf_handles(look, order.pf.address);
            say(&mut answers, &Reply::Handles(handles))?;
        }
        let reply = match request {
            Request::Inspect { address, wanted } => {
                Reply::Inspected(inspect(look, address, wanted))
            }
            Request::Apply(order) => Reply::Applied(apply(look, &Modprobe, &order)),
            Request::Restore(order) => Reply::Restored(restore(look, &Modprobe, &order)),
            Request::Tune(order) => Reply::Tuned(tune(look, &order)),
            Request::Withhold { pf, withhold, undo } => {
                let done = if withhold {
                    autoprobe::withhold(look, pf, &undo)
                } else {
                    autoprobe::give_back(look, pf, &undo)
                };
                Reply::Withholding(done.map_err(|error| error.to_string()))
            }
            Request::MakeVfs(order) => Reply::Made(sriov::make(look, &order)),
            Request::SettleVfs(order) => Reply::Settled(sriov::settle(look, &order)),
            Request::Holders { address, before } => {
                Reply::Holders(usage::holders(look, address, &before))
            }
            Request::Own { address, ownership } => Reply::Owned(own(look, address, &ownership)),
            Request::Users { addresses } => Reply::Users(usage::users(look, &addresses)),
            Request::Survey => Reply::Surveyed(survey(look)?),
        };
        say(&mut answers, &reply)?;
    }
    Ok(())
}

fn say(answers: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    answers.write_all(&line)
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
