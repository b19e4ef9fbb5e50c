//! vfio-bindctl: what a person or a hook asks, with or without the daemon.

pub mod args;
mod client;
mod commands;
mod doctor;
mod early;
mod exit;
mod explain;
mod formats;
pub mod image;
mod local;
mod render;
mod show;
pub mod show_explain;
mod wire;
mod worker;

pub use commands::run;
pub use exit::Exit;
