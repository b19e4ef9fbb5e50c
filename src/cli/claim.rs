//! `claim` and `release`: functions for one owner and nobody else.

use std::{
    collections::HashMap,
    ffi::OsString,
    io::Stdout,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use zbus::Variant;

use super::{
    args::Claim,
    client::Client,
    exit::{Exit, Stop},
    resolve::print_addresses,
    wire,
};
use crate::{pci::address::Address, policy::placement::Placement};

/// How often it is asked again for functions that others have.
const PAUSE: Duration = Duration::from_millis(250);

/// Claims, and prints what was got, or becomes the command that is to have it.
pub(super) async fn claim(
    out: &mut Stdout,
    bus: Option<&str>,
    root: &Path,
    mut wanted: Claim,
) -> Result<(), Stop> {
    let command = std::mem::take(&mut wanted.exec);
    if !command.is_empty() {
        // The command has this number too: the claim ends with it, whoever ends it.
        wanted.pid = Some(process::id());
    }
    let owner = wanted.owner.clone();
    let owner = owner.unwrap_or_else(|| format!("pid {}", process::id()));
    let (client, addresses) = patiently(bus, &wanted, &owner).await?;
    if command.is_empty() {
        return print_addresses(out, root, &client, &wanted.name, &addresses, wanted.format).await;
    }
    drop(client);
    become_command(&command, &wanted.name, &owner, &addresses)
}

/// Frees what `owner` has.
pub(super) async fn release(bus: Option<&str>, owner: &str) -> Result<(), Stop> {
    Client::connect(bus)
        .await?
        .manager("Release", &(owner,))
        .await
}

/// Asks until there is an answer that waiting cannot better, or time is up.
async fn patiently(
    bus: Option<&str>,
    wanted: &Claim,
    owner: &str,
) -> Result<(Client, Vec<Address>), Stop> {
    let start = Instant::now();
    let limit = wanted.wait.unwrap_or_default();
    loop {
        match once(bus, wanted, owner).await {
            Err(stop)
                if matches!(stop.exit, Exit::NotSettled | Exit::Failure)
                    && start.elapsed() + PAUSE < limit =>
            {
                sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn once(
    bus: Option<&str>,
    wanted: &Claim,
    owner: &str,
) -> Result<(Client, Vec<Address>), Stop> {
    let client = Client::connect(bus).await?;
    let terms = Terms {
        count: wanted.count,
        addresses: wanted.addresses.clone(),
        prefer_numa: wanted.prefer_numa,
        placement: wanted.placement,
        pid: wanted.pid,
        ttl: wanted.ttl,
    };
    let addresses = claim_once(&client, &wanted.name, owner, &terms).await?;
    Ok((client, addresses))
}

/// What is wanted of a mapping, and for how long.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) count: Option<u32>,
    pub(super) addresses: Vec<Address>,
    pub(super) prefer_numa: Option<u32>,
    pub(super) placement: Option<Placement>,
    pub(super) pid: Option<u32>,
    pub(super) ttl: Option<Duration>,
}

/// Asks the daemon once; the functions that `owner` has then.
pub(super) async fn claim_once(
    client: &Client,
    mapping: &str,
    owner: &str,
    wanted: &Terms,
) -> Result<Vec<Address>, Stop> {
    let mut options: HashMap<&str, Variant<'_>> = HashMap::new();
    if let Some(count) = wanted.count {
        options.insert("count", count.into());
    }
    if !wanted.addresses.is_empty() {
        let addresses: Vec<_> = wanted.addresses.iter().map(Address::to_string).collect();
        options.insert("addresses", addresses.into());
    }
    if let Some(node) = wanted.prefer_numa {
        options.insert("prefer-numa", node.into());
    }
    if let Some(placement) = wanted.placement {
        options.insert("placement", placement.as_str().into());
    }
    if let Some(pid) = wanted.pid {
        options.insert("pid", pid.into());
    }
    if let Some(ttl) = wanted.ttl {
        let usec = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        options.insert("ttl-usec", usec.into());
    }
    let body = (mapping, owner, options);
    let texts: Vec<String> = client.manager("ClaimWith", &body).await?;
    wire::addresses(&texts)
}

/// Goes on as `command`; comes back only if there is none.
fn become_command(
    command: &[OsString],
    mapping: &str,
    owner: &str,
    addresses: &[Address],
) -> Result<(), Stop> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let texts: Vec<_> = addresses.iter().map(Address::to_string).collect();
    let error = Command::new(program)
        .args(arguments)
        .env("VFIO_BINDD_MAPPING", mapping)
        .env("VFIO_BINDD_OWNER", owner)
        .env("VFIO_BINDD_ADDRESSES", texts.join(" "))
        .exec();
    let program = program.to_string_lossy();
    Err(Stop::failure(format!("{program} cannot be run: {error}")))
}
