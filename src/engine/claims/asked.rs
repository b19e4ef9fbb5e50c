//! What is asked of claims, and what is answered.

use std::collections::BTreeSet;

use super::Lifetime;
use crate::{pci::address::Address, policy::placement::Placement};

/// What somebody wants to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of this mapping.
    pub mapping: String,
    /// For whom, in the words of who asks.
    pub owner: String,
    /// The user who asks.
    pub uid: u32,
    /// Which of it.
    pub share: Share,
    /// The NUMA node whose functions come first, `None` for the mapping's.
    pub prefer_numa: Option<u32>,
    /// How they are chosen among equals, `None` for the mapping's way.
    pub placement: Option<Placement>,
    /// When the claim ends by itself.
    pub lifetime: Lifetime,
}

/// Which part of a mapping is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    All,
    /// So many devices: functions, or slots where the mapping takes whole ones.
    Devices(u32),
    /// These functions, and what cannot be had without them.
    These(BTreeSet<Address>),
}

/// Who uses a function in truth, claimed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// A clause about the function.
    pub clause: String,
    /// The owner that may go on nevertheless.
    pub owner: Option<String>,
}

/// The owner that a virtual machine of Proxmox VE is: what PVE has reserved for
/// it, it may claim.
#[must_use]
pub fn owner_of_vm(vm: u64) -> String {
    format!("pve-{vm}")
}

/// Why nothing was granted or released, each a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// The mapping is not bound.
    NotBound,
    /// Too much of it is taken, claimed or in use.
    NoneFree(String),
    /// It can never be.
    Refused(String),
    /// It is not known who uses what.
    Unknown(String),
}
