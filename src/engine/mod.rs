//! The reconciler: events in, effects out. Synchronous; no IO, no clock, no lock.

mod flight;
mod project;
pub mod report;
pub mod snapshot;
pub mod state;
