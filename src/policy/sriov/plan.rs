//! What is to be done to the PFs of a host.
//!
//! Whether a VF is used is not known here: who takes VFs away looks at that right
//! before.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Sriov, VfSettings};
use crate::{
    pci::{
        address::Address,
        function::{Function, Role, is_vfio_driver},
        inventory::Inventory,
    },
    policy::{
        model::Policy,
        resolve::{Unknown, first_match},
        selector::Candidate,
    },
};

/// What is to be done to PFs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SriovPlan {
    /// By the address of the PF.
    pub pfs: BTreeMap<Address, PfPlan>,
    /// The entries of the config that no PF matches.
    pub absent: BTreeSet<String>,
    /// Functions whose serial number decides whether they are meant.
    #[serde(skip)]
    pub(crate) unread: BTreeSet<Address>,
}

impl SriovPlan {
    /// Whether the config asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pfs.is_empty() && self.absent.is_empty()
    }
}

/// What is to be done to one PF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PfPlan {
    /// The entry of the config, `[sriov.NAME]`.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// How many VFs it is to have.
    pub wanted: u16,
    /// How many it can have.
    pub total: u16,
    /// Whether it stays with the host, which makes VFs by it: unless it is said that
    /// there are to be none.
    #[serde(skip)]
    pub stays: bool,
    /// Those that it has, in the order of their index.
    pub vfs: Vec<Address>,
    /// Whether the kernel gives new VFs to native drivers.
    pub autoprobe: bool,
    /// What those that it is to have are set to, by index.
    pub settings: BTreeMap<u16, VfSettings>,
}

/// How a PF stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It has the VFs that it is to have.
    Right,
    /// They are to be made; those that it has, a different number, go first.
    Make,
    /// Something has to come first: a clause that follows the address.
    Waiting(String),
    /// It cannot be done: a clause that follows the address.
    Refused(String),
}

impl PfPlan {
    /// What is to be done, a clause that follows the address.
    #[must_use]
    pub fn words(&self) -> String {
        let (wanted, has) = (self.wanted, self.vfs.len());
        match &self.standing {
            Standing::Right => format!("has its {wanted} VFs"),
            Standing::Make if has == 0 => format!("gets {wanted} VFs"),
            Standing::Make => format!("gets {wanted} VFs in place of {has}"),
            Standing::Waiting(text) | Standing::Refused(text) => text.clone(),
        }
    }
}

/// Plans the PFs of `inventory` under `policy`.
pub(crate) fn plan(inventory: &Inventory, policy: &Policy) -> SriovPlan {
    let mut plan = SriovPlan::default();
    if policy.sriov.is_empty() {
        return plan;
    }
    let mut matched: BTreeMap<Address, Vec<&str>> = BTreeMap::new();
    for (name, entry) in &policy.sriov {
        let mut found = false;
        for function in inventory.iter() {
            // A VF is never meant: it has none of its own.
            if matches!(function.role, Role::Vf { .. }) {
                continue;
            }
            match first_match(&entry.pf, &Candidate::new(function, inventory)) {
                Ok(None) => continue,
                Ok(Some(_)) => matched.entry(function.address).or_default().push(name),
                Err(Unknown) => {
                    plan.unread.insert(function.address);
                }
            }
            found = true;
        }
        if !found {
            plan.absent.insert(name.clone());
        }
    }
    for (address, names) in matched {
        let entry = names
            .first()
            .and_then(|name| Some((*name, policy.sriov.get(*name)?)));
        if let (Some(function), Some((name, entry))) = (inventory.get(address), entry) {
            let others = names.get(1..).unwrap_or_default();
            plan.pfs.insert(address, pf(name, entry, function, others));
        }
    }
    part_addresses(&mut plan.pfs);
    plan
}

/// The plan for one PF; `others` are entries that mean it, too.
fn pf(name: &str, entry: &Sriov, function: &Function, others: &[&str]) -> PfPlan {
    let (total, vfs) = match &function.role {
        Role::Pf { total_vfs, vfs } => (*total_vfs, vfs.clone()),
        Role::Vf { .. } | Role::Plain => (0, Vec::new()),
    };
    let wanted = entry.vfs.of(total);
    let has = u16::try_from(vfs.len()).unwrap_or(u16::MAX);
    let wrong = wanted.and_then(|wanted| wrong_addresses(entry, wanted));
    let standing = match (wanted, &function.role, function.driver.as_deref()) {
        (_, Role::Vf { .. } | Role::Plain, _) => Standing::Refused("has no SR-IOV".to_owned()),
        _ if !others.is_empty() => Standing::Refused(format!(
            "is meant by [sriov.{name}] and by [sriov.{}]",
            others.join("], [sriov.")
        )),
        (None, ..) if total == 0 => Standing::Refused(
            "can have no VFs now: SR-IOV is off in its firmware's settings or its driver's"
                .to_owned(),
        ),
        (None, ..) => Standing::Refused(format!(
            "can have at most {total} VFs, and vfs is {}",
            entry.vfs
        )),
        _ if wrong.is_some() => Standing::Refused(wrong.unwrap_or_default()),
        (Some(wanted), ..) if wanted == has => Standing::Right,
        (Some(_), _, Some(driver)) if is_vfio_driver(driver) => Standing::Refused(format!(
            "is bound to {driver}, which makes no VFs for the host"
        )),
        (Some(_), _, None) => {
            Standing::Waiting("has no driver yet, which has to make the VFs".to_owned())
        }
        (Some(_), _, Some(_)) => Standing::Make,
    };
    let wanted = wanted.unwrap_or_default();
    PfPlan {
        name: name.to_owned(),
        // Those that there are wait for theirs, whatever becomes of the number.
        settings: entry.settings(wanted.max(has)),
        stays: matches!(function.role, Role::Pf { .. }) && entry.vfs.number() != Some(0),
        standing,
        wanted,
        total,
        vfs,
        autoprobe: entry.autoprobe,
    }
}

/// What is wrong with the MAC addresses of its first `count` VFs: the config could not
/// tell how many there are.
fn wrong_addresses(entry: &Sriov, count: u16) -> Option<String> {
    if let Some(index) = entry.beyond(count) {
        return Some(format!(
            "would have no MAC address left for its VF {index}: the last three octets are \
             counted up"
        ));
    }
    let mac = entry.doubled(count)?;
    Some(format!("would give two of its VFs the MAC address {mac}"))
}

/// Refuses PFs of which VFs would have the MAC address of another VF.
fn part_addresses(pfs: &mut BTreeMap<Address, PfPlan>) {
    let mut seen = BTreeMap::new();
    for (address, pf) in pfs {
        if matches!(pf.standing, Standing::Refused(_)) {
            continue;
        }
        let macs: Vec<_> = pf
            .settings
            // Others are about to go.
            .range(..pf.wanted)
            .filter_map(|(index, settings)| Some((settings.mac?, *index)))
            .collect();
        let doubled = macs
            .iter()
            .find_map(|(mac, index)| seen.get(mac).map(|owner| (*mac, *index, *owner)));
        if let Some((mac, index, (other, theirs))) = doubled {
            pf.standing = Standing::Refused(format!(
                "would give its VF {index} the MAC address {mac}, which VF {theirs} of {other} has"
            ));
            continue;
        }
        seen.extend(
            macs.into_iter()
                .map(|(mac, index)| (mac, (*address, index))),
        );
    }
}
