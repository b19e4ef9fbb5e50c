//! D-Bus: what the daemon publishes and takes. No policy, no IO on the host.

pub mod api;
mod explain;
mod function;
mod manager;
mod mapping;
pub mod publish;
