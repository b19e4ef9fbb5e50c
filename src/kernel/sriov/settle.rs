//! Settle: sets VFs as they are to be, over the network interface of their PF, and
//! looks whether that worked. Only what differs is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, thread,
    time::Duration,
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Changed, Pf, in_use, same};
use crate::{
    kernel::{
        scan::vfs_by_index,
        steps::driver,
        sysfs::{Sysfs, function_dir, text},
        usage::{Look, words},
    },
    pci::address::Address,
    policy::sriov::{Setting, VfSettings},
};

/// How often a VF is set while its driver says that it is not ready: one that has
/// just been made is reset first.
const TRIES: u32 = 10;
const BREAK: Duration = Duration::from_millis(100);

/// What VFs of a PF are to be set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleVfs {
    /// The PF.
    pub pf: Pf,
    /// By the VF's index.
    pub settings: BTreeMap<u16, VfSettings>,
    /// Which of them were set so before: what the driver does not tell is not set
    /// once more then.
    pub again: BTreeSet<u16>,
}

/// How that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settled {
    /// It was gone through.
    Done {
        /// What was changed, by the VF's index.
        changed: BTreeMap<u16, VfSettings>,
        /// What is not as it is to be, a clause that follows the VF.
        wrong: BTreeMap<u16, String>,
        /// What is set when nobody uses the VF any more, such a clause.
        waiting: BTreeMap<u16, String>,
    },
    /// The PF is not there.
    Gone,
    /// Nothing can be set: a clause that follows the address.
    Failed {
        /// The clause.
        text: String,
    },
}

/// Carries out `order`.
pub fn settle(look: Look<'_>, order: &SettleVfs) -> Settled {
    match same(look, order.pf) {
        Err(Changed::Gone) => return Settled::Gone,
        Err(Changed::Another(text)) => return Settled::Failed { text },
        Ok(()) => {}
    }
    match set_all(look, order) {
        Ok(done) => done,
        Err(text) => Settled::Failed { text },
    }
}

fn set_all(look: Look<'_>, order: &SettleVfs) -> Result<Settled, String> {
    let pf = order.pf.address;
    let interface = interface(look.sysfs, pf).ok_or_else(|| {
        "has no network interface in the host's network namespace, by which its VFs are set"
            .to_owned()
    })?;
    let read = || {
        let found = look.host.vf_settings(interface);
        found.map_err(|error| format!("does not tell how its VFs are set: {}", words(&error)))
    };
    let addresses = vfs_by_index(look.sysfs, &function_dir(pf));
    let mut changed: BTreeMap<u16, VfSettings> = BTreeMap::new();
    let (mut wrong, mut waiting) = (BTreeMap::new(), BTreeMap::new());
    let before = read()?;
    for (index, wanted) in &order.settings {
        let (Some(now), Some(vf)) = (before.get(index), addresses.get(index)) else {
            wrong.insert(*index, "is unknown to the interface of its PF".to_owned());
            continue;
        };
        let mut differing: Vec<_> = differences(wanted, now)
            .filter(|setting| !order.again.contains(index) || is_told(now, setting))
            .collect();
        if let Some((setting, clause)) = held_back(look, *vf, &differing) {
            differing.retain(|setting| !setting.disturbs());
            let text = format!("gets {setting} when it is free: {vf} {clause}");
            waiting.insert(*index, text);
        }
        for setting in differing {
            match set_one(look, interface, *index, setting) {
                Ok(()) => changed.entry(*index).or_default().set(setting),
                Err(error) => {
                    let why = why(&error, driver(look.sysfs, pf).as_deref());
                    let text = format!("cannot have {setting}: {why}");
                    wrong.entry(*index).or_insert(text);
                }
            }
        }
    }
    // What is read counts.
    let after = if changed.is_empty() {
        BTreeMap::new()
    } else {
        read()?
    };
    for (index, set) in &changed {
        let Some(now) = after.get(index) else {
            wrong
                .entry(*index)
                .or_insert_with(|| "went while it was set".to_owned());
            continue;
        };
        let differs = differences(set, now).find(|setting| is_told(now, setting));
        if let Some(setting) = differs {
            let clause = format!("has {now} after {setting} was set");
            wrong.entry(*index).or_insert(clause);
        }
    }
    Ok(Settled::Done {
        changed,
        wrong,
        waiting,
    })
}

/// Sets one thing, once the VF is ready for that: drivers say EAGAIN or EBUSY while it
/// is reset (drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c,
/// `i40e_ndo_set_vf_mac`, and ice/ice_vf_lib.c, `ice_check_vf_init`, v6.12).
fn set_one(look: Look<'_>, interface: u32, index: u16, setting: Setting) -> io::Result<()> {
    let mut tries = 1;
    loop {
        let set = look.host.set_vf(interface, index, setting);
        let error = set.as_ref().err().and_then(io::Error::raw_os_error);
        match error.map(Errno::from_raw_os_error) {
            Some(Errno::AGAIN | Errno::BUSY) if tries < TRIES => {
                tries += 1;
                thread::sleep(BREAK);
            }
            _ => return set,
        }
    }
}

/// What is wanted and not so, or not told.
fn differences(wanted: &VfSettings, now: &VfSettings) -> impl Iterator<Item = Setting> {
    let now: Vec<_> = now.each().collect();
    wanted.each().filter(move |setting| !now.contains(setting))
}

/// Whether the driver says how it stands with that.
fn is_told(now: &VfSettings, setting: &Setting) -> bool {
    now.each().any(|now| now.name() == setting.name())
}

/// What is not changed under whoever uses the VF, and who does: the last of what
/// would disturb them.
fn held_back(look: Look<'_>, vf: Address, differing: &[Setting]) -> Option<(Setting, String)> {
    let setting = differing.iter().rfind(|setting| setting.disturbs())?;
    Some((*setting, in_use(look, vf)?))
}

/// The index of the PF's network interface: of the one for its first port, should
/// it have several. Those that only stand for its VFs are said to be of ports like
/// `pf0vf1` (net/core/devlink.c, `__devlink_port_phys_port_name_get`, v6.1), and set
/// nothing.
fn interface(sysfs: &dyn Sysfs, pf: Address) -> Option<u32> {
    let folder = format!("{}/net", function_dir(pf));
    let names = sysfs.list(&folder).ok()?;
    let number = |name: &str, what: &str| -> Option<u32> {
        text(sysfs, &format!("{folder}/{name}/{what}"))?
            .parse()
            .ok()
    };
    let port = |name: &str| text(sysfs, &format!("{folder}/{name}/phys_port_name"));
    let stands_for_another =
        |name: &str| port(name).is_some_and(|port| port.contains("vf") || port.contains("sf"));
    let first = names.iter().min_by_key(|name| {
        let number = number(name, "dev_port").unwrap_or(u32::MAX);
        (stands_for_another(name), number)
    })?;
    number(first, "ifindex")
}

fn why(error: &io::Error, driver: Option<&str>) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::OPNOTSUPP) => {
            let driver = driver.unwrap_or("its PF's driver");
            format!("{driver} has no such setting, or not with this value")
        }
        Some(Errno::PERM) => "not permitted; does the helper have CAP_NET_ADMIN?".to_owned(),
        _ => words(error),
    }
}
