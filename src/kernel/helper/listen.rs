//! Listen: a helper for each connection to the socket that systemd hands over.
//!
//! Owns that all of them come from one unit, by a fork each: a unit for each, with
//! its own view of the file system, takes longer to start than what it is for.
//! Reads and writes nothing of the host.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixListener, process::CommandExt as _},
    },
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// How long it stays when nobody comes; systemd starts it anew for the next.
const IDLE: Duration = Duration::from_secs(60);

/// How many helpers there are at a time, those that hang among them. Twenty work.
const MOST: usize = 64;

/// Starts a `helper` with each connection to `socket` as its standard input, until
/// nobody has come for a minute and none is left.
///
/// # Errors
/// If the socket cannot be waited at.
pub fn listen(socket: OwnedFd, helper: impl Fn() -> Command) -> io::Result<()> {
    // The time-out of reads is that of accept, too (socket(7), SO_RCVTIMEO).
    set_socket_timeout(&socket, Timeout::Recv, Some(IDLE))?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(false)?;
    let helpers = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match listener.accept() {
            Ok((connection, _)) => OwnedFd::from(connection),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock if helpers.load(Ordering::Acquire) > 0 => continue,
                io::ErrorKind::WouldBlock => return Ok(()),
                _ => return Err(error),
            },
        };
        // Whoever is turned away hears that the connection is closed.
        if helpers.load(Ordering::Acquire) >= MOST {
            tracing::warn!("there are {MOST} helpers already: one more is not started");
        } else if let Err(error) = start(connection, &helper, &helpers) {
            tracing::warn!("a helper cannot be started: {error}");
        }
    }
}

fn start(
    connection: OwnedFd,
    helper: &impl Fn() -> Command,
    helpers: &Arc<AtomicUsize>,
) -> io::Result<()> {
    let mut child = helper()
        .stdin(Stdio::from(connection))
        .stdout(Stdio::null())
        // Whatever this process is told does not break off a bind half-way.
        .process_group(0)
        .spawn()?;
    helpers.fetch_add(1, Ordering::AcqRel);
    let helpers = Arc::clone(helpers);
    // One that nobody waits for would stay as a zombie.
    let waiting = thread::Builder::new().spawn(move || {
        if let Err(error) = child.wait() {
            tracing::debug!("a helper is not waited for: {error}");
        }
        helpers.fetch_sub(1, Ordering::AcqRel);
    });
    waiting.map(drop)
}
