//! `hotplug`: has udev wait until the daemon is done with a function that was
//! plugged in. Run by the udev rule, and never for longer than [`LIMIT`].
//!
//! Decides nothing and writes nothing: without a daemon it is over at once.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::pci::address::Address;

/// How long udev is held up at most. Its workers are few, and what the daemon
/// cannot do by then it does later, to a driver that came first.
const LIMIT: Duration = Duration::from_secs(1);

/// Where the daemon listens.
const SOCKET: &str = "/run/vfio-bindd/hotplug.sock";

/// Waits until the daemon is done with the function at `address`, or is late.
pub(super) fn run(address: Address) {
    wait(Path::new(SOCKET), address, LIMIT);
}

fn wait(socket: &'static Path, address: Address, limit: Duration) {
    let (sender, over) = mpsc::channel::<io::Result<()>>();
    // Beside: a connect has no deadline, and the daemon may be stopped.
    thread::spawn(move || sender.send(ask(socket, address)));
    // That nobody is there is no mistake: nothing is to be waited for.
    drop(over.recv_timeout(limit));
}

/// Names the function, and waits until the daemon closes the connection.
fn ask(socket: &Path, address: Address) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{address}\n").as_bytes())?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn address() -> Address {
        "0000:01:00.0".parse().unwrap()
    }

    fn socket() -> (tempfile::TempDir, &'static Path) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hotplug.sock");
        (folder, Box::leak(path.into_boxed_path()))
    }

    #[test]
    fn without_a_daemon_it_is_over_at_once() {
        let (_folder, socket) = socket();
        let begun = Instant::now();
        wait(socket, address(), LONG);
        // The socket is there and nobody listens: the daemon was killed.
        drop(UnixListener::bind(socket).unwrap());
        wait(socket, address(), LONG);
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn the_daemon_ends_it_by_closing_the_connection() {
        let (_folder, socket) = socket();
        let daemon = UnixListener::bind(socket).unwrap();
        let waiting = thread::spawn(move || wait(socket, address(), LONG));
        let (mut caller, _) = daemon.accept().unwrap();
        let mut line = [0; 13];
        caller.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"0000:01:00.0\n");
        assert!(!waiting.is_finished());
        drop(caller);
        waiting.join().unwrap();
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_not_waited_for() {
        let (_folder, socket) = socket();
        let _daemon = UnixListener::bind(socket).unwrap();
        let begun = Instant::now();
        wait(socket, address(), Duration::from_millis(50));
        assert!(begun.elapsed() < LONG);
    }
}
