//! What is told of PFs and their VFs.

use std::collections::BTreeMap;

use super::{VFS_MADE, VFS_NOT_MADE, VFS_NOT_SET, VFS_SET, WITHHOLDING, counted, next_try};
use crate::{engine::report::Report, policy::sriov::VfSettings};

/// What has to do with PFs and their VFs.
pub(super) fn vfs(report: &Report) {
    match report {
        Report::Withholding { pf, withhold } => {
            let what = if *withhold { "no longer" } else { "again" };
            tracing::info!(
                MESSAGE_ID = WITHHOLDING,
                VFIO_ADDRESS = %pf,
                VFIO_STEP = "apply",
                "native drivers get virtual functions of {pf} {what} (sriov_drivers_autoprobe)"
            );
        }
        Report::NotWithholding { pf, text } => tracing::warn!(
            MESSAGE_ID = WITHHOLDING,
            VFIO_ADDRESS = %pf,
            VFIO_STEP = "apply",
            "sriov_drivers_autoprobe of {pf} stays as it is: {text}"
        ),
        Report::VfsMade {
            pf,
            name,
            before,
            now,
            wanted,
        } => {
            let before = match before {
                0 => String::new(),
                before => format!(" in place of {before}"),
            };
            let now_has = counted(usize::from(*now), "VF");
            if now == wanted {
                tracing::info!(
                    MESSAGE_ID = VFS_MADE,
                    VFIO_ADDRESS = %pf,
                    VFIO_SRIOV = name,
                    VFIO_STEP = "apply",
                    "{pf} has {now_has}{before} for sriov {name}"
                );
            } else {
                tracing::warn!(
                    MESSAGE_ID = VFS_NOT_MADE,
                    VFIO_ADDRESS = %pf,
                    VFIO_SRIOV = name,
                    VFIO_STEP = "apply",
                    "{pf} has {now_has}{before} for sriov {name}, and {wanted} were asked for: its driver makes no more"
                );
            }
        }
        Report::VfsNotMade {
            pf,
            name,
            text,
            retry_in_secs,
        } => tracing::warn!(
            MESSAGE_ID = VFS_NOT_MADE,
            VFIO_ADDRESS = %pf,
            VFIO_SRIOV = name,
            VFIO_STEP = "apply",
            "{pf} of sriov {name} {text}{}",
            next_try(*retry_in_secs)
        ),
        Report::NoPf { name } => tracing::warn!(
            MESSAGE_ID = VFS_NOT_MADE,
            VFIO_SRIOV = name,
            VFIO_STEP = "plan",
            "sriov {name} is absent: no function matches its pf"
        ),
        Report::VfsSet { pf, name, changed } => tracing::info!(
            MESSAGE_ID = VFS_SET,
            VFIO_ADDRESS = %pf,
            VFIO_SRIOV = name,
            VFIO_STEP = "apply",
            "VFs of {pf} set for sriov {name}: {}",
            each(changed)
        ),
        Report::VfsNotSet {
            pf,
            name,
            text,
            retry_in_secs,
        } => tracing::warn!(
            MESSAGE_ID = VFS_NOT_SET,
            VFIO_ADDRESS = %pf,
            VFIO_SRIOV = name,
            VFIO_STEP = "apply",
            "{pf} of sriov {name} {text}; next try in {retry_in_secs} s"
        ),
        _ => {}
    }
}

/// Each VF with what it got.
fn each(changed: &BTreeMap<u16, VfSettings>) -> String {
    let each = changed
        .iter()
        .map(|(index, settings)| format!("VF {index}: {settings}"));
    each.collect::<Vec<_>>().join("; ")
}
