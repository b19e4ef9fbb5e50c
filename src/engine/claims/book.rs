//! The book of claims: which owner has which functions of which mapping.
//!
//! Owns that a function has one owner at most. Pure; decides nothing about what
//! is free beside that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Unclaimed;
use crate::pci::address::Address;

/// A reservation of functions of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The mapping that they were claimed of.
    pub mapping: String,
    /// Who has them, in the words of who claimed: a VM's name, as a rule.
    pub owner: String,
    /// Which user claimed them.
    pub uid: u32,
    /// The functions.
    pub addresses: BTreeSet<Address>,
    /// When it ends by itself.
    pub lifetime: Lifetime,
    /// Tells this claim from a later one of the same owner.
    pub serial: u64,
}

/// When a claim ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// Never: it is released.
    Released,
    /// With this process. The number alone is given out again.
    Process {
        /// Its number.
        pid: u32,
        /// When it was started, in clock ticks since the boot.
        started: u64,
    },
    /// With the connection of whoever claimed.
    Caller {
        /// The connection's unique name.
        name: String,
        /// The id of the bus that gave it that name.
        bus: String,
    },
    /// At this time since the boot (`CLOCK_BOOTTIME`).
    Until(Duration),
}

/// All claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    claims: Vec<Claim>,
    serial: u64,
}

impl Book {
    /// What was kept of an earlier daemon of this boot.
    pub(super) fn recall(&mut self, claims: Vec<Claim>) {
        let serials = claims.iter().map(|claim| claim.serial);
        self.serial = serials.max().unwrap_or_default();
        self.claims = claims;
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Claim] {
        &self.claims
    }

    /// Who has a function.
    pub(super) fn holder(&self, address: Address) -> Option<&Claim> {
        let mut claims = self.claims.iter();
        claims.find(|claim| claim.addresses.contains(&address))
    }

    /// What an owner has of a mapping.
    pub(super) fn of(&self, owner: &str, mapping: &str) -> Option<&Claim> {
        let mut claims = self.claims.iter();
        claims.find(|claim| claim.owner == owner && claim.mapping == mapping)
    }

    /// Whether this user may change what an owner has; root may.
    pub(super) fn may_change(&self, owner: &str, by: u32) -> Result<(), Unclaimed> {
        let mut claims = self.claims.iter();
        let foreign = claims.find(|claim| claim.owner == owner && by != 0 && claim.uid != by);
        foreign.map_or(Ok(()), |claim| {
            Err(Unclaimed::Refused(format!(
                "what '{owner}' has was claimed by the user {}, and only that user and root may \
                 change it",
                claim.uid
            )))
        })
    }

    /// Who has which function, where one is taken.
    pub(super) fn owners(&self) -> BTreeMap<Address, String> {
        let claims = self.claims.iter();
        let owned = claims.flat_map(|claim| {
            let addresses = claim.addresses.iter();
            addresses.map(|address| (*address, claim.owner.clone()))
        });
        owned.collect()
    }

    /// Writes a claim down in place of what the owner had of the mapping, and
    /// gives it a serial number. What the owner had of it by another mapping moves.
    pub(super) fn put(&mut self, mut claim: Claim) -> Claim {
        self.drop_where(|old| old.owner == claim.owner && old.mapping == claim.mapping);
        self.keep_only(|address| !claim.addresses.contains(&address));
        self.serial += 1;
        claim.serial = self.serial;
        self.claims.push(claim.clone());
        claim
    }

    /// Takes out the claims of which that holds.
    pub(super) fn drop_where(&mut self, mut over: impl FnMut(&Claim) -> bool) -> Vec<Claim> {
        self.claims.extract_if(.., |claim| over(claim)).collect()
    }

    /// Functions that are not there any more are nobody's; a claim without any
    /// is over. Whether that changed anything.
    pub(super) fn keep_only(&mut self, there: impl Fn(Address) -> bool) -> bool {
        let mut changed = false;
        self.claims.retain_mut(|claim| {
            let before = claim.addresses.len();
            claim.addresses.retain(|address| there(*address));
            changed |= claim.addresses.len() != before;
            !claim.addresses.is_empty()
        });
        changed
    }
}
