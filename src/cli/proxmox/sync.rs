//! `proxmox sync`: this node's entries in the cluster's resource mappings, as the
//! daemon has the functions now.
//!
//! Reads PVE's file, and writes through `pvesh` only: it has the lock, and refuses
//! what does not fit. Whatever is right already is not written, so that no boot
//! makes the cluster write.

use std::{
    io::{Stdout, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use super::{Node, Places};
use crate::{
    cli::{
        commands::tell,
        exit::{Exit, Stop},
        guests::{now, settled},
        local,
    },
    hooks::{
        mapped::{Mapped, Mappings},
        proxmox::{
            Devices,
            mapping::{Entry, entries},
            plan::{Ownership, Plan, diff, plan},
        },
    },
    kernel::{scan::scan_all, sysfs::HostSysfs},
    policy::model::Replace,
};

/// What `pvesh` may take: it waits ten seconds for the cluster's lock by itself.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a daemon is waited for whose first pass is not over. At boot its unit is
/// up before, or has failed, and the guests wait.
const FIRST_PASS: Duration = Duration::from_secs(10);
/// How often it begins anew when functions came or went meanwhile.
const ROUNDS: u32 = 5;
/// How often it is tried again when somebody else changed the file meanwhile.
const TRIES: u32 = 8;
/// PVE's word for that (pve-common, `PVE::Tools::assert_if_modified`).
const CONFLICT: &str = "detected modified configuration";

/// How it is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    /// Only say what would be written.
    pub(super) dry_run: bool,
    /// Do nothing unless the config says `sync = true`.
    pub(super) auto: bool,
}

/// What `pvesh get` says of a resource mapping.
#[derive(Debug, Deserialize)]
struct Resource {
    map: Vec<String>,
    digest: Option<String>,
}

/// Brings all in step that can be; the error is that of the first that could not.
pub(super) async fn sync(out: &mut Stdout, places: &Places<'_>, mode: Mode) -> Result<(), Stop> {
    let policy = local::policy(places.config)?;
    let settings = &policy.proxmox;
    let mut kept = policy.mappings.values();
    if !kept.any(|mapping| mapping.proxmox.is_some()) || (mode.auto && !settings.sync) {
        return Ok(());
    }
    let ownership = match settings.replace {
        Replace::Own => Ownership::Marked,
        Replace::Node => Ownership::Node,
    };
    let end = Instant::now() + FIRST_PASS;
    let (_, mut mappings) = settled(places.root, end, |_, one| one.proxmox.is_some())?;
    for _ in 0..ROUNDS {
        bring_in_step(out, places, &mappings, ownership, mode).await?;
        // The unit is not started once more for what changed while it ran. A daemon that
        // has ended meanwhile undoes nothing of it.
        match now(places.root) {
            Ok((_, since)) if !mode.dry_run && since != mappings => mappings = since,
            _ => break,
        }
    }
    Ok(())
}

async fn bring_in_step(
    out: &mut Stdout,
    places: &Places<'_>,
    mappings: &Mappings,
    ownership: Ownership,
    mode: Mode,
) -> Result<(), Stop> {
    let node = Node::new(places.root);
    let inventory = scan_all(&HostSysfs::new(places.sysfs))?;
    let devices: Devices = inventory
        .iter()
        .map(|function| (function.address, function.into()))
        .collect();
    let mut result = Ok(());
    for (name, mapped) in mappings {
        let Some(id) = &mapped.proxmox else {
            continue;
        };
        let Some(wanted) = wanted(name, mapped, &node, &devices) else {
            continue;
        };
        let task = Task {
            id,
            node: &node,
            wanted: &wanted,
            ownership,
        };
        if let Err(stop) = task.carry_out(out, mode).await {
            tell(&format!("{id}: {}", stop.text));
            result = result.and(Err(Stop::new(stop.exit, "")));
        }
    }
    result
}

/// The entries that this node should have for a mapping; `None` if that is not
/// for now to say, as while it is being bound.
fn wanted(name: &str, mapped: &Mapped, node: &Node, devices: &Devices) -> Option<Vec<Entry>> {
    match mapped.state.as_str() {
        "bound" => Some(entries(
            &node.name,
            mapped.addresses.iter().copied(),
            devices,
        )),
        // What is not there must not stop the guests of the others' functions.
        "absent" => Some(Vec::new()),
        state => {
            tell(&format!(
                "mapping '{name}' is {state}: its entries stay as they are"
            ));
            None
        }
    }
}

/// One resource mapping.
struct Task<'a> {
    id: &'a str,
    node: &'a Node,
    wanted: &'a [Entry],
    ownership: Ownership,
}

