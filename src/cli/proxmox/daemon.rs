//! The daemon as Proxmox VE's part asks it: its mappings once they are settled, claims,
//! and what is known of it when it is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{Places, read, remembered::Before};
use crate::{
    bus::varlink::message::{Addresses, Claim, Mapping, Owner, Status},
    cli::{
        exit::Stop,
        local,
        varlink::{Varlink, silent},
    },
    engine::claims::owner_of_vm,
    hooks::proxmox::verdict::{Mapped, Use},
    pci::address::Address,
};

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often a daemon is asked again that is not there yet, or not done.
const PAUSE: Duration = Duration::from_millis(200);

/// Its mappings by name.
pub(super) type Mappings = BTreeMap<String, Mapped>;

/// The daemon, once its first pass is over and no mapping that `matters` is pending,
/// or at the `end` whatever it has by then.
pub(super) fn settled(
    root: &Path,
    end: Instant,
    matters: impl Fn(&str, &Mapped) -> bool,
) -> Result<(Varlink, Mappings), Stop> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let late = left < PAUSE * 5;
        match ask(root, left.max(PAUSE * 5)) {
            // It has no mappings then, and is nobody to go by.
            Ok((_, status)) if status.state == "failed" => {
                let text = "vfio-bindd has no valid config; see: vfio-bindctl check";
                return Err(Stop::failure(text));
            }
            Ok((daemon, status)) => {
                let starting = status.state == "starting";
                let mappings = mapped(status);
                let mut pending = mappings.iter().filter(|(_, one)| one.state == "pending");
                if late || !(starting || pending.any(|(name, one)| matters(name, one))) {
                    return Ok((daemon, mappings));
                }
            }
            Err(stop) if late => return Err(stop),
            Err(_) => {}
        }
        sleep(PAUSE);
    }
}

/// The daemon, and what it has to say now.
pub(super) fn ask(root: &Path, patience: Duration) -> Result<(Varlink, Status), Stop> {
    let mut daemon = Varlink::connect(root, patience).map_err(|error| silent(&error))?;
    let status = daemon.call("Status", &())?;
    Ok((daemon, status))
}

pub(super) fn mapped(status: Status) -> Mappings {
    let mappings = status.mappings.into_iter();
    mappings
        .map(|(name, mapping)| {
            let Mapping {
                state,
                reason,
                addresses,
                proxmox,
                ..
            } = mapping;
            let mapped = Mapped {
                state,
                reason,
                addresses,
                proxmox,
            };
            (name, mapped)
        })
        .collect()
}

/// When a guest's claim ends by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// After this time.
    Passed(Duration),
    /// With this process.
    Ended(u32),
}

/// Has what the guest uses be its own.
pub(super) fn claim(daemon: &mut Varlink, vm: u32, uses: &[Use], until: Until) -> Result<(), Stop> {
    let mut all: BTreeMap<&str, BTreeSet<Address>> = BTreeMap::new();
    for one in uses {
        let addresses = all.entry(&one.mapping).or_default();
        addresses.extend(&one.addresses);
    }
    for (mapping, addresses) in all {
        if addresses.is_empty() {
            continue;
        }
        let (pid, ttl_usec) = match until {
            Until::Passed(time) => (None, u64::try_from(time.as_micros()).ok()),
            Until::Ended(pid) => (Some(pid), None),
        };
        let claim = Claim {
            mapping: mapping.to_owned(),
            owner: owner_of_vm(vm.into()),
            addresses: Some(addresses.into_iter().collect()),
            pid,
            ttl_usec,
        };
        let _: Addresses = daemon.call("Claim", &claim)?;
    }
    Ok(())
}

/// Frees what the guest has.
pub(super) fn release(root: &Path, vm: u32) -> Result<(), Stop> {
    let owner = owner_of_vm(vm.into());
    let mut daemon = Varlink::connect(root, PATIENCE).map_err(|error| silent(&error))?;
    let Nothing {} = daemon.call("Release", &Owner { owner })?;
    Ok(())
}

#[derive(Deserialize)]
struct Nothing {}

/// What is known of its mappings when it is not to be had: what it published last in
/// this boot, what the config says, and of what guests had functions `before`.
pub(super) fn last_known(places: &Places<'_>, before: &Before) -> Result<Mappings, Stop> {
    let mut mappings = Mappings::new();
    // Whose a resource mapping is cannot be told by a config that is not valid.
    let policy = local::policy(places.config).ok();
    for (name, mapping) in policy.into_iter().flat_map(|policy| policy.mappings) {
        mappings.entry(name).or_default().proxmox = mapping.proxmox;
    }
    let map = read(&places.root.join("run/vfio-bindd/map.json"))?.unwrap_or_default();
    let map: serde_json::Value = serde_json::from_str(&map).unwrap_or_default();
    let published = map.get("mappings").and_then(serde_json::Value::as_object);
    for (name, one) in published.into_iter().flatten() {
        let addresses = one.get("addresses").and_then(serde_json::Value::as_array);
        let addresses = addresses.into_iter().flatten();
        let addresses = addresses.filter_map(|text| text.as_str()?.parse().ok());
        let known = mappings.entry(name.clone()).or_default();
        known.addresses = addresses.collect();
        let proxmox = one.get("proxmox").and_then(serde_json::Value::as_str);
        known.proxmox = proxmox.map(str::to_owned).or(known.proxmox.take());
    }
    for name in before.values() {
        mappings.entry(name.clone()).or_default();
    }
    Ok(mappings)
}
