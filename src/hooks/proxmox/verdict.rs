//! Verdict: whether a guest may start with what its config passes through.
//!
//! Owns what is compared and the sentence about what does not fit. Pure; asks
//! nobody. Functions and resource mappings that are none of vfio-bindd's are
//! not judged: qemu-server does.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Devices,
    check::check,
    filter::{Assignments, Filter, expand},
    guest::{Guest, HostpciLine},
    hostpci::Source,
    mapping::Entry,
};
use crate::{
    hooks::mapped::{Mapped, Mappings},
    pci::{
        address::Address,
        function::{Function, is_vfio_driver},
        inventory::Inventory,
    },
};

/// What a guest's start is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// This node's name.
    pub node: &'a str,
    /// The functions of the host, at least those that [`filters`] name and those of
    /// their IOMMU groups.
    pub inventory: &'a Inventory,
    /// vfio-bindd's mappings by name.
    pub mappings: &'a Mappings,
    /// The entries of the cluster's resource mappings, by ID.
    pub resources: &'a BTreeMap<String, Vec<String>>,
    /// What the guest had when it started last.
    pub before: &'a Before,
}

/// Of which mappings the functions of a `hostpciN` with such a value were, by the key
/// and the value's device part.
pub type Before = BTreeMap<(String, String), BTreeSet<String>>;

/// Functions of one mapping that a guest is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The `hostpciN`.
    pub key: String,
    /// The device part of its value, `0000:3b:00`; the resource mapping's ID for
    /// one of its entries.
    pub value: String,
    /// The mapping.
    pub mapping: String,
    /// The functions; of a resource mapping with several entries nobody knows yet
    /// which it will be, and there are none.
    pub addresses: BTreeSet<Address>,
}

/// What the guest uses of vfio-bindd's mappings, if it may start.
///
/// # Errors
/// With one sentence on what does not fit, and what to do.
pub fn judge(guest: &Guest, vm: u32, scene: Scene<'_>) -> Result<Vec<Use>, String> {
    let mut uses = Vec::new();
    let mut given = Assignments::default();
    for line in &guest.hostpci {
        let found = match &line.value.source {
            Source::Host(filters) => {
                let value: Vec<_> = filters.iter().map(ToString::to_string).collect();
                host(line, &value.join(";"), vm, scene)
            }
            Source::Mapping(id) => resource(line, id, scene),
        };
        let found = found.map_err(|text| format!("{}: {text}", line.key()))?;
        let addresses = found.iter().flat_map(|one| &one.addresses);
        given
            .assign(&line.key(), &[addresses.copied().collect()])
            .map_err(|error| error.to_string())?;
        uses.extend(found);
    }
    Ok(uses)
}

/// Whether a guest with this config may have functions of the mapping `name`: it
/// has its resource mapping or one of its addresses, or had its functions before.
#[must_use]
pub fn concerns(guest: &Guest, name: &str, mapped: &Mapped, before: &Before) -> bool {
    let had = |line: &HostpciLine, value: String| {
        let known = before.get(&(line.key(), value));
        known.is_some_and(|known| known.contains(name))
    };
    guest.hostpci.iter().any(|line| match &line.value.source {
        Source::Mapping(id) => mapped.proxmox.as_ref() == Some(id) || had(line, id.clone()),
        Source::Host(filters) => {
            let value: Vec<_> = filters.iter().map(ToString::to_string).collect();
            let mut addresses = mapped.addresses.iter().chain(&mapped.beside);
            had(line, value.join(";"))
                || addresses.any(|one| filters.iter().any(|filter| filter.matches(*one)))
        }
    })
}

