//! `hook proxmox`: what a guest's hookscript does in each phase.
//!
//! Before a start it says no, in one line, unless the guest gets what its config
//! means; no other phase ever fails. It never asks PVE, whose lock on the
//! guest's config is held meanwhile, and never takes longer than it may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{Node, Places, remembered};
use crate::{
    cli::{
        commands::tell,
        exit::Stop,
        guests::{Until, claim, claim_for_start, last_known, now, pid, quietly, release, settled},
        local,
    },
    engine::claims::owner_of_vm,
    hooks::{
        mapped::{Mapped, Mappings},
        proxmox::{
            guest::Guest,
            verdict::{Before, Scene, Use, concerns, filters, judge},
        },
    },
    kernel::{reservations::of_running, scan::scan_some, sysfs::HostSysfs},
    pci::{address::Address, inventory::Inventory},
};

/// Does what `phase` asks for.
pub(super) fn hook(places: &Places<'_>, vm: u32, phase: &str, limit: Duration) -> Result<(), Stop> {
    match phase {
        // PVE knows no other status than 0 and its opposite.
        "pre-start" => {
            return before_start(places, vm, limit).map_err(|stop| Stop::failure(stop.text));
        }
        "post-start" => quietly(after_start(places, vm)),
        "post-stop" => quietly(release(places.root, &owner_of_vm(vm.into()))),
        // Nothing to do, or a phase of a Proxmox VE that is yet to come.
        _ => {}
    }
    Ok(())
}

fn before_start(places: &Places<'_>, vm: u32, limit: Duration) -> Result<(), Stop> {
    let Some(guest) = Node::new(places.root).guest(vm)? else {
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
    let (inventory, uses) = uses(places, vm, &guest, &mappings, &before)?;
    nodes_are_there(places.root, &inventory, &uses)?;
    let owner = owner_of_vm(vm.into());
    claim_for_start(&mut daemon, places.root, &owner, by_mapping(&uses))?;
    if let Err(error) = remembered::keep(places.root, vm, &uses) {
        tell(&format!(
            "what the guest uses cannot be written down: {error}"
        ));
    }
    Ok(())
}

/// The guest runs: its functions are its own as long as its process.
fn after_start(places: &Places<'_>, vm: u32) -> Result<(), Stop> {
    let file = places.root.join(format!("run/qemu-server/{vm}.pid"));
    let Some(pid) = pid(&file)? else {
        return Ok(());
    };
    let Some(guest) = Node::new(places.root).guest(vm)? else {
        return Ok(());
    };
    let (mut daemon, mappings) = now(places.root)?;
    let before = remembered::recall(places.root, vm);
    let (_, mut uses) = uses(places, vm, &guest, &mappings, &before)?;
    // Of a resource mapping with several entries PVE has chosen by now.
    let reserved = of_running(places.root, vm.into())?;
    for one in uses.iter_mut().filter(|one| one.addresses.is_empty()) {
        let mapped = mappings.get(&one.mapping);
        let mapped = mapped.map(|mapped| mapped.addresses.as_slice());
        let mapped = mapped.unwrap_or_default();
        let own = reserved.iter().filter(|address| mapped.contains(address));
        one.addresses = own.copied().collect();
    }
    let owner = owner_of_vm(vm.into());
    claim(&mut daemon, &owner, by_mapping(&uses), Until::Ended(pid))
}

fn by_mapping(uses: &[Use]) -> BTreeMap<String, BTreeSet<Address>> {
    let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for one in uses {
        let addresses = all.entry(one.mapping.clone()).or_default();
        addresses.extend(&one.addresses);
    }
    all
}

/// What the guest uses of the daemon's mappings, if it may, and the functions that this
/// was judged by.
fn uses(
    places: &Places<'_>,
    vm: u32,
    guest: &Guest,
    mappings: &Mappings,
    before: &Before,
) -> Result<(Inventory, Vec<Use>), Stop> {
    let node = Node::new(places.root);
    let resources = node.resources()?;
    // What it means, and what it might mean: the others are not looked at.
    let filters = filters(guest, &node.name, &resources);
    let inventory = scan_some(&HostSysfs::new(places.sysfs), |address| {
        filters.iter().any(|filter| filter.matches(address))
    })?;
    let scene = Scene {
        node: &node.name,
        inventory: &inventory,
        mappings,
        resources: &resources,
        before,
    };
    let uses = judge(guest, vm, scene).map_err(Stop::failure)?;
    Ok((inventory, uses))
}

/// The daemon is not to be had: only a guest that has nothing of it may start.
fn without_daemon(
    places: &Places<'_>,
    guest: &Guest,
    before: &Before,
    why: &str,
) -> Result<(), Stop> {
    let mut mappings = last_known(places.root);
    // At boot it may have failed before it published anything. Whose a resource mapping
    // is cannot be told by a config that is not valid.
    let policy = local::policy(places.config).ok();
    for (name, mapping) in policy.into_iter().flat_map(|policy| policy.mappings) {
        let known = mappings.entry(name).or_default();
        known.proxmox = known.proxmox.take().or(mapping.proxmox);
    }
    for name in before.values().flatten() {
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
