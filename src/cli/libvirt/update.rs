//! `libvirt update`: a domain's definition with the addresses that its mappings have
//! now.
//!
//! What a mapping has is asked of the daemon, and a mapping that is not bound stops
//! all of it: nothing is ever taken out of a definition because of a passing state.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Stdout, Write as _},
    path::Path,
};

use super::virsh::Virsh;
use crate::{
    cli::{
        args::Update as Wanted,
        client::Client,
        commands::tell,
        exit::{Exit, Stop},
        local,
    },
    hooks::libvirt::{
        choice::choose,
        domain::{self, Domain},
        update::{Update, diff, update as updated},
    },
    kernel::{scan::scan_function, sysfs::HostSysfs},
    pci::address::Address,
    policy::model::Extent,
};

/// Somebody else may define the domain between a look and the answer to it.
const TRIES: u32 = 3;

/// Where it is asked how things are.
pub(super) struct Host<'a> {
    pub(super) bus: Option<&'a str>,
    pub(super) config: Option<&'a Path>,
    /// What to use as `/sys`.
    pub(super) sysfs: &'a Path,
}

/// Brings the definition in step, and prints what that changes.
pub(super) async fn update(out: &mut Stdout, host: &Host<'_>, wanted: &Wanted) -> Result<(), Stop> {
    let virsh = Virsh {
        connect: &wanted.connect,
    };
    let info = virsh.info(&wanted.domain).await?;
    let name = info.name.as_str();
    if !info.persistent {
        let text = format!("'{name}' is transient: it has no definition that could be updated");
        return Err(Stop::failure(text));
    }
    for _ in 0..TRIES {
        let before = virsh.definition(&wanted.domain).await?;
        let domain = read(&before)?;
        let addresses = addresses(host, wanted, virsh, &domain).await?;
        let result = updated(&before, &addresses);
        let result = result.map_err(|error| Stop::failure(error.to_string()))?;
        let Update::Changed(after) = result else {
            return Ok(());
        };
        if !wanted.dry_run {
            if virsh.definition(&wanted.domain).await? != before {
                continue;
            }
            virsh.define(&after).await?;
        }
        out.write_all(diff(&before, &after).as_bytes())?;
        if info.runs {
            tell(&format!(
                "'{name}' is running: that holds from its next start"
            ));
        }
        return Ok(());
    }
    let text = format!("somebody else defines '{name}' again and again");
    Err(Stop::failure(text))
}

fn read(xml: &str) -> Result<Domain, Stop> {
    domain::read(xml).map_err(|error| Stop::failure(error.to_string()))
}

/// What the domain is to have of each mapping that it asks for, or has devices of.
async fn addresses(
    host: &Host<'_>,
    wanted: &Wanted,
    virsh: Virsh<'_>,
    domain: &Domain,
) -> Result<BTreeMap<String, Vec<Address>>, Stop> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for request in &domain.requests {
        let count = request.count.map(|count| Count::Devices(many(count)));
        counts.insert(&request.mapping, count.unwrap_or(Count::All));
    }
    let had = had(domain);
    for (name, addresses) in &had {
        let count = Count::Functions(addresses.len());
        counts.entry(name).or_insert(count);
    }
    if counts.is_empty() {
        return Err(Stop::failure(format!(
            "'{}' asks for no mapping in its metadata, and has no device of one; vfio-bindctl(1) \
             says how it does",
            domain.name
        )));
    }
    let mut chosen = BTreeMap::new();
    let mut others = None;
    for (name, count) in counts {
        let (_, all) = Client::resolve(host.bus, name, wanted.wait).await?;
        if all.is_empty() {
            return Err(Stop::new(
                Exit::NotSettled,
                format!("'{name}' has no functions"),
            ));
        }
        let had = had.get(name).map(Vec::as_slice).unwrap_or_default();
        let (devices, count) = match count {
            Count::All => (Vec::new(), 0),
            Count::Functions(count) => (alone(&all), count),
            Count::Devices(count) => (devices(host, name, &all)?, count),
        };
        // All of it goes by its order, also after a renumbering that leaves addresses
        // to others of its functions.
        if devices.len() == count {
            chosen.insert(name.to_owned(), all);
            continue;
        }
        let others = match &mut others {
            Some(others) => others,
            others => others.insert(of_others(virsh, domain).await?),
        };
        let taken = companions(host, &all, others);
        let picked = choose(&devices, count, had, &taken).ok_or_else(|| {
            let there = devices.len();
            let text = format!("'{name}' has {there}, and the domain asks for {count}");
            Stop::new(Exit::Refused, text)
        })?;
        for address in picked.iter().filter(|one| others.contains_key(*one)) {
            let other = others.get(address).map_or("", String::as_str);
            tell(&format!(
                "{address} is in the definition of '{other}', too: only one of them can run"
            ));
        }
        // Of two mappings that have it, the domain has it once.
        let own = picked.iter().map(|one| (*one, domain.name.clone()));
        others.extend(own);
        chosen.insert(name.to_owned(), picked);
    }
    Ok(chosen)
}

