//! Explains what `[sriov]` makes of a function: of a PF, or of one of its VFs.

use serde::{Deserialize, Serialize};

use crate::{
    pci::function::{Function, Role},
    policy::plan::Plan,
};

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
            let mut settings: Vec<_> = pf
                .settings
                .iter()
                .map(|(index, settings)| format!("VF {index}: {settings}"))
                .collect();
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
