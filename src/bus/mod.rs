//! D-Bus, and Varlink for hooks: what the daemon publishes and takes. No policy, no
//! IO on the host.

pub mod api;
mod caller;
mod explain;
mod function;
mod manager;
mod mapping;
mod objects;
pub mod publish;
pub mod request;
mod sriov;
pub mod varlink;
mod wish;
