//! Explains an entry of `[sriov]`, and what one makes of a function: of a PF, or of
//! one of its VFs.

use serde::{Deserialize, Serialize};

use super::{
    Brief, Live,
    mapping::{Near, nearest},
};
use crate::{
    pci::{
        address::Address,
        function::{Function, Role},
        inventory::Inventory,
    },
    policy::{
        plan::Plan,
        resolve::first_match,
        selector::Candidate,
        sriov::{PfPlan, Sriov},
    },
};

/// All that can be said of an entry `[sriov.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSriov {
    /// Its name.
    pub name: String,
    /// The config's description.
    pub description: String,
    /// Its selectors.
    pub pf: Vec<String>,
    /// How many VFs a PF is to have, as the config says it.
    pub vfs: String,
    /// Whether native drivers may have VFs.
    pub autoprobe: bool,
    /// The functions that it matches, and what becomes of each.
    pub pfs: Vec<PfSeen>,
    /// Functions that it nearly matches.
    pub near: Vec<Near>,
    /// Functions that it may match: their serial numbers were not read.
    pub unknown: Vec<Address>,
    /// What a running daemon adds.
    pub live: Option<Live>,
}

/// A function that an entry matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PfSeen {
    /// The function.
    #[serde(flatten)]
    pub function: Brief,
    /// The selector that matches it.
    pub by: String,
    /// What becomes of it, a clause that follows the address.
    pub clause: String,
    /// The VFs that it has, in the order of their index.
    pub vfs: Vec<Address>,
    /// What VFs are set to, a line each.
    pub settings: Vec<String>,
}

pub(super) fn explain_entry(
    inventory: &Inventory,
    plan: &Plan,
    name: &str,
    entry: &Sriov,
) -> OfSriov {
    let mut told = OfSriov {
        name: name.to_owned(),
        description: entry.description.clone(),
        pf: entry.pf.iter().map(ToString::to_string).collect(),
        vfs: entry.vfs.to_string(),
        autoprobe: entry.autoprobe,
        pfs: Vec::new(),
        near: Vec::new(),
        unknown: Vec::new(),
        live: None,
    };
    for function in inventory.iter() {
        let candidate = Candidate::new(function, inventory);
        let found = first_match(&entry.pf, &candidate);
        if plan.sriov.unread.contains(&function.address) && found.is_err() {
            told.unknown.push(function.address);
        } else if let (Ok(Some(by)), Some(pf)) = (&found, plan.sriov.pfs.get(&function.address)) {
            told.pfs.push(PfSeen {
                function: Brief::of(function),
                by: by.to_string(),
                clause: pf.words(),
                vfs: pf.vfs.clone(),
                settings: settings(pf),
            });
        } else if let (Ok(None), Some(trial)) = (found, nearest(&entry.pf, &candidate)) {
            told.near.push(Near {
                function: Brief::of(function),
                trial,
            });
        }
    }
    told
}

/// What the VFs of a PF are set to, a line each.
fn settings(pf: &PfPlan) -> Vec<String> {
    let each = pf.settings.iter();
    each.map(|(index, settings)| format!("VF {index}: {settings}"))
        .collect()
}

/// What `[sriov]` makes of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InSriov {
    /// The entry of the config.
    pub name: String,
    /// What becomes of a PF, or that a VF is one of it: a clause that follows the
    /// address.
    pub clause: String,
    /// What VFs are set to, a line each.
    pub settings: Vec<String>,
}

pub(super) fn explain(plan: &Plan, function: &Function) -> Option<InSriov> {
    match function.role {
        Role::Vf { pf: address, index } => {
            let pf = plan.sriov.pfs.get(&address)?;
            let settings = index.and_then(|index| pf.settings.get(&index));
            Some(InSriov {
                name: pf.name.clone(),
                clause: format!("is made by its PF {address}"),
                settings: settings.iter().map(ToString::to_string).collect(),
            })
        }
        Role::Pf { .. } | Role::Plain => {
            let pf = plan.sriov.pfs.get(&function.address)?;
            let mut settings = settings(pf);
            if !pf.autoprobe && pf.wanted > 0 {
                settings.insert(0, "no native driver gets a VF".to_owned());
            }
            Some(InSriov {
                name: pf.name.clone(),
                clause: pf.words(),
                settings,
            })
        }
    }
}
