//! What Explain answers: the explanation of what was last published, with how
//! far the daemon is.
//!
//! Made when somebody asks, out of the snapshot, and never on the daemon's loop.

use super::api::BusError;
use crate::{
    engine::snapshot::{DaemonState, PfState, Snapshot},
    policy::explain::{ExplainError, Explanation, Live, Target, explain},
};

/// Explains the function, the mapping or the entry of `[sriov]` that `text` names.
///
/// # Errors
/// If there is none, or if the daemon knows nothing yet.
pub(super) fn answer(snapshot: &Snapshot, text: &str) -> Result<Explanation, BusError> {
    let target: Target = text
        .parse()
        .map_err(|error| BusError::UnknownFunction(format!("{error}")))?;
    let Some(basis) = &snapshot.basis else {
        return Err(if snapshot.state == DaemonState::Failed {
            let why = &snapshot.reason;
            BusError::InvalidConfig(format!("the config is not valid: {why}"))
        } else {
            BusError::NotReady("nothing is known yet: the first pass is not over".to_owned())
        });
    };
    let mut explanation = explain(&basis.inventory, &basis.policy, &snapshot.plan, &target)
        .map_err(|error| match error {
            ExplainError::UnknownMapping { .. } => BusError::UnknownMapping(error.to_string()),
            ExplainError::UnknownFunction(_) => BusError::UnknownFunction(error.to_string()),
        })?;
    explanation.add(live(snapshot, &target));
    Ok(explanation)
}

fn live(snapshot: &Snapshot, target: &Target) -> Live {
    let found = match target {
        Target::Function(address) => snapshot
            .functions
            .get(address)
            .map(|view| (view.state.to_string(), view.reason.clone()))
            .or_else(|| {
                let pf = snapshot.pfs.get(address)?;
                Some((pf.state.to_string(), pf.reason.clone()))
            }),
        Target::Mapping(name) => snapshot
            .mappings
            .get(name)
            .map(|view| (view.state.to_string(), view.reason.clone()))
            .or_else(|| sriov(snapshot, name)),
    };
    let (state, reason) = found.unzip();
    Live {
        state,
        reason: reason.unwrap_or_default(),
    }
}

/// How an entry of `[sriov]` stands: as the first of its PFs that is not ready.
fn sriov(snapshot: &Snapshot, name: &str) -> Option<(String, String)> {
    let mut pfs = snapshot.pfs.iter().filter(|(_, pf)| pf.name == name);
    let ready = pfs.clone().next()?.1;
    let unready = pfs.find(|(_, pf)| pf.state != PfState::Ready);
    Some(unready.map_or_else(
        || (ready.state.to_string(), ready.reason.clone()),
        |(address, pf)| (pf.state.to_string(), format!("{address} {}", pf.reason)),
    ))
}
