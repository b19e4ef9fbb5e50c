//! The only IO on the host: scan, inspect, apply, restore, uevents.
//!
//! Decides nothing about what is wanted; `policy` does.

pub mod accounts;
pub mod apply;
pub mod autoprobe;
pub mod config_files;
pub mod dev_watch;
pub mod early;
pub mod helper;
pub mod host;
pub mod image;
pub mod inspect;
mod knobs;
pub mod locality;
pub mod modules;
pub mod names;
mod netlink;
pub mod nodes;
mod open_nodes;
pub mod order;
mod process_name;
pub mod record;
pub mod reservations;
pub mod restore;
pub mod scan;
pub mod sriov;
mod steps;
pub mod survey;
pub mod sysfs;
pub mod tune;
pub mod uevent;
pub mod undo;
pub mod usage;
mod variant;
pub mod verdicts;