/// How much of a mapping a domain is to have.
#[derive(Clone, Copy, Debug)]
enum Count {
    All,
    /// As its metadata counts.
    Devices(usize),
    /// As many as it has, where only aliases say that it has any.
    Functions(usize),
}

fn many(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The functions of each mapping that the domain has by their aliases, in the order
/// of these.
fn had(domain: &Domain) -> BTreeMap<&str, Vec<Address>> {
    let devices = domain.devices.iter();
    let mut numbered: Vec<_> = devices
        .filter_map(|device| Some((device.ours.as_ref()?, device.address)))
        .collect();
    numbered.sort_by_key(|(alias, _)| *alias);
    let mut had: BTreeMap<&str, Vec<Address>> = BTreeMap::new();
    for (alias, address) in numbered {
        had.entry(alias.mapping()).or_default().push(address);
    }
    had
}

/// The mapping's functions, each by itself.
fn alone(all: &[Address]) -> Vec<Vec<Address>> {
    all.iter().map(|one| vec![*one]).collect()
}

/// The mapping's devices, as the config has it count them.
fn devices(host: &Host<'_>, name: &str, all: &[Address]) -> Result<Vec<Vec<Address>>, Stop> {
    let policy = local::policy(host.config)?;
    let mapping = policy.mappings.get(name);
    if mapping.is_none_or(|mapping| mapping.extent != Extent::Slot) {
        return Ok(alone(all));
    }
    let mut slots = BTreeMap::new();
    for one in all {
        let slot: &mut Vec<_> = slots.entry(one.slot()).or_default();
        slot.push(*one);
    }
    Ok(slots.into_values().collect())
}

/// What the definitions of other domains have, each with one that has it.
async fn of_others(virsh: Virsh<'_>, domain: &Domain) -> Result<BTreeMap<Address, String>, Stop> {
    let mut others = BTreeMap::new();
    for name in virsh.defined().await? {
        if name == domain.name {
            continue;
        }
        // One that was undefined since, or that is not for us to judge.
        let definition = virsh.definition(&name).await;
        let Some(other) = definition.ok().and_then(|xml| domain::read(&xml).ok()) else {
            continue;
        };
        let devices = other.devices.iter();
        others.extend(devices.map(|device| (device.address, name.clone())));
    }
    Ok(others)
}

/// Those of `all` that others have, or that share an IOMMU group with one of these.
fn companions(
    host: &Host<'_>,
    all: &[Address],
    others: &BTreeMap<Address, String>,
) -> BTreeSet<Address> {
    let sysfs = HostSysfs::new(host.sysfs);
    let group = |one: &Address| scan_function(&sysfs, *one, None)?.iommu_group;
    let groups: BTreeSet<u32> = others.keys().filter_map(group).collect();
    let taken = |one: &&Address| {
        others.contains_key(*one) || group(one).is_some_and(|group| groups.contains(&group))
    };
    all.iter().filter(taken).copied().collect()
}
