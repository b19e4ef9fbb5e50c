//! What the daemon tells of its work.
//!
//! Owns the wording of reports, the journal's field names and the message IDs.
//! Field names and IDs are for `journalctl VFIO_ADDRESS=0000:3b:00.0` and
//! `journalctl MESSAGE_ID=...`; they do not change.

mod functions;
mod vfs;

use std::collections::BTreeSet;

use self::{
    functions::{owned, restored, tuned},
    vfs::vfs,
};
use crate::{
    engine::{report::Report, snapshot::MappingState},
    pci::address::Address,
};

/// A function was bound.
pub const BOUND: &str = "b08eb4cfcc422eefc27fc98cdd0fcac7";
/// A function got vfio-pci for want of a variant driver.
pub const FELL_BACK: &str = "8ce3e044de4c4d5e8db04e70d0c4e0b9";
/// Binding a function failed.
pub const NOT_BOUND: &str = "ba5828c0f4d39072e70975eeb68ff6c5";
/// Nodes belong to whom a mapping says.
pub const OWNED: &str = "6bfd65edaae1440bbf529cf5b4f21f18";
/// They do not.
pub const NOT_OWNED: &str = "10b8fd7b3d1a42f89d73dfa34117b7c5";
/// Settings of a function are what a mapping wants.
pub const TUNED: &str = "e38d11aea9fd4708ac0f29d2efe1dac0";
/// They are not.
pub const NOT_TUNED: &str = "0cd2edd054c045939e0828952b153821";
/// An owner has functions of a mapping.
pub const CLAIMED: &str = "d61df1b28f304a10b56cb6fa9fb5cc91";
/// An owner has them no more.
pub const UNCLAIMED: &str = "5269a42a27ae477eb67094a9901b7f93";
/// The host has a function back.
pub const RESTORED: &str = "ed0406def6004b0a994eaade8bfec5df";
/// A function was not given back.
pub const NOT_RESTORED: &str = "54655d87e18a47fc8e994a26e35a0295";
/// A function stays with the host, which got it back before.
pub const RELEASED: &str = "2362a04e52884424aedd25a7d631c3b3";
/// The undo journal cannot be used.
pub const JOURNAL_TROUBLE: &str = "84da6a2ba0a240d296c96aef72a5bf76";
/// Native drivers are kept from the VFs of a PF, or no longer.
pub const WITHHOLDING: &str = "323cec680b0b4adf902d3e5cd5304701";
/// A PF has made VFs.
pub const VFS_MADE: &str = "0f1653050d1943fd8d6243af0d6b8669";
/// A PF does not have the VFs that it is to have.
pub const VFS_NOT_MADE: &str = "e7665b61858347a6a5cd5ba233ec9a03";
/// VFs were set.
pub const VFS_SET: &str = "9fa7861e1c9d4562b050680eb4a0b763";
/// VFs are not set as they are to be.
pub const VFS_NOT_SET: &str = "3ffb901c35cf47de82848e0456e3ba64";
/// A helper does not come back from the kernel.
pub const STUCK: &str = "5df646069f9c425ebed8259778f37505";
/// A helper that did not come back is back.
pub const CAME_BACK: &str = "1306e2ebc78c50129a15e7b892ffaae5";
/// A mapping's state changed.
pub const MAPPING: &str = "8dbe54a58f0320c6d545da40ee8ca258";
/// A guard held and the config lifted it.
pub const LIFTED: &str = "2c870145668f9c4c97c4824400312c80";
/// A function is not where a mapping had it before this boot.
pub const DRIFTED: &str = "51104d32e2df487f90a53c74e60fc8f1";
/// A config is in force.
pub const CONFIG_LOADED: &str = "fbe7a995374681bc478fd333db00cfdf";
/// A config was not taken.
pub const CONFIG_REJECTED: &str = "5d97e89ec786a27587f3c26b5643454d";
/// Uevents were lost.
pub const OVERRUN: &str = "6ff917aac6304fbbe12bdad15cc07db8";
/// The host's functions could not be listed.
pub const SCAN_FAILED: &str = "e2a97e31db9643818a5d93770eb5dcb3";

/// The host's IOMMU is not as virtual machines need it.
pub const IOMMU: &str = "2d6c6c8a34d6b63e2935b6c7d8f10817";

/// Traces what is wrong with the host's IOMMU.
pub fn iommu(text: &str) {
    tracing::warn!(MESSAGE_ID = IOMMU, VFIO_STEP = "scan", "{text}");
}

