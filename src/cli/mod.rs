//! vfio-bindctl: what a person or a hook asks, with or without the daemon.

pub mod args;
mod check;
mod claim;
mod client;
mod commands;
mod doctor;
mod early;
mod exit;
mod explain;
mod formats;
mod hotplug;
pub mod image;
mod libvirt;
mod local;
mod proxmox;
mod render;
mod show;
pub mod show_explain;
mod terraform;
mod wire;
mod worker;

pub use commands::run;
pub use exit::Exit;
