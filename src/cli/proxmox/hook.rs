//! `hook proxmox`: what a guest's hookscript does in each phase.
//!
//! Before a start it says no, in one line, unless the guest gets what its config
//! means; no other phase ever fails. It never asks PVE, whose lock on the
//! guest's config is held meanwhile, and never takes longer than it may.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Node, Places,
    daemon::{Mappings, PATIENCE, Until, ask, claim, last_known, mapped, release, settled},
    remembered::{self, Before},
};
use crate::{
    cli::{commands::tell, exit::Stop},
    hooks::proxmox::{
        guest::Guest,
        verdict::{Mapped, Scene, Use, concerns, judge},
    },
    kernel::{scan::scan_all, sysfs::HostSysfs},
    pci::inventory::Inventory,
};

/// How long the daemon keeps functions for a guest whose start may fail after
/// this: PVE says nothing then.
const START: Duration = Duration::from_secs(600);

/// What a start may wait for the daemon, unless somebody says otherwise.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// Does what `phase` asks for.
pub(super) fn hook(places: &Places<'_>, vm: u32, phase: &str, limit: Duration) -> Result<(), Stop> {
    match phase {
        // PVE knows no other status than 0 and its opposite.
        "pre-start" => before_start(places, vm, limit).map_err(|stop| Stop::failure(stop.text)),
        "post-start" => quietly(after_start(places, vm)),
        "post-stop" => quietly(release(places.root, vm)),
        // Nothing to do, or a phase of a Proxmox VE that is yet to come.
        _ => Ok(()),
    }
}

/// A failure of this helps nobody.
#[expect(
    clippy::unnecessary_wraps,
    reason = "a phase may fail, and this one does not"
)]
fn quietly(phase: Result<(), Stop>) -> Result<(), Stop> {
    if let Err(stop) = phase {
        tell(&stop.text);
    }
    Ok(())
}

fn before_start(places: &Places<'_>, vm: u32, limit: Duration) -> Result<(), Stop> {
    let node = Node::new(places.root);
    let Some(guest) = node.guest(vm)? else {
        return Ok(());
    };
    if guest.hostpci.is_empty() {
        return Ok(());
    }
    let before = remembered::recall(places.root, vm);
    let matters = |name: &str, mapped: &Mapped| concerns(&guest, name, mapped, &before);
    let (mut daemon, mappings) = match settled(places.root, Instant::now() + limit, matters) {
        Ok(found) => found,
        Err(stop) => return without_daemon(places, &guest, &before, &stop.text),
    };
    let inventory = scan_all(&HostSysfs::new(places.sysfs))?;
    let uses = uses(&node, vm, &guest, &mappings, &inventory, &before)?;
    nodes_are_there(places.root, &inventory, &uses)?;
    if let Err(stop) = claim(&mut daemon, vm, &uses, Until::Passed(START)) {
        // Nobody else is to wait for what this guest did not start with.
        quietly(release(places.root, vm))?;
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
fn after_start(places: &Places<'_>, vm: u32) -> Result<(), Stop> {
    let pid = places.root.join(format!("run/qemu-server/{vm}.pid"));
    let Some(pid) = super::read(&pid)?.and_then(|text| text.trim().parse().ok()) else {
        return Ok(());
    };
    let node = Node::new(places.root);
    let Some(guest) = node.guest(vm)? else {
        return Ok(());
    };
    let (mut daemon, status) = ask(places.root, PATIENCE)?;
    let inventory = scan_all(&HostSysfs::new(places.sysfs))?;
    let before = remembered::recall(places.root, vm);
    let uses = uses(&node, vm, &guest, &mapped(status), &inventory, &before)?;
    claim(&mut daemon, vm, &uses, Until::Ended(pid))
}

/// What the guest uses of the daemon's mappings, if it may.
fn uses(
    node: &Node,
    vm: u32,
    guest: &Guest,
    mappings: &Mappings,
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

/// The daemon is not to be had: only a guest that has nothing of it may start.
fn without_daemon(
    places: &Places<'_>,
    guest: &Guest,
    before: &Before,
    why: &str,
) -> Result<(), Stop> {
    let mappings = last_known(places, before)?;
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