impl Task<'_> {
    async fn carry_out(&self, out: &mut Stdout, mode: Mode) -> Result<(), Stop> {
        for turn in 1..=TRIES {
            let known = self.node.resources()?.remove(self.id);
            let current = known.clone().unwrap_or_default();
            let new = match plan(&current, &self.node.name, self.wanted, self.ownership) {
                Plan::Unchanged => return Ok(()),
                Plan::LastEntryStale => {
                    tell(&format!(
                        "{}: its last entry is stale, and stays: a resource mapping cannot be \
                         without any",
                        self.id
                    ));
                    return Ok(());
                }
                Plan::Update(new) => new,
            };
            if mode.dry_run {
                return Ok(write!(out, "{}:\n{}", self.id, diff(&current, &new))?);
            }
            let written = if known.is_some() {
                self.replace().await
            } else {
                self.create(&new).await.map(|()| Some((current, new)))
            };
            match written {
                Ok(Some((current, new))) => {
                    return Ok(write!(out, "{}:\n{}", self.id, diff(&current, &new))?);
                }
                Ok(None) => return Ok(()),
                Err(stop) if stop.text.contains(CONFLICT) && turn < TRIES => {
                    // Not in step with whoever else tries again.
                    let share = u64::from(std::process::id() % 97);
                    sleep(Duration::from_millis(100 * u64::from(turn) + 5 * share)).await;
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Replaces the entries by what they should be, going by what PVE itself has
    /// now; what was and what is, if that is something else.
    async fn replace(&self) -> Result<Option<(Vec<String>, Vec<String>)>, Stop> {
        let path = format!("/cluster/mapping/pci/{}", self.id);
        let text = pvesh(&["get", &path, "--output-format", "json"]).await?;
        let resource: Resource = serde_json::from_str(&text)
            .map_err(|error| Stop::failure(format!("pvesh get {path}: {error}")))?;
        let current = resource.map;
        let Plan::Update(new) = plan(&current, &self.node.name, self.wanted, self.ownership) else {
            return Ok(None);
        };
        let mut arguments = vec!["set", &path];
        if let Some(digest) = &resource.digest {
            arguments.extend(["--digest", digest]);
        }
        for line in &new {
            arguments.extend(["--map", line]);
        }
        pvesh(&arguments).await?;
        Ok(Some((current, new)))
    }

    async fn create(&self, new: &[String]) -> Result<(), Stop> {
        let mut arguments = vec!["create", "/cluster/mapping/pci", "--id", self.id];
        for line in new {
            arguments.extend(["--map", line]);
        }
        pvesh(&arguments).await.map(drop)
    }
}

/// What PVE's command says.
async fn pvesh(arguments: &[&str]) -> Result<String, Stop> {
    let run = Command::new("pvesh")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let late = || Stop::new(Exit::NotSettled, "pvesh does not come back");
    let output = timeout(PATIENCE, run).await.map_err(|_| late())?;
    let output = output.map_err(|error| Stop::failure(format!("pvesh: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let verb = arguments.iter().take(2).copied().collect::<Vec<_>>();
    Err(Stop::failure(format!("pvesh {}: {said}", verb.join(" "))))
}
