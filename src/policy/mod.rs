//! Decisions as pure functions: what a config means, which functions it
//! chooses, and what may be done to them.
//!
//! Never reads a host, a file or a clock.

pub mod config;
pub mod doctor;
pub mod drift;
pub mod early;
pub mod explain;
pub mod glob;
pub mod guard;
mod judge;
pub mod knobs;
pub mod model;
pub mod ownership;
pub mod pattern;
pub mod pin;
pub mod placement;
pub mod plan;
pub mod resolve;
pub mod selector;
pub mod sriov;
pub mod tree;
pub mod variant;
pub mod vfs;
