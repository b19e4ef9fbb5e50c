//! The daemon's program, mostly in a dry run, over a directory that looks like `/sys`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    client::{Client, until},
    tree::{Tree, reader_of},
};

pub(crate) const NIC: &str = "0000:00:02.0";
pub(crate) const OTHER: &str = "0000:00:03.0";

/// A mapping of one function.
pub(crate) fn mapping(name: &str, address: &str) -> String {
    format!("[mapping.{name}]\nmatch = {{ address = \"{address}\" }}\n")
}

pub(crate) fn one(address: &str) -> Result<Vec<String>, (String, String)> {
    Ok(vec![address.to_owned()])
}

pub(crate) struct Daemon {
    child: Child,
    /// Its config and its log.
    pub(crate) folder: TempDir,
}

impl Daemon {
    pub(crate) fn start(tree: &Tree, config: Option<&str>, address: &str) -> Self {
        Self::start_with(tree, config, address, &[])
    }

    /// A dry run with these as its directories.
    pub(crate) fn start_with(
        tree: &Tree,
        config: Option<&str>,
        address: &str,
        directories: &[(&str, &Path)],
    ) -> Self {
        Self::launch(tree, config, address, |command| {
            command.arg("--dry-run").envs(directories.iter().copied());
        })
    }

    /// One that writes what it would write, with these as its directories.
    pub(crate) fn in_earnest(
        tree: &Tree,
        config: &str,
        address: &str,
        directories: &[(&str, &Path)],
    ) -> Self {
        Self::launch(tree, Some(config), address, |command| {
            command.envs(directories.iter().copied());
        })
    }

    fn launch(
        tree: &Tree,
        config: Option<&str>,
        address: &str,
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        if let Some(config) = config {
            fs::write(path("config.toml"), config).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-bindd"));
        // Nothing of whoever runs the test: no journal, no systemd.
        command.env_clear();
        more(&mut command);
        let child = command
            .args(["--bus-address", address])
            .arg("--config")
            .arg(path("config.toml"))
            .arg("--sysfs-root")
            .arg(tree.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) async fn until_logged(&self, times: usize, text: &str) {
        until(text, async || {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
            log.matches(text).count() >= times
        })
        .await;
    }

    /// How it ends, which it has been told to do.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the daemon ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            eprintln!("the daemon's log:\n{}", log.unwrap_or_default());
        }
        // It may have ended already; that is no mistake here.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

/// A host with a function that vfio-pci has and one that has no driver.
pub(crate) fn host() -> Tree {
    let tree = Tree::new();
    tree.add(NIC, 2);
    tree.bind(NIC);
    tree.add(OTHER, 3);
    tree
}

/// The other end of a pipe that somebody reads by now.
pub(crate) async fn reader(path: &Path) -> File {
    let mut reader = None;
    until("the pipe is read", async || {
        reader = reader_of(path);
        reader.is_some()
    })
    .await;
    reader.unwrap()
}

/// Waits until the first pass is over.
pub(crate) async fn settled(address: &str) -> Client {
    let client = Client::served(address).await;
    until("the first pass is over", async || {
        client.manager("State").await != "starting"
    })
    .await;
    client
}
