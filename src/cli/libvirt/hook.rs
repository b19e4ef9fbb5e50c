//! `hook libvirt`: what libvirt's hook for QEMU does at each moment of a domain.
//!
//! Before a start it says no, in one line, unless the domain gets what its XML
//! means; at no other moment does it fail, since that would end a domain that runs.
//! It never asks libvirt, which waits for it, and never takes longer than it may.

use std::{
    fs,
    future::Future,
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::daemon::{Published, now, settled};
use crate::{
    cli::{
        args::LibvirtCall,
        claim::{Terms, claim_once},
        client::Client,
        commands::tell,
        exit::Stop,
    },
    hooks::libvirt::{
        domain::{self, Domain},
        hook::Moment,
        verdict::{Uses, judge, uses},
    },
};

/// How long the daemon keeps functions for a domain whose start may fail after this.
const START: Duration = Duration::from_secs(600);
/// What a moment at which nothing may fail may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than libvirt ever writes (remote_protocol.x, `REMOTE_STRING_MAX`).
const MOST_BYTES: u64 = 8 << 20;
/// An owner's name has at most 255 bytes.
const LONGEST_NAME: usize = 200;

/// Does what the moment asks for.
pub(super) async fn hook(call: &LibvirtCall, bus: Option<&str>) -> Result<(), Stop> {
    match Moment::of(&call.operation, &call.sub_operation) {
        // libvirt knows no other status than 0 and its opposite.
        Moment::Starts => before_start(call, bus)
            .await
            .map_err(|stop| Stop::failure(stop.text)),
        Moment::Runs => quietly(runs(call, bus)).await,
        Moment::Released => quietly(released(call, bus)).await,
        Moment::Other => Ok(()),
    }
}

/// A moment at which a failure helps nobody.
async fn quietly(moment: impl Future<Output = Result<(), Stop>>) -> Result<(), Stop> {
    match timeout(PATIENCE, moment).await {
        Ok(Ok(())) => {}
        Ok(Err(stop)) => tell(&stop.text),
        Err(_) => tell("the daemon does not answer"),
    }
    Ok(())
}

async fn before_start(call: &LibvirtCall, bus: Option<&str>) -> Result<(), Stop> {
    let end = Instant::now() + call.timeout;
    let domain = domain(call.timeout).await?;
    if domain.devices.is_empty() && domain.requests.is_empty() {
        return Ok(());
    }
    let left = end.saturating_duration_since(Instant::now());
    let (client, mappings) = match timeout(left, settled(bus, &domain, end)).await {
        Ok(Ok(found)) => found,
        Ok(Err(stop)) => return without_daemon(&call.root, &domain, &stop.text),
        Err(_) => {
            let text = format!("vfio-bindd is not ready after {} s", call.timeout.as_secs());
            return without_daemon(&call.root, &domain, &text);
        }
    };
    let uses = judge(&domain, &mappings).map_err(Stop::failure)?;
    let owner = owner(call, &domain);
    let terms = Terms {
        ttl: Some(START),
        ..Terms::default()
    };
    let left = end.saturating_duration_since(Instant::now()).max(PATIENCE);
    let claimed = timeout(left, claim(&client, &owner, uses, &terms)).await;
    let claimed = claimed.unwrap_or_else(|_| Err(Stop::failure("vfio-bindd does not answer")));
    if let Err(stop) = claimed {
        // Nobody else is to wait for what this domain did not start with.
        quietly(release(bus, &owner)).await?;
        return Err(stop);
    }
    Ok(())
}

/// The domain runs: its functions are its own as long as its process, or until it is
/// released where nobody knows that.
async fn runs(call: &LibvirtCall, bus: Option<&str>) -> Result<(), Stop> {
    let domain = domain(PATIENCE).await?;
    if domain.devices.is_empty() {
        return Ok(());
    }
    let (client, mappings) = now(bus).await?;
    let file = format!("run/libvirt/qemu/{}.pid", call.domain);
    let pid = fs::read_to_string(call.root.join(file));
    let terms = Terms {
        pid: pid.ok().and_then(|text| text.trim().parse().ok()),
        ..Terms::default()
    };
    let owner = owner(call, &domain);
    claim(&client, &owner, uses(&domain, &mappings), &terms).await
}

async fn released(call: &LibvirtCall, bus: Option<&str>) -> Result<(), Stop> {
    let domain = domain(PATIENCE).await?;
    let owner = owner(call, &domain);
    // What it had at the start may have been unplugged since.
    if domain.devices.is_empty() && !Published::read(&call.root).has_owner(&owner) {
        return Ok(());
    }
    release(bus, &owner).await
}

async fn release(bus: Option<&str>, owner: &str) -> Result<(), Stop> {
    let client = Client::connect(bus).await?;
    client.manager("Release", &(owner,)).await
}

/// The domain on standard input, which whoever calls may never close.
async fn domain(limit: Duration) -> Result<Domain, Stop> {
    let read = spawn_blocking(|| {
        let mut text = String::new();
        let read = io::stdin().take(MOST_BYTES).read_to_string(&mut text);
        read.map(|_| text)
    });
    let late = |_| Stop::failure("the domain's XML does not come to an end");
    let read = timeout(limit, read).await.map_err(late)?;
    let text = read.map_err(|error| Stop::failure(error.to_string()))?;
    let text = text.map_err(|error| Stop::failure(format!("the domain's XML: {error}")))?;
    domain::read(&text).map_err(|error| Stop::failure(error.to_string()))
}

/// Who a domain is to the daemon. libvirt takes names that no owner can have.
fn owner(call: &LibvirtCall, domain: &Domain) -> String {
    let name = call.domain.as_str();
    let fits = name.len() <= LONGEST_NAME && name.trim_end() == name;
    let fits = fits && !name.chars().any(char::is_control);
    let name = match &domain.uuid {
        Some(uuid) if !fits => uuid,
        _ => name,
    };
    format!("libvirt-{name}")
}

/// The daemon is not to be had: only a domain that has nothing of it may start.
fn without_daemon(root: &Path, domain: &Domain, why: &str) -> Result<(), Stop> {
    if Published::read(root).concerns(domain) {
        return Err(Stop::failure(format!(
            "{why}; the domain has functions of it, and would start with whatever is there"
        )));
    }
    Ok(())
}

/// Has what the domain uses be its own.
async fn claim(client: &Client, owner: &str, uses: Uses, terms: &Terms) -> Result<(), Stop> {
    for (mapping, addresses) in uses {
        let terms = Terms {
            addresses: addresses.into_iter().collect(),
            ..terms.clone()
        };
        claim_once(client, &mapping, owner, &terms).await?;
    }
    Ok(())
}
