//! The reconciler: events in, effects out. Synchronous; no IO, no clock, no lock.

mod arrival;
pub mod claims;
mod coldplug;
mod errand;
pub mod event;
mod flight;
mod intake;
mod knobs;
mod late;
mod look;
pub mod nodes;
mod outcome;
mod project;
mod recall;
mod reconcile;
pub mod report;
pub mod restore;
mod retries;
mod served;
pub mod snapshot;
pub mod sriov;
pub mod state;
pub mod target;
pub mod undo;
mod vfs;
mod vouch;
