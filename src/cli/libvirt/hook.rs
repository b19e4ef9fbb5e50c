//! `hook libvirt`: what libvirt's hook for QEMU does at each moment of a domain.
//!
//! Before a start it says no, in one line, unless the domain gets what its XML
//! means; at no other moment does it fail, since that would end a domain that runs.
//! It never asks libvirt, which waits for it, and never takes longer than it may.

use std::{
    io::{self, Read as _},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cli::{
        args::LibvirtCall,
        exit::Stop,
        guests::{
            LIMIT, PATIENCE, Until, claim, claim_for_start, last_known, now, pid, published,
            quietly, release, settled,
        },
    },
    hooks::libvirt::{
        domain::{self, Domain},
        hook::Moment,
        verdict::{concerns, judge, says_so, uses},
    },
};

/// More than libvirt ever writes (remote_protocol.x, `REMOTE_STRING_MAX`).
const MOST_BYTES: u64 = 8 << 20;
/// An owner's name has at most 255 bytes.
const LONGEST_NAME: usize = 200;

/// Does what the moment asks for.
pub(super) fn hook(call: &LibvirtCall) -> Result<(), Stop> {
    match Moment::of(&call.operation, &call.sub_operation) {
        // libvirt knows no other status than 0 and its opposite.
        Moment::Starts => {
            return before_start(call).map_err(|stop| Stop::failure(stop.text));
        }
        Moment::Runs => quietly(runs(call)),
        Moment::Released => quietly(released(call)),
        Moment::Other => {}
    }
    Ok(())
}

fn before_start(call: &LibvirtCall) -> Result<(), Stop> {
    let limit = call.timeout.unwrap_or(LIMIT);
    let end = Instant::now() + limit;
    let domain = domain(limit)?;
    if domain.devices.is_empty() && domain.requests.is_empty() {
        return Ok(());
    }
    let settled = settled(&call.root, end, |name, one| concerns(&domain, name, one));
    let (mut daemon, mappings) = match settled {
        Ok(found) => found,
        Err(stop) => return without_daemon(&call.root, &domain, &stop.text),
    };
    let uses = judge(&domain, &mappings).map_err(Stop::failure)?;
    claim_for_start(&mut daemon, &call.root, &owner(call, &domain), uses)
}

/// The domain runs: its functions are its own as long as its process, or until it is
/// released where nobody knows that.
fn runs(call: &LibvirtCall) -> Result<(), Stop> {
    let domain = domain(PATIENCE)?;
    if domain.devices.is_empty() {
        return Ok(());
    }
    let (mut daemon, mappings) = now(&call.root)?;
    let file = format!("run/libvirt/qemu/{}.pid", call.domain);
    let until = pid(&call.root.join(file)).ok().flatten();
    let until = until.map_or(Until::Released, Until::Ended);
    let uses = uses(&domain, &mappings);
    claim(&mut daemon, &owner(call, &domain), uses, until)
}

fn released(call: &LibvirtCall) -> Result<(), Stop> {
    let domain = domain(PATIENCE)?;
    let owner = owner(call, &domain);
    // What it had at the start may have been unplugged since.
    let published = published(&call.root);
    let mut owners = published.values().flat_map(|one| one.claims.values());
    if domain.devices.is_empty() && !owners.any(|one| *one == owner) {
        return Ok(());
    }
    release(&call.root, &owner)
}

/// The domain on standard input, which whoever calls may never close.
fn domain(limit: Duration) -> Result<Domain, Stop> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = io::stdin().take(MOST_BYTES).read_to_string(&mut text);
        // Whoever waited too long is gone.
        sender.send(read.map(|_| text)).unwrap_or_default();
    });
    let late = |_| Stop::failure("the domain's XML does not come to an end");
    let text = receiver.recv_timeout(limit).map_err(late)?;
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
    let mappings = last_known(root);
    let mut mappings = mappings.iter();
    if says_so(domain) || mappings.any(|(name, one)| concerns(domain, name, one)) {
        return Err(Stop::failure(format!(
            "{why}; the domain has functions of it, and would start with whatever is there"
        )));
    }
    Ok(())
}
