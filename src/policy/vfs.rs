//! Virtual functions that no native driver is to have: those of a PF of which
//! mappings want every one, or `[sriov]` says so.
//!
//! Owns when that is certain before there are any. Of a VF that is not there only
//! its PF, its vendor and its index are known, so only selectors count that ask
//! for nothing else, in mappings that take all they match. Whether the mapping is
//! bound in the end (`expect`, guards) does not matter: the host has no use for
//! any of them either way. Pure; how drivers are kept away is not decided here.

use std::collections::BTreeSet;

use super::{
    model::{Mapping, Policy},
    pattern::{Kind, PfPattern, VfSet},
    selector::{Selector, Term},
    sriov,
};
use crate::pci::{
    address::Address,
    function::{Function, Role},
    inventory::Inventory,
};

/// The PFs of `inventory` of which mappings want every VF that they can have, and
/// those of which the config says that native drivers get none.
#[must_use]
pub fn all_wanted(inventory: &Inventory, policy: &Policy) -> BTreeSet<Address> {
    let declared = sriov::plan(inventory, policy).pfs;
    let pfs = inventory.iter().filter(|function| match function.role {
        Role::Pf { total_vfs, .. } => match declared.get(&function.address) {
            Some(pf) => !pf.autoprobe,
            None => total_vfs > 0 && are_all_wanted(function, total_vfs, policy),
        },
        Role::Vf { .. } | Role::Plain => false,
    });
    pfs.map(|function| function.address).collect()
}

fn are_all_wanted(pf: &Function, total_vfs: u16, policy: &Policy) -> bool {
    let may_be_one = |selector: &Selector| !selector.terms().iter().any(|it| rules_out(it, pf));
    if policy.protect.iter().any(may_be_one) {
        return false;
    }
    let takes_all =
        |mapping: &&Mapping| mapping.take.is_none() && !mapping.exclude.iter().any(may_be_one);
    let mappings = policy.mappings.values().filter(takes_all);
    let wanted: Vec<_> = mappings
        .flat_map(|mapping| &mapping.matches)
        .filter_map(|selector| by_pf_alone(selector, pf))
        .collect();
    let is_wanted = |index| {
        let mut sets = wanted.iter();
        sets.any(|set| set.is_none_or(|set| set.contains(index)))
    };
    (0..total_vfs).all(is_wanted)
}

/// Which VFs of `pf` a selector chooses that asks for nothing else: `Some(None)`
/// for all of them.
fn by_pf_alone<'a>(selector: &'a Selector, pf: &Function) -> Option<Option<&'a VfSet>> {
    let mut chosen = None;
    for term in selector.terms() {
        match term {
            Term::VfOf(pfs, vfs) if is_meant(pfs, pf) => chosen = Some(vfs.as_ref()),
            Term::Kind(kinds) if kinds.contains(&Kind::Vf) => {}
            _ => return None,
        }
    }
    chosen
}

/// Whether no VF of `pf` can meet the term, whatever else is true of it.
fn rules_out(term: &Term, pf: &Function) -> bool {
    match term {
        Term::Kind(kinds) => !kinds.contains(&Kind::Vf),
        Term::VfOf(pfs, _) => !is_meant(pfs, pf),
        // drivers/pci/iov.c, `pci_iov_add_virtfn`, v6.12: the vendor is the PF's.
        Term::Id(ids) => !ids.iter().any(|id| id.is_of(pf.id.vendor)),
        // `pci_iov_virtfn_bus` there: on the PF's bus, or one after it.
        Term::Address(globs) => !globs.iter().any(|glob| glob.goes_on_from(pf.address)),
        Term::Subsystem(_)
        | Term::Class(_)
        | Term::Numa(_)
        | Term::IommuGroup(_)
        | Term::Path(_)
        | Term::Slot(_)
        | Term::Serial(_)
        | Term::Netdev(_) => false,
    }
}

fn is_meant(pfs: &[PfPattern], pf: &Function) -> bool {
    pfs.iter()
        .any(|pattern| pattern.matches(pf.address, &pf.netdevs))
}
