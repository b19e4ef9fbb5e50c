//! `hook proxmox`: what a guest's hookscript does in each phase.
//!
//! Before a start it says no, in one line, unless the guest gets what its config
//! means; no other phase ever fails. It never asks PVE, whose lock on the
//! guest's config is held meanwhile, and never takes longer than it may.

use std::{collections::BTreeMap, fs, future::Future, path::Path, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Node,
    remembered::{self, Before},
};
use crate::{
    cli::{
        claim::{Terms, claim_once},
        client::{Client, Status},
        commands::tell,
        exit::Stop,
        local,
    },
    engine::claims::owner_of_vm,
    hooks::proxmox::{
        guest::Guest,
        verdict::{Mapped, Scene, Use, concerns, judge},
    },
    kernel::{scan::scan_all, sysfs::HostSysfs},
    pci::{address::Address, inventory::Inventory},
};

/// How long the daemon keeps functions for a guest whose start may fail after
/// this: PVE says nothing then.
const START: Duration = Duration::from_secs(600);
/// What a phase that must not fail may take.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Where things are.
pub(super) struct Places<'a> {
    /// What to use as `/`.
    pub(super) root: &'a Path,
    /// What to use as `/sys`.
    pub(super) sysfs: &'a Path,
    pub(super) bus: Option<&'a str>,
    pub(super) config: Option<&'a Path>,
}

/// Does what `phase` asks for.
pub(super) async fn hook(
    places: &Places<'_>,
    vm: u32,
    phase: &str,
    limit: Duration,
) -> Result<(), Stop> {
    match phase {
        // PVE knows no other status than 0 and its opposite.
        "pre-start" => before_start(places, vm, limit)
            .await
            .map_err(|stop| Stop::failure(stop.text)),
        "post-start" => quietly(after_start(places, vm)).await,
        "post-stop" => quietly(after_stop(places, vm)).await,
        // Nothing to do, or a phase of a Proxmox VE that is yet to come.
        _ => Ok(()),
    }
}

/// A phase in which a failure helps nobody.
async fn quietly(phase: impl Future<Output = Result<(), Stop>>) -> Result<(), Stop> {
    match timeout(PATIENCE, phase).await {
        Ok(Ok(())) => {}
        Ok(Err(stop)) => tell(&stop.text),
        Err(_) => tell("the daemon does not answer"),
    }
    Ok(())
}

async fn before_start(places: &Places<'_>, vm: u32, limit: Duration) -> Result<(), Stop> {
    let node = Node::new(places.root);
    let Some(guest) = node.guest(vm)? else {
        return Ok(());
    };
    if guest.hostpci.is_empty() {
        return Ok(());
    }
    let before = remembered::recall(places.root, vm);
    let ids = match ids(places) {
        Ok(ids) => ids,
        // Whose a resource mapping is cannot be told.
        Err(stop) => return without_daemon(places, &guest, &before, &BTreeMap::new(), &stop.text),
    };
    let end = Instant::now() + limit;
    let matters = |name: &str, mapped: &Mapped| concerns(&guest, name, mapped, &before);
    let settled = settled(places, &ids, end, matters);
    let daemon = timeout(limit, settled).await;
    let (client, mappings) = match daemon {
        Ok(Ok(found)) => found,
        Ok(Err(stop)) => return without_daemon(places, &guest, &before, &ids, &stop.text),
        Err(_) => {
            let text = format!("vfio-bindd is not ready after {} s", limit.as_secs());
            return without_daemon(places, &guest, &before, &ids, &text);
        }
    };
    let inventory = scan_all(&HostSysfs::new(places.sysfs))?;
    let uses = uses(&node, vm, &guest, &mappings, &inventory, &before)?;
    nodes_are_there(places.root, &inventory, &uses)?;
    let terms = Terms {
        ttl: Some(START),
        ..Terms::default()
    };
    let left = end.saturating_duration_since(Instant::now()).max(PATIENCE);
    let claimed = timeout(left, claim(&client, vm, &uses, &terms)).await;
    let claimed = claimed.unwrap_or_else(|_| Err(Stop::failure("vfio-bindd does not answer")));
    if let Err(stop) = claimed {
        // Nobody else is to wait for what this guest did not start with.
        quietly(after_stop(places, vm)).await?;
        return Err(stop);
    }
    if let Err(error) = remembered::keep(places.root, vm, &uses) {
        tell(&format!(
            "what the guest uses cannot be written down: {error}"
        ));
    }
    Ok(())
}

/// The guest runs: its functions are its own as long as its process.
async fn after_start(places: &Places<'_>, vm: u32) -> Result<(), Stop> {
    let pid = places.root.join(format!("run/qemu-server/{vm}.pid"));
    let Some(pid) = super::read(&pid)?.and_then(|text| text.trim().parse().ok()) else {
        return Ok(());
    };
    let node = Node::new(places.root);
    let Some(guest) = node.guest(vm)? else {
        return Ok(());
    };
    let client = Client::connect(places.bus).await?;
    let mappings = mapped(client.status().await?, &ids(places)?);
    let inventory = scan_all(&HostSysfs::new(places.sysfs))?;
    let before = remembered::recall(places.root, vm);
    let uses = uses(&node, vm, &guest, &mappings, &inventory, &before)?;
    let terms = Terms {
        pid: Some(pid),
        ..Terms::default()
    };
    claim(&client, vm, &uses, &terms).await
}