/// All that the guest's config names, by addresses and by the entries of resource
/// mappings that are this node's. [`judge`] has to know the functions of these, and
/// those that share IOMMU groups with them.
#[must_use]
pub fn filters(
    guest: &Guest,
    node: &str,
    resources: &BTreeMap<String, Vec<String>>,
) -> Vec<Filter> {
    let mut all = Vec::new();
    for line in &guest.hostpci {
        match &line.value.source {
            Source::Host(filters) => all.extend(filters.iter().cloned()),
            Source::Mapping(id) => {
                let lines = resources.get(id).into_iter().flatten();
                let entries = lines.filter_map(|text| text.parse::<Entry>().ok());
                let own = entries.filter(|entry| entry.node() == node);
                all.extend(own.flat_map(|entry| entry.path().to_vec()));
            }
        }
    }
    all
}

/// Functions by their addresses.
fn host(line: &HostpciLine, value: &str, vm: u32, scene: Scene<'_>) -> Result<Vec<Use>, String> {
    let Source::Host(filters) = &line.value.source else {
        return Ok(Vec::new());
    };
    let before = scene.before.get(&(line.key(), value.to_owned()));
    // A mapping that is no longer configured says nothing of where its functions are.
    let before = before.into_iter().flatten();
    let before: Vec<_> = before
        .filter(|name| scene.mappings.contains_key(*name))
        .collect();
    let present = scene.inventory.iter().map(|function| function.address);
    let addresses = expand(filters, present);
    let moved = |name: &String| moved(line, name, value, vm, scene);
    let addresses = addresses.map_err(|missing| match before.first() {
        Some(name) => moved(name),
        None => missing.to_string(),
    })?;
    let mut uses: BTreeMap<&String, BTreeSet<Address>> = BTreeMap::new();
    for address in addresses {
        let having = || {
            let all = scene.mappings.iter();
            all.filter(move |(_, mapped)| mapped.has(address))
        };
        // What was right once must be so still: a card that moved may have left its
        // address to one of another mapping.
        let of = having().filter(|(name, _)| before.is_empty() || before.contains(name));
        // Of several that have it, one that can be used.
        let of = of.min_by_key(|(_, mapped)| mapped.state != "bound");
        let Some((name, mapped)) = of else {
            match before.first() {
                Some(name) if having().next().is_some() => return Err(moved(name)),
                // None of ours.
                _ => continue,
            }
        };
        mapped.usable(name)?;
        fits(line, address, scene)?;
        uses.entry(name).or_default().insert(address);
    }
    if let Some(gone) = before.iter().find(|name| !uses.contains_key(*name)) {
        return Err(moved(gone));
    }
    let uses = uses.into_iter().map(|(name, addresses)| Use {
        key: line.key(),
        value: value.to_owned(),
        mapping: name.clone(),
        addresses,
    });
    Ok(uses.collect())
}

/// One of the entries of a resource mapping.
fn resource(line: &HostpciLine, id: &str, scene: Scene<'_>) -> Result<Vec<Use>, String> {
    let Some((name, mapped)) = owner(id, scene) else {
        return Ok(Vec::new());
    };
    mapped.usable(name)?;
    let sync = "run: vfio-bindctl proxmox sync";
    let lines = scene.resources.get(id);
    let lines = lines.ok_or_else(|| format!("there is no resource mapping '{id}'; {sync}"))?;
    let devices: Devices = scene
        .inventory
        .iter()
        .map(|function| (function.address, function.into()))
        .collect();
    let mut entries = 0;
    let mut addresses = BTreeSet::new();
    for text in lines {
        let Ok(entry) = text.parse::<Entry>() else {
            continue;
        };
        if entry.node() != scene.node {
            continue;
        }
        entries += 1;
        // PVE looks at every entry of the node, and one stale one stops the start.
        check(&entry, &devices).map_err(|stale| {
            let mend = if entry.is_marked() {
                sync.to_owned()
            } else {
                format!(
                    "it is not vfio-bindd's: delete it, or say replace = \"node\" in [proxmox], \
                     and {sync}"
                )
            };
            format!("an entry of the resource mapping '{id}' {stale}; {mend}")
        })?;
        for address in expand(entry.path(), devices.keys().copied()).unwrap_or_default() {
            if !mapped.has(address) {
                return Err(format!(
                    "the resource mapping '{id}' has {address}, and mapping '{name}' has not; {sync}"
                ));
            }
            fits(line, address, scene)?;
            addresses.insert(address);
        }
    }
    match entries {
        0 => Err(format!(
            "the resource mapping '{id}' has no entry for the node {}; {sync}",
            scene.node
        )),
        _ => Ok(vec![Use {
            key: line.key(),
            value: id.to_owned(),
            mapping: name.clone(),
            addresses: if entries == 1 {
                addresses
            } else {
                BTreeSet::new()
            },
        }]),
    }
}

