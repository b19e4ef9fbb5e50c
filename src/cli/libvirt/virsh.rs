//! libvirt's own command.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::cli::exit::{Exit, Stop};

/// It answers soon, or libvirt hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// `virsh`, with the libvirt that it talks to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Virsh<'a> {
    pub(super) connect: &'a str,
}

/// What is to be known of a domain before its definition is replaced.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) persistent: bool,
    pub(super) runs: bool,
}

impl Virsh<'_> {
    pub(super) async fn info(self, domain: &str) -> Result<Info, Stop> {
        let text = self.run(&["dominfo", "--domain", domain], "").await?;
        let value = |wanted: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            let mut values = lines.filter(|(key, _)| *key == wanted);
            values.next().map_or("", |(_, value)| value.trim())
        };
        Ok(Info {
            name: value("Name").to_owned(),
            persistent: value("Persistent") == "yes",
            runs: value("State") != "shut off",
        })
    }

    /// A domain's definition, with what is secret in it, or it would be lost.
    pub(super) async fn definition(self, domain: &str) -> Result<String, Stop> {
        let verb = ["dumpxml", "--inactive", "--security-info", "--domain"];
        self.run(&[&verb[..], &[domain]].concat(), "").await
    }

    /// The names of all domains that are defined.
    pub(super) async fn defined(self) -> Result<Vec<String>, Stop> {
        let verb = ["list", "--all", "--persistent", "--name"];
        let text = self.run(&verb, "").await?;
        let names = text.lines().filter(|name| !name.trim().is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// Replaces a definition; libvirt holds it to its schema first.
    pub(super) async fn define(self, xml: &str) -> Result<(), Stop> {
        let verb = ["define", "--validate", "--file", "/dev/stdin"];
        self.run(&verb, xml).await.map(drop)
    }

    async fn run(self, arguments: &[&str], input: &str) -> Result<String, Stop> {
        let verb = arguments.first().copied().unwrap_or_default();
        let done = timeout(PATIENCE, self.spawn(arguments, input)).await;
        let late = |_| Stop::new(Exit::NotSettled, format!("virsh {verb} does not come back"));
        let output = done.map_err(late)??;
        if output.status.success() {
            let text = String::from_utf8(output.stdout);
            return text.map_err(|_| Stop::failure(format!("virsh {verb} prints no UTF-8")));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said
            .lines()
            .map(|line| line.trim_start_matches("error: ").trim());
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        Err(Stop::failure(format!("virsh {verb}: {}", lines.join("; "))))
    }

    async fn spawn(self, arguments: &[&str], input: &str) -> Result<std::process::Output, Stop> {
        let mut child = Command::new("virsh")
            .args(["--quiet", "--connect", self.connect])
            .args(arguments)
            // Its words are read.
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Stop::failure(format!("virsh cannot be run: {error}")))?;
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // Whoever does not read all of it says why.
                stdin.write_all(input.as_bytes()).await.unwrap_or_default();
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        Ok(output?)
    }
}
