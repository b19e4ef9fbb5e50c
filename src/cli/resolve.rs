//! `resolve`: where a mapping's functions are, in the words of who asks.

use std::{
    collections::BTreeSet,
    io::{Stdout, Write as _},
    path::Path,
    time::Duration,
};

use super::{
    args::Format,
    client::Client,
    exit::Stop,
    formats::{self, Facts},
    wire,
};
use crate::{
    kernel::{locality::locality, scan::scan_all, sysfs::HostSysfs},
    pci::address::{Address, Slot},
};

pub(super) async fn resolve(
    out: &mut Stdout,
    bus: Option<&str>,
    root: &Path,
    name: &str,
    wait: Option<Duration>,
    format: Format,
) -> Result<(), Stop> {
    let (client, addresses) = Client::resolve(bus, name, wait).await?;
    print_addresses(out, root, &client, name, &addresses, format).await
}

/// Prints what was resolved or claimed of the mapping `name`.
pub(super) async fn print_addresses(
    out: &mut Stdout,
    root: &Path,
    client: &Client,
    name: &str,
    addresses: &[Address],
    format: Format,
) -> Result<(), Stop> {
    let facts = match format {
        Format::Json => {
            let sysfs = HostSysfs::new(root);
            let mut facts = client.functions().await?;
            facts.retain(|address, _| addresses.contains(address));
            for (address, value) in &mut facts {
                wire::add(value, &locality(&sysfs, *address));
            }
            facts
        }
        _ => Facts::new(),
    };
    let whole = match format {
        Format::Proxmox => {
            let host = scan_all(&HostSysfs::new(root))?;
            let slots: BTreeSet<Slot> = addresses.iter().map(|one| one.slot()).collect();
            let all = |slot: &Slot| {
                let mut functions = host.slot(*slot);
                functions.all(|function| addresses.contains(&function.address))
            };
            slots.into_iter().filter(all).collect()
        }
        _ => BTreeSet::new(),
    };
    let text = formats::render(format, name, addresses, &whole, &facts);
    Ok(out.write_all(text.as_bytes())?)
}
