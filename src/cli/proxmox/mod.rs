//! Proxmox VE: its files, its command, and what of them vfio-bindd keeps.
//!
//! Owns the places. What the texts mean is `hooks::proxmox`'s.

mod enable;
mod hook;
mod remembered;
mod script;
mod sync;

use std::{
    collections::BTreeMap,
    io::Stdout,
    path::{Path, PathBuf},
};

pub use self::script::hookscript;
use self::sync::{Mode, sync};
use super::{
    args::{Proxmox, ProxmoxCall},
    exit::Stop,
    guests::{LIMIT, read},
};
use crate::hooks::proxmox::{
    guest::{self, Guest},
    sections,
};

/// Where things are.
#[derive(Clone, Copy, Debug)]
struct Places<'a> {
    /// What to use as `/`.
    root: &'a Path,
    /// What to use as `/sys`.
    sysfs: &'a Path,
    config: Option<&'a Path>,
}

/// Does what a hypervisor's call is for.
pub(super) fn hook(call: &ProxmoxCall, sysfs: &Path, config: Option<&Path>) -> Result<(), Stop> {
    let places = Places {
        root: &call.root,
        sysfs,
        config,
    };
    let limit = call.timeout.unwrap_or(LIMIT);
    hook::hook(&places, call.vm, &call.phase, limit)
}

/// Does what somebody wants done with Proxmox VE.
pub(super) async fn run(
    out: &mut Stdout,
    verb: Proxmox,
    sysfs: &Path,
    config: Option<&Path>,
) -> Result<(), Stop> {
    match verb {
        Proxmox::Sync {
            dry_run,
            auto,
            root,
        } => {
            let places = Places {
                root: &root,
                sysfs,
                config,
            };
            sync(out, &places, Mode { dry_run, auto }).await
        }
        Proxmox::Enable { vm, root } => enable::enable(out, &root, vm),
    }
}

/// The node that a guest comes from, if PVE says so.
fn migrated_from() -> Option<String> {
    let from = std::env::var("PVE_MIGRATED_FROM").ok()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!from.is_empty() && from.chars().all(is_name)).then_some(from)
}

/// This node, by its files.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What to use as `/`.
    root: PathBuf,
    /// Its name: the host's, without a domain (pve-common, `PVE::INotify::nodename`).
    pub(super) name: String,
}

impl Node {
    pub(super) fn new(root: &Path) -> Self {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        let name = host.split('.').next().unwrap_or_default();
        Self {
            root: root.to_owned(),
            name: name.to_owned(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A guest's config, `None` if the guest is none of QEMU's.
    fn guest(&self, vm: u32) -> Result<Option<Guest>, Stop> {
        let mut path = self.path(&format!("etc/pve/qemu-server/{vm}.conf"));
        let mut text = read(&path)?;
        // One that comes from another node still has it there (qemu-server,
        // src/PVE/QemuServer.pm, `vm_start`; pve-guest-common, src/PVE/GuestHelpers.pm,
        // `exec_hookscript`).
        if let (None, Some(from)) = (&text, migrated_from()) {
            path = self.path(&format!("etc/pve/nodes/{from}/qemu-server/{vm}.conf"));
            text = read(&path)?;
        }
        let Some(text) = text else {
            return Ok(None);
        };
        let guest = guest::parse(&text)
            .map_err(|error| Stop::failure(format!("{}: {error}", path.display())))?;
        Ok(Some(guest))
    }

    /// The entries of the cluster's resource mappings.
    fn resources(&self) -> Result<BTreeMap<String, Vec<String>>, Stop> {
        let text = read(&self.path("etc/pve/mapping/pci.cfg"))?;
        Ok(sections::parse(&text.unwrap_or_default()))
    }
}
