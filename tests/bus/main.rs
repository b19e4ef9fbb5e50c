//! The D-Bus interface, over a private bus with the policy that is installed.
//!
//! First the bus layer by itself, fed with snapshots made by hand; then the
//! whole daemon in a dry run over a directory that looks like `/sys`.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tree.rs"]
mod tree;
mod varlink;

mod answers;
mod claims;
mod client;
mod ctl;
mod daemon;
mod explain;
mod introspection;
mod libvirt;
mod life;
mod objects;
mod private_bus;
mod program;
mod proxmox;
mod reload;
mod requests;
mod restore;
mod service;
mod stuck;
mod verdicts;