/// Traces `report`.
pub fn report(report: &Report) {
    match report {
        Report::Bound {
            address,
            driver,
            mappings,
            why,
            from,
        } => {
            let before = from.as_ref().map_or_else(
                || "it had no driver".to_owned(),
                |native| format!("{native} had it"),
            );
            let names = mappings.join(", ");
            tracing::info!(
                MESSAGE_ID = BOUND,
                VFIO_ADDRESS = %address,
                VFIO_MAPPING = names,
                VFIO_DRIVER = driver,
                VFIO_STEP = "apply",
                "{address} bound to {driver} for {names}: {why}; {before}"
            );
        }
        Report::FellBack {
            address,
            driver,
            mappings,
            text,
        } => {
            let names = mappings.join(", ");
            tracing::warn!(
                MESSAGE_ID = FELL_BACK,
                VFIO_ADDRESS = %address,
                VFIO_MAPPING = names,
                VFIO_DRIVER = driver,
                VFIO_STEP = "apply",
                "{address} gets {driver} for {names}, and no variant driver: {text}"
            );
        }
        Report::NotBound {
            address,
            mappings,
            step,
            text,
            retry_in_secs,
        } => {
            let names = mappings.join(", ");
            tracing::warn!(
                MESSAGE_ID = NOT_BOUND,
                VFIO_ADDRESS = %address,
                VFIO_MAPPING = names,
                VFIO_STEP = step,
                "{address} not bound for {names}: {step}: {text}; next try in {retry_in_secs} s"
            );
        }
        Report::Claimed {
            mapping,
            owner,
            addresses,
        } => claims(CLAIMED, mapping, owner, addresses, "claimed by"),
        Report::Unclaimed {
            mapping,
            owner,
            addresses,
        } => claims(UNCLAIMED, mapping, owner, addresses, "no longer claimed by"),
        Report::Owned { .. } | Report::NotOwned { .. } => owned(report),
        Report::Tuned { .. } | Report::NotTuned { .. } => tuned(report),
        Report::Restored { .. }
        | Report::NotRestored { .. }
        | Report::Released { .. }
        | Report::JournalTrouble { .. } => restored(report),
        Report::Withholding { .. }
        | Report::NotWithholding { .. }
        | Report::VfsMade { .. }
        | Report::VfsNotMade { .. }
        | Report::NoPf { .. }
        | Report::VfsSet { .. }
        | Report::VfsNotSet { .. } => vfs(report),
        Report::Stuck { address, doing } => tracing::error!(
            MESSAGE_ID = STUCK,
            VFIO_ADDRESS = %address,
            VFIO_STEP = "apply",
            "{address} is stuck: the kernel does not come back from {doing}; it is left alone until it does"
        ),
        Report::CameBack { address } => tracing::info!(
            MESSAGE_ID = CAME_BACK,
            VFIO_ADDRESS = %address,
            VFIO_STEP = "apply",
            "{address} is no longer stuck"
        ),
        Report::Mapping {
            name,
            state,
            reason,
            addresses,
        } => mapping(name, *state, reason, addresses),
        Report::Lifted {
            mapping,
            address,
            guard,
            text,
        } => tracing::warn!(
            MESSAGE_ID = LIFTED,
            VFIO_ADDRESS = %address,
            VFIO_MAPPING = mapping,
            VFIO_STEP = "plan",
            "{address} {text}; {mapping} allows it all the same (allow = [\"{guard}\"])"
        ),
        Report::Drifted {
            mapping,
            address,
            text,
        } => tracing::warn!(
            MESSAGE_ID = DRIFTED,
            VFIO_ADDRESS = %address,
            VFIO_MAPPING = mapping,
            VFIO_STEP = "observe",
            "since the last boot: {text}"
        ),
        Report::ConfigLoaded { mappings, sriov } => {
            let entries = match sriov {
                0 => String::new(),
                count => format!(", PFs by {}", counted(*count, "name")),
            };
            tracing::info!(
                MESSAGE_ID = CONFIG_LOADED,
                VFIO_STEP = "config",
                "config in force: {}{entries}",
                counted(*mappings, "mapping")
            );
        }
        Report::ConfigRejected { text, old_goes_on } => {
            let what = if *old_goes_on {
                "the config before goes on"
            } else {
                "nothing is bound"
            };
            tracing::error!(
                MESSAGE_ID = CONFIG_REJECTED,
                VFIO_STEP = "config",
                "config not taken, {what}:\n{text}"
            );
        }
        Report::ScanFailed { text } => tracing::error!(
            MESSAGE_ID = SCAN_FAILED,
            VFIO_STEP = "observe",
            "the host's functions cannot be listed: {text}; it is tried again within a minute"
        ),
        // Nothing is lost by it, and a host with many devices can do it at each
        // boot.
        Report::Overrun => tracing::info!(
            MESSAGE_ID = OVERRUN,
            VFIO_STEP = "observe",
            "uevents were lost; everything is scanned again"
        ),
    }
}

fn claims(id: &'static str, mapping: &str, owner: &str, addresses: &BTreeSet<Address>, what: &str) {
    let addresses: Vec<_> = addresses.iter().map(Address::to_string).collect();
    let addresses = addresses.join(" ");
    tracing::info!(
        MESSAGE_ID = id,
        VFIO_MAPPING = mapping,
        VFIO_ADDRESS = addresses,
        VFIO_OWNER = owner,
        VFIO_STEP = "publish",
        "{addresses} of {mapping} {what} {owner:?}"
    );
}

fn mapping(name: &str, state: MappingState, reason: &str, addresses: &[Address]) {
    let addresses: Vec<_> = addresses.iter().map(Address::to_string).collect();
    let addresses = addresses.join(" ");
    let text = match (state, reason) {
        (MappingState::Bound, "") => format!("{name} is bound: {addresses}"),
        (_, "") => format!("{name} is {state}"),
        (_, reason) => format!("{name} is {state}: {reason}"),
    };
    match state {
        MappingState::Bound | MappingState::Pending | MappingState::Released => tracing::info!(
            MESSAGE_ID = MAPPING,
            VFIO_MAPPING = name,
            VFIO_ADDRESS = addresses,
            VFIO_STEP = "publish",
            "{text}"
        ),
        _ => tracing::warn!(
            MESSAGE_ID = MAPPING,
            VFIO_MAPPING = name,
            VFIO_ADDRESS = addresses,
            VFIO_STEP = "publish",
            "{text}"
        ),
    }
}

/// What follows a failure that is tried again.
fn next_try(retry_in_secs: Option<u64>) -> String {
    retry_in_secs.map_or_else(String::new, |secs| format!("; next try in {secs} s"))
}

/// `3 mappings`, `1 mapping`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