/// What the guest uses of the daemon's mappings, if it may.
fn uses(
    node: &Node,
    vm: u32,
    guest: &Guest,
    mappings: &BTreeMap<String, Mapped>,
    inventory: &Inventory,
    before: &Before,
) -> Result<Vec<Use>, Stop> {
    let resources = node.resources()?;
    let scene = Scene {
        node: &node.name,
        inventory,
        mappings,
        resources: &resources,
        before,
    };
    judge(guest, vm, scene).map_err(Stop::failure)
}

async fn after_stop(places: &Places<'_>, vm: u32) -> Result<(), Stop> {
    let client = Client::connect(places.bus).await?;
    client.manager("Release", &(owner_of_vm(vm.into()),)).await
}

/// The IDs of resource mappings by the mapping that each is kept in step with.
///
/// # Errors
/// In one line, if the config is not valid.
pub(super) fn ids(places: &Places<'_>) -> Result<BTreeMap<String, String>, Stop> {
    let policy = local::policy(places.config).map_err(|stop| {
        let first = stop.text.lines().next().unwrap_or_default().to_owned();
        Stop::new(stop.exit, first)
    })?;
    let mappings = policy.mappings.into_iter();
    let paired = mappings.filter_map(|(name, mapping)| Some((name, mapping.proxmox?)));
    Ok(paired.collect())
}

/// The daemon, once its first pass is over and no mapping that `matters` is pending,
/// or at the end whatever it has by then.
pub(super) async fn settled(
    places: &Places<'_>,
    ids: &BTreeMap<String, String>,
    end: Instant,
    matters: impl Fn(&str, &Mapped) -> bool,
) -> Result<(Client, BTreeMap<String, Mapped>), Stop> {
    loop {
        let late = Instant::now() + PAUSE * 5 > end;
        let asked = async {
            let client = Client::connect(places.bus).await?;
            let status = client.status().await?;
            Ok::<_, Stop>((client, status))
        };
        match asked.await {
            // It has no mappings then, and is nobody to go by.
            Ok((_, status)) if status.state == "failed" => {
                let text = "vfio-bindd has no valid config; see: vfio-bindctl check";
                return Err(Stop::failure(text));
            }
            Ok((client, status)) => {
                let starting = status.state == "starting";
                let mappings = mapped(status, ids);
                let mut pending = mappings.iter().filter(|(_, one)| one.state == "pending");
                if late || !(starting || pending.any(|(name, one)| matters(name, one))) {
                    return Ok((client, mappings));
                }
            }
            Err(stop) if late => return Err(stop),
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

fn mapped(status: Status, ids: &BTreeMap<String, String>) -> BTreeMap<String, Mapped> {
    let mappings = status.mappings.into_iter();
    mappings
        .map(|(name, mapping)| {
            let addresses = mapping.addresses.iter();
            let mapped = Mapped {
                addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
                proxmox: ids.get(&name).cloned(),
                state: mapping.state,
                reason: mapping.reason,
            };
            (name, mapped)
        })
        .collect()
}

/// The daemon is not to be had: only a guest that has nothing of it may start.
fn without_daemon(
    places: &Places<'_>,
    guest: &Guest,
    before: &Before,
    ids: &BTreeMap<String, String>,
    why: &str,
) -> Result<(), Stop> {
    let mut mappings: BTreeMap<String, Mapped> = ids
        .iter()
        .map(|(name, id)| {
            let mapped = Mapped {
                proxmox: Some(id.clone()),
                ..Mapped::default()
            };
            (name.clone(), mapped)
        })
        .collect();
    // What it published last in this boot.
    let map = super::read(&places.root.join("run/vfio-bindd/map.json"))?.unwrap_or_default();
    let map: serde_json::Value = serde_json::from_str(&map).unwrap_or_default();
    let published = map.get("mappings").and_then(serde_json::Value::as_object);
    for (name, one) in published.into_iter().flatten() {
        let addresses = one.get("addresses").and_then(serde_json::Value::as_array);
        let addresses = addresses.into_iter().flatten();
        let addresses = addresses.filter_map(|text| text.as_str()?.parse().ok());
        mappings.entry(name.clone()).or_default().addresses = addresses.collect();
    }
    // Also those that it had when it started last.
    for name in before.values() {
        mappings.entry(name.clone()).or_default();
    }
    let mut mappings = mappings.iter();
    if mappings.any(|(name, mapped)| concerns(guest, name, mapped, before)) {
        return Err(Stop::failure(format!(
            "{why}; the guest has functions of it, and would start with whatever is there"
        )));
    }
    Ok(())
}

/// vfio's nodes, without which QEMU cannot start.
fn nodes_are_there(root: &Path, inventory: &Inventory, uses: &[Use]) -> Result<(), Stop> {
    for one in uses {
        for address in &one.addresses {
            let function = inventory.get(*address);
            let Some(group) = function.and_then(|function| function.iommu_group) else {
                continue;
            };
            let node = root.join(format!("dev/vfio/{group}"));
            if let Err(error) = fs::metadata(&node) {
                let (key, node) = (&one.key, node.display());
                return Err(Stop::failure(format!("{key}: {address}: {node}: {error}")));
            }
        }
    }
    Ok(())
}

/// Has what the guest uses be its own.
async fn claim(client: &Client, vm: u32, uses: &[Use], terms: &Terms) -> Result<(), Stop> {
    let mut all: BTreeMap<&str, Vec<Address>> = BTreeMap::new();
    for one in uses {
        let addresses = all.entry(&one.mapping).or_default();
        addresses.extend(one.addresses.iter().copied());
    }
    for (mapping, addresses) in all {
        if addresses.is_empty() {
            continue;
        }
        let terms = Terms {
            addresses,
            ..terms.clone()
        };
        claim_once(client, mapping, &owner_of_vm(vm.into()), &terms).await?;
    }
    Ok(())
}