fn owner<'a>(id: &str, scene: Scene<'a>) -> Option<(&'a String, &'a Mapped)> {
    let mut mappings = scene.mappings.iter();
    mappings.find(|(_, mapped)| mapped.proxmox.as_deref() == Some(id))
}

/// Whether qemu-server will find the function, and all of its IOMMU group, as it
/// needs them: then it writes nothing.
fn fits(line: &HostpciLine, address: Address, scene: Scene<'_>) -> Result<(), String> {
    let function = scene.inventory.get(address);
    let function = function.ok_or_else(|| format!("{address} is not there"))?;
    kept(line, function).map_err(|text| format!("{address} {text}"))?;
    let companion = |other: &&Function| {
        other.address != address
            && other.iommu_group.is_some()
            && other.iommu_group == function.iommu_group
            && other.class.base() != 0x06
    };
    for other in scene.inventory.iter().filter(companion) {
        let text = match kept(line, other) {
            Ok(()) => continue,
            // Nobody binds it then.
            Err(_) if other.driver.is_none() && line.value.driver_keep => continue,
            Err(text) if other.driver.is_none() => format!(
                "{text}: Proxmox VE would bind it, and what else has its ID; add group = \"take\" \
                 to the mapping"
            ),
            Err(text) => text,
        };
        let other = other.address;
        return Err(format!(
            "{other} shares the IOMMU group of {address} and {text}"
        ));
    }
    Ok(())
}

/// Whether qemu-server leaves the function as it is.
fn kept(line: &HostpciLine, function: &Function) -> Result<(), String> {
    match function.driver.as_deref() {
        Some("vfio-pci") => Ok(()),
        Some(driver) if is_vfio_driver(driver) && line.value.driver_keep => Ok(()),
        Some(driver) if is_vfio_driver(driver) => Err(format!(
            "has the driver {driver}, which Proxmox VE would replace; add driver=keep to the value"
        )),
        Some(driver) => Err(format!("has the driver {driver}")),
        None => Err("has no driver".to_owned()),
    }
}

/// What is said of functions that are not where the guest's config has them.
fn moved(line: &HostpciLine, name: &str, value: &str, vm: u32, scene: Scene<'_>) -> String {
    let key = line.key();
    let mapped = scene.mappings.get(name);
    if let Some(Err(text)) = mapped.map(|mapped| mapped.usable(name)) {
        return format!("{value} was mapping '{name}'; {text}");
    }
    let whole = !value.contains('.');
    let mut places: Vec<_> = mapped
        .iter()
        .flat_map(|mapped| &mapped.addresses)
        .map(|one| {
            if whole {
                one.slot().to_string()
            } else {
                one.to_string()
            }
        })
        .collect();
    places.dedup();
    let now = places.join(" ");
    if places.len() != value.split(';').count() {
        return format!(
            "{value} was mapping '{name}', which is {now} now; run: qm set {vm} --{key} with what \
             of it the guest is to have, and the other options that it has"
        );
    }
    // A shell ends a command at a semicolon.
    let value_now = match places.as_slice() {
        [place] => place.clone(),
        places => format!("'{}'", places.join(";")),
    };
    format!(
        "{value} was mapping '{name}', which is {now} now; run: qm set {vm} --{key} {value_now}, \
         with the other options that it has"
    )
}
