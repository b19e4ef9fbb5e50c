//! PFs that are to have VFs, as the plan has them.

use super::{Case, Finding};
use crate::policy::sriov::{SriovPlan, Standing};

const NAME: &str = "sriov";

pub(super) fn all(case: &Case<'_>) -> Vec<Finding> {
    sriov(&case.plan.sriov)
}

/// A line a PF, and one for each entry that no PF matches.
#[must_use]
pub fn sriov(plan: &SriovPlan) -> Vec<Finding> {
    let absent = plan.absent.iter().map(|name| {
        let advice = format!("compare pf of [sriov.{name}] with what vfio-bindctl functions shows");
        Finding::warn(NAME, format!("{name}: no function matches its pf"), advice)
    });
    let pfs = plan.pfs.iter().map(|(address, pf)| {
        let name = &pf.name;
        let text = format!("{name}: {address} {}", pf.words());
        match &pf.standing {
            Standing::Right => Finding::ok(NAME, text),
            Standing::Make => Finding::warn(
                NAME,
                text,
                "the daemon does that while nobody uses one of those that there are; see \
                 vfio-bindctl status",
            ),
            Standing::Waiting(_) => Finding::warn(
                NAME,
                text,
                "see in lspci -k which kernel modules it has, and whether one of them is blocked",
            ),
            Standing::Refused(_) => Finding::fail(
                NAME,
                text,
                format!("change [sriov.{name}], or what is said here"),
            ),
        }
    });
    absent.chain(pfs).collect()
}
