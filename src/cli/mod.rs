//! vfio-bindctl: what a person or a hook asks, with or without the daemon.

pub mod args;
mod at_once;
mod check;
mod claim;
mod client;
mod commands;
mod doctor;
mod early;
mod exit;
mod explain;
mod formats;
mod guests;
mod hotplug;
pub mod image;
mod libvirt;
mod local;
mod proxmox;
mod render;
mod resolve;
mod show;
pub mod show_explain;
pub mod show_tree;
mod terraform;
mod tree;
mod varlink;
mod wire;
mod worker;

pub use at_once::at_once;
pub use commands::run;
pub use exit::Exit;
pub use proxmox::hookscript;
