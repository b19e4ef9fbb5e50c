//! What is told of functions: whose their nodes are, their settings, and how they
//! went back.

use super::{
    JOURNAL_TROUBLE, NOT_OWNED, NOT_RESTORED, NOT_TUNED, OWNED, RELEASED, RESTORED, TUNED, next_try,
};
use crate::engine::report::Report;

/// Whose nodes are.
pub(super) fn owned(report: &Report) {
    match report {
        Report::Owned {
            address,
            nodes,
            ownership,
        } => {
            let nodes = nodes.join(", ");
            tracing::info!(
                MESSAGE_ID = OWNED,
                VFIO_ADDRESS = %address,
                VFIO_STEP = "apply",
                "{nodes} of {address}: {ownership}"
            );
        }
        Report::NotOwned {
            address,
            ownership,
            text,
            retry_in_secs,
        } => tracing::warn!(
            MESSAGE_ID = NOT_OWNED,
            VFIO_ADDRESS = %address,
            VFIO_STEP = "apply",
            "nodes of {address} are not {ownership}: {text}; next try in {retry_in_secs} s"
        ),
        _ => {}
    }
}

/// Their settings.
pub(super) fn tuned(report: &Report) {
    match report {
        Report::Tuned { address, changed } => tracing::info!(
            MESSAGE_ID = TUNED,
            VFIO_ADDRESS = %address,
            VFIO_STEP = "apply",
            "settings of {address}: {changed}"
        ),
        Report::NotTuned {
            address,
            text,
            retry_in_secs,
        } => tracing::warn!(
            MESSAGE_ID = NOT_TUNED,
            VFIO_ADDRESS = %address,
            VFIO_STEP = "apply",
            "{address} {text}{}",
            next_try(*retry_in_secs)
        ),
        _ => {}
    }
}

/// What has to do with giving functions back.
pub(super) fn restored(report: &Report) {
    match report {
        Report::Restored {
            address,
            mappings,
            driver,
        } => {
            let now = driver.as_ref().map_or_else(
                || "it has no driver, as before".to_owned(),
                |driver| format!("{driver} has it again"),
            );
            tracing::info!(
                MESSAGE_ID = RESTORED,
                VFIO_ADDRESS = %address,
                VFIO_MAPPING = mappings.join(", "),
                VFIO_STEP = "restore",
                "{address} given back to the host: {now}"
            );
        }
        Report::NotRestored {
            address,
            mappings,
            step,
            text,
        } => tracing::warn!(
            MESSAGE_ID = NOT_RESTORED,
            VFIO_ADDRESS = %address,
            VFIO_MAPPING = mappings.join(", "),
            VFIO_STEP = step,
            "{address} not given back to the host: {step}: {text}"
        ),
        Report::Released { address, mappings } => tracing::info!(
            MESSAGE_ID = RELEASED,
            VFIO_ADDRESS = %address,
            VFIO_MAPPING = mappings.join(", "),
            VFIO_STEP = "restore",
            "{address} stays with the host: it was given back in this boot"
        ),
        Report::JournalTrouble { text } => tracing::warn!(
            MESSAGE_ID = JOURNAL_TROUBLE,
            VFIO_STEP = "restore",
            "the undo journal cannot be used as it is: {text}"
        ),
        _ => {}
    }
}
