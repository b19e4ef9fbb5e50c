//! The daemon as the hooks of hypervisors ask it: its mappings once they are settled,
//! claims for a guest, and what is known when it is not there.
//!
//! Over the daemon's socket, since a guest's start waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    commands::tell,
    exit::Stop,
    varlink::{Varlink, silent},
};
use crate::{
    bus::varlink::message::{Addresses, Claim, Mapping, Owner, Status},
    hooks::mapped::{Mapped, Mappings},
    pci::address::Address,
};

/// How long an answer may take where nobody waits for a guest.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// What a start may wait for the daemon, unless somebody says otherwise.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How long functions are kept for a guest whose start may fail after the hook:
/// nobody says so then.
pub(super) const START: Duration = Duration::from_secs(600);
/// How long a claim may take: who uses what is looked up first.
const LOOK: Duration = Duration::from_secs(15);
/// How often a daemon is asked again that is not there yet, or not done.
const PAUSE: Duration = Duration::from_millis(200);

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
                let mappings = mapped(status.mappings);
                let mut pending = mappings.iter().filter(|(_, one)| one.state == "pending");
                match (starting, late) {
                    // Of what it does not know yet it would be said that it is nobody's.
                    (true, true) => {
                        let text = "vfio-bindd is not ready: its first pass is not over";
                        return Err(Stop::failure(text));
                    }
                    (true, false) => {}
                    (false, late) => {
                        if late || !pending.any(|(name, one)| matters(name, one)) {
                            return Ok((daemon, mappings));
                        }
                    }
                }
            }
            Err(stop) if late => return Err(stop),
            Err(_) => {}
        }
        sleep(PAUSE);
    }
}

/// The daemon and its mappings as they are.
pub(super) fn now(root: &Path) -> Result<(Varlink, Mappings), Stop> {
    let (daemon, status) = ask(root, PATIENCE)?;
    Ok((daemon, mapped(status.mappings)))
}

fn ask(root: &Path, patience: Duration) -> Result<(Varlink, Status), Stop> {
    let mut daemon = Varlink::connect(root, patience).map_err(|error| silent(&error))?;
    let status = daemon.call("Status", &())?;
    Ok((daemon, status))
}

fn mapped(mappings: BTreeMap<String, Mapping>) -> Mappings {
    let mapped = |mapping: Mapping| Mapped {
        state: mapping.state,
        reason: mapping.reason,
        addresses: mapping.addresses,
        beside: mapping.beside,
        proxmox: mapping.proxmox,
    };
    let mappings = mappings.into_iter();
    mappings.map(|(name, one)| (name, mapped(one))).collect()
}

/// When a guest's claim ends by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// It is released.
    Released,
    /// After this time.
    Passed(Duration),
    /// With this process.
    Ended(u32),
}

/// Has functions of mappings be the owner's.
pub(super) fn claim(
    daemon: &mut Varlink,
    owner: &str,
    uses: BTreeMap<String, BTreeSet<Address>>,
    until: Until,
) -> Result<(), Stop> {
    daemon.patient(LOOK)?;
    for (mapping, addresses) in uses {
        if addresses.is_empty() {
            continue;
        }
        let (pid, ttl_usec) = match until {
            Until::Released => (None, None),
            Until::Passed(time) => (None, u64::try_from(time.as_micros()).ok()),
            Until::Ended(pid) => (Some(pid), None),
        };
        let claim = Claim {
            mapping,
            owner: owner.to_owned(),
            addresses: Some(addresses.into_iter().collect()),
            pid,
            ttl_usec,
        };
        let _: Addresses = daemon.call("Claim", &claim)?;
    }
    Ok(())
}

/// The same for a guest that is about to start. If it may not, nobody else is to wait
/// for what it did not start with.
pub(super) fn claim_for_start(
    daemon: &mut Varlink,
    root: &Path,
    owner: &str,
    uses: BTreeMap<String, BTreeSet<Address>>,
) -> Result<(), Stop> {
    let claimed = claim(daemon, owner, uses, Until::Passed(START));
    if claimed.is_err() {
        quietly(release(root, owner));
    }
    claimed
}

/// Frees what the owner has.
pub(super) fn release(root: &Path, owner: &str) -> Result<(), Stop> {
    let owner = Owner {
        owner: owner.to_owned(),
    };
    let mut daemon = Varlink::connect(root, PATIENCE).map_err(|error| silent(&error))?;
    let Nothing {} = daemon.call("Release", &owner)?;
    Ok(())
}

#[derive(Deserialize)]
struct Nothing {}

/// Tells of a failure that helps nobody, where a guest runs or has ended.
pub(super) fn quietly(result: Result<(), Stop>) {
    if let Err(stop) = result {
        tell(&stop.text);
    }
}

/// What the daemon published last in this boot; nothing where that cannot be read.
pub(super) fn published(root: &Path) -> BTreeMap<String, Mapping> {
    #[derive(Default, Deserialize)]
    struct Published {
        mappings: BTreeMap<String, Mapping>,
    }
    let text = fs::read(root.join("run/vfio-bindd/map.json"));
    let published: Result<Published, _> = serde_json::from_slice(&text.unwrap_or_default());
    published.unwrap_or_default().mappings
}

/// The same, as hooks see mappings.
pub(super) fn last_known(root: &Path) -> Mappings {
    mapped(published(root))
}

/// The text of the file, `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Stop> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Stop::failure(format!("{}: {error}", path.display()))),
    }
}

/// The number in a file that has a process' number.
pub(super) fn pid(path: &Path) -> Result<Option<u32>, Stop> {
    let text = read(path)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}
