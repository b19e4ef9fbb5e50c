//! Where udev asks about functions that are plugged in: `hotplug.sock` in the
//! runtime directory.
//!
//! A caller writes an address and a line end, and the connection is closed when
//! nothing is to be done to that function any more. Owns who waits for which. The
//! socket is there while the daemon runs, has mappings, and its first pass is over:
//! without it the rule does nothing, so that no boot waits for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::socket::listen;
use crate::pci::address::Address;

/// How long a connection is kept. The client gives up earlier.
const KEPT: Duration = Duration::from_secs(5);

/// How long nothing is accepted after that failed: there may be no descriptors.
const BREAK: Duration = Duration::from_secs(1);

/// The longest line that is an address: a domain may have eight digits.
const LONGEST: u64 = 32;

/// Somebody who waits for a function. The sender is dropped once it is settled.
pub(super) type Arrival = (Address, oneshot::Sender<()>);

/// The socket, and those who wait.
#[derive(Debug)]
pub(super) struct Hotplug {
    path: Option<PathBuf>,
    arrivals: mpsc::Sender<Arrival>,
    waiting: BTreeMap<Address, Vec<oneshot::Sender<()>>>,
    /// What accepts callers, while the socket is there.
    accepts: Option<JoinHandle<()>>,
    /// It could not be made, and was told.
    fails: bool,
}

impl Hotplug {
    /// A socket in `directory`, of which nobody hears yet; without one there is
    /// none. What callers ask for goes to `arrivals`.
    pub(super) fn new(directory: Option<&Path>, arrivals: mpsc::Sender<Arrival>) -> Self {
        Self {
            path: directory.map(|directory| directory.join("hotplug.sock")),
            arrivals,
            waiting: BTreeMap::new(),
            accepts: None,
            fails: false,
        }
    }

    /// Has the socket there from now on, or no longer.
    pub(super) fn listen(&mut self, wanted: bool) {
        if !wanted {
            self.close();
            return;
        }
        let Some(path) = self.path.as_deref().filter(|_| self.accepts.is_none()) else {
            return;
        };
        let listener = listen(path, 0o600).and_then(UnixListener::from_std);
        match listener {
            Ok(listener) => {
                let accepts = tokio::spawn(accept(listener, self.arrivals.clone()));
                self.accepts = Some(accepts);
            }
            Err(error) if !self.fails => {
                self.fails = true;
                tracing::warn!(
                    "{}: {error}; native drivers are not held back at hotplug",
                    path.display()
                );
            }
            Err(_) => {}
        }
    }

    fn close(&mut self) {
        let Some(accepts) = self.accepts.take() else {
            return;
        };
        accepts.abort();
        let removed = self.path.as_deref().map_or(Ok(()), fs::remove_file);
        if let Err(error) = removed {
            // Whoever connects hears at once that nobody is there.
            tracing::debug!("hotplug.sock: {error}");
        }
    }

    /// Somebody waits for the function.
    pub(super) fn add(&mut self, (address, waiting): Arrival) {
        self.waiting.entry(address).or_default().push(waiting);
    }

    /// Nothing is to be done to the function any more.
    pub(super) fn settled(&mut self, address: Address) {
        self.waiting.remove(&address);
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(listener: UnixListener, arrivals: mpsc::Sender<Arrival>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let arrivals = arrivals.clone();
                tokio::spawn(async move {
                    // Late or not, the connection is closed: nobody waits longer.
                    drop(timeout(KEPT, serve(stream, arrivals)).await);
                });
            }
            Err(error) => {
                tracing::debug!("a caller for hotplug was not heard: {error}");
                sleep(BREAK).await;
            }
        }
    }
}

/// Hears what function the caller means, and comes back when that is settled.
async fn serve(stream: UnixStream, arrivals: mpsc::Sender<Arrival>) {
    let mut line = String::new();
    let mut lines = BufReader::new(stream.take(LONGEST));
    let read = lines.read_line(&mut line).await;
    let Some(address) = read.ok().and_then(|_| line.trim_end().parse().ok()) else {
        tracing::debug!("a caller for hotplug named no address: {line:?}");
        return;
    };
    let (waiting, settled) = oneshot::channel();
    if arrivals.send((address, waiting)).await.is_ok() {
        // It is dropped, and says nothing else.
        drop(settled.await);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const A: &str = "0000:01:00.0";

    /// Writes `line`, and waits for the end of the connection.
    async fn ask(path: &Path, line: &str) {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        // What was not read of a long line comes back as a reset.
        drop(stream.read_to_end(&mut Vec::new()).await);
    }

    #[tokio::test]
    async fn whoever_asks_waits_until_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hotplug.sock");
        // What a daemon that was killed left behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (sender, mut arrivals) = mpsc::channel(1);
        let mut hotplug = Hotplug::new(Some(folder.path()), sender);
        hotplug.listen(true);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let asked = tokio::spawn({
            let path = path.clone();
            async move { ask(&path, "0000:01:00.0\n").await }
        });
        let arrival = arrivals.recv().await.unwrap();
        assert_eq!(arrival.0, A.parse().unwrap());
        hotplug.add(arrival);
        hotplug.settled("0000:02:00.0".parse().unwrap());
        tokio::task::yield_now().await;
        assert!(!asked.is_finished());
        hotplug.settled(A.parse().unwrap());
        asked.await.unwrap();
        hotplug.listen(false);
        assert!(!path.exists());
        hotplug.listen(true);
        assert!(path.exists());
        drop(hotplug);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn whoever_names_no_address_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, mut arrivals) = mpsc::channel(1);
        let mut hotplug = Hotplug::new(Some(folder.path()), sender);
        hotplug.listen(true);
        let path = folder.path().join("hotplug.sock");
        for line in [
            "\n",
            "nothing\n",
            "0000:01:00.0 and a very long rest of a line",
        ] {
            ask(&path, line).await;
        }
        assert!(arrivals.try_recv().is_err());
    }
}
