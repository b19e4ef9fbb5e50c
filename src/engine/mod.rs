//! The reconciler: events in, effects out. Synchronous; no IO, no clock, no lock.

pub mod snapshot;
