//! The daemon: the loop that turns every source into one event, and what it
//! tells systemd and the journal.

mod answers;
pub mod args;
mod callers;
mod claims;
mod coldplug;
mod config;
mod errands;
mod helpers;
mod hotplug;
pub mod journal;
pub mod last_map;
pub mod log;
pub mod map_file;
mod nodes;
pub mod notify;
pub mod run;
mod runtime_file;
mod socket;
mod survey;
mod undo;
mod verdicts;
mod work;
