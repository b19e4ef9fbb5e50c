//! Claims: from somebody's wish to have functions of a mapping for themselves to
//! an answer.
//!
//! A part of [`State`] as `intake` and `reconcile` are; `asked` has the wish and
//! the answer, `book` who has what, `units` what goes together. Before anything is
//! granted it is looked who uses the functions in truth, once for all who ask
//! meanwhile: a virtual machine may run that claimed nothing.

mod asked;
mod book;
mod pick;
mod units;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::{
    asked::{Asked, Share, Unclaimed, User, owner_of_vm},
    book::{Claim, Lifetime},
};
use self::{
    book::Book,
    pick::pick,
    units::{Member, Unit, units},
};
use super::{event::Effect, report::Report, snapshot::MappingState, state::State};
use crate::{
    pci::{address::Address, inventory::Inventory},
    policy::{
        model::{Extent, Mapping},
        placement::Preference,
        plan::MappingPlan,
    },
};

/// All claims and those who wait for one.
#[derive(Debug, Default)]
pub(super) struct Claims {
    book: Book,
    /// Who asked since the look that is under way began.
    waiting: Vec<(u64, Asked)>,
    /// Who asked before it.
    looked_for: Vec<(u64, Asked)>,
    /// Whether functions went that somebody had.
    shrunk: bool,
}

impl Claims {
    /// All of them, for whoever publishes.
    pub(super) fn all(&self) -> &[Claim] {
        self.book.all()
    }

    /// Who has which function.
    pub(super) fn owners(&self) -> BTreeMap<Address, String> {
        self.book.owners()
    }

    /// The function went, or another device is there: it is nobody's.
    pub(super) fn forget(&mut self, address: Address) {
        self.shrunk |= self.book.keep_only(|one| one != address);
    }

    /// What is not on the host is nobody's.
    pub(super) fn keep_only(&mut self, inventory: &Inventory) {
        self.shrunk |= self.book.keep_only(|one| inventory.get(one).is_some());
    }

    /// Why one of these functions must stay as it is, as a clause about it.
    pub(super) fn objection(&self, addresses: &[Address]) -> Option<String> {
        let mut all = addresses.iter();
        all.find_map(|address| {
            let claim = self.book.holder(*address)?;
            let owner = &claim.owner;
            Some(format!(
                "{address} is claimed by '{owner}': `vfio-bindctl release {owner:?}` first"
            ))
        })
    }
}

impl State {
    /// Takes over what was claimed of an earlier daemon of this boot.
    pub(super) fn recall_claims(&mut self, claims: Vec<Claim>, now: Duration) -> Vec<Effect> {
        self.claims.book.recall(claims);
        self.reconcile_at = Some(now);
        let claims = self.claims.book.all().iter();
        claims.cloned().map(Effect::Watch).collect()
    }

    /// Somebody wants functions.
    pub(super) fn claim(&mut self, asker: u64, asked: Asked, effects: &mut Vec<Effect>) {
        self.claims.waiting.push((asker, asked));
        self.look_who_uses(effects);
    }

    /// Begins a look, unless one is under way.
    fn look_who_uses(&mut self, effects: &mut Vec<Effect>) {
        let claims = &mut self.claims;
        if !claims.looked_for.is_empty() || claims.waiting.is_empty() {
            return;
        }
        claims.looked_for.append(&mut claims.waiting);
        let asked = claims.looked_for.iter();
        let mappings: BTreeSet<_> = asked.map(|(_, asked)| asked.mapping.as_str()).collect();
        let plans = &self.snapshot.plan.mappings;
        let plans = mappings.into_iter().filter_map(|name| plans.get(name));
        let addresses: BTreeSet<_> = plans
            .flat_map(|plan| plan.functions.iter().map(|chosen| chosen.address))
            .collect();
        effects.push(Effect::FindUsers(addresses.into_iter().collect()));
    }

    /// It was looked who uses functions.
    pub(super) fn users_found(
        &mut self,
        users: &Result<BTreeMap<Address, User>, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let asked = std::mem::take(&mut self.claims.looked_for);
        let before = self.claims.book.all().to_vec();
        let mut answers = Vec::new();
        for (asker, asked) in asked {
            let granted = match users {
                Ok(users) => self.grant(&asked, users),
                Err(text) => Err(Unclaimed::Unknown(text.clone())),
            };
            let result = granted.map(|granted| {
                // What came with its IOMMU group only is nobody's to pass on.
                let plan = self.snapshot.plan.mappings.get(&granted.mapping);
                let wanted = plan.into_iter().flat_map(MappingPlan::addresses);
                let wanted = wanted.filter(|address| granted.addresses.contains(address));
                let addresses = wanted.collect();
                if !before.contains(&granted) {
                    effects.push(Effect::Report(Report::Claimed {
                        mapping: granted.mapping.clone(),
                        owner: granted.owner.clone(),
                        addresses: granted.addresses.clone(),
                    }));
                    effects.push(Effect::Watch(granted));
                }
                addresses
            });
            answers.push(Effect::Granted { asker, result });
        }
        if self.claims.book.all() != before {
            self.claims_changed(now, effects);
        }
        // Not before it is on the disk: whoever hears of it may rely on it.
        effects.extend(answers);
        self.look_who_uses(effects);
    }

    /// Gives somebody what they ask for, if it is free.
    fn grant(
        &mut self,
        asked: &Asked,
        users: &BTreeMap<Address, User>,
    ) -> Result<Claim, Unclaimed> {
        let view = self.snapshot.mappings.get(&asked.mapping);
        let bound = view.is_some_and(|view| view.state == MappingState::Bound);
        let (true, Some(inventory)) = (bound, &self.inventory) else {
            return Err(Unclaimed::NotBound);
        };
        self.claims.book.may_change(&asked.owner, asked.uid)?;
        let units = self.units_of(&asked.mapping, inventory);
        let own = self.claims.book.of(&asked.owner, &asked.mapping);
        let is_own = |address: &Address| own.is_some_and(|own| own.addresses.contains(address));
        // It is between two uses, and is set before the next one.
        let mut owned = own.iter().flat_map(|own| &own.addresses);
        let unset = owned.find_map(|address| {
            let idle = !users.contains_key(address);
            self.unset(*address).filter(|_| idle)
        });
        if let Some(text) = unset {
            return Err(Unclaimed::NoneFree(text));
        }
        let taken = |unit: &Unit<'_>| {
            let mut addresses = unit.addresses.iter().filter(|address| !is_own(address));
            addresses.find_map(|address| match self.claims.book.holder(*address) {
                // Of another mapping that has it, too.
                Some(other) if other.owner == asked.owner => None,
                Some(other) => Some(format!("{address} is claimed by '{}'", other.owner)),
                None => self.unfit(*address).or_else(|| {
                    let user = users.get(address)?;
                    // Anyone can call itself so; that it is who starts it, only root is.
                    let own = asked.uid == 0 && user.owner.as_ref() == Some(&asked.owner);
                    (!own).then(|| format!("{address} {}", user.clause))
                }),
            })
        };
        let settings = self.settings_of(&asked.mapping);
        let default = settings.map_or_else(Preference::default, |settings| settings.preference);
        let preference = Preference {
            numa: asked.prefer_numa.or(default.numa),
            placement: asked.placement.unwrap_or(default.placement),
        };
        let chosen = pick(asked, preference, &units, is_own, taken)?;
        if let Some(own) =
            own.filter(|own| own.addresses == chosen && own.lifetime == asked.lifetime)
        {
            return Ok(own.clone());
        }
        Ok(self.claims.book.put(Claim {
            mapping: asked.mapping.clone(),
            owner: asked.owner.clone(),
            uid: asked.uid,
            addresses: chosen,
            lifetime: asked.lifetime.clone(),
            serial: 0,
        }))
    }

    fn settings_of(&self, mapping: &str) -> Option<&Mapping> {
        self.policy.as_ref()?.mappings.get(mapping)
    }

    fn units_of<'a>(&self, mapping: &str, inventory: &'a Inventory) -> Vec<Unit<'a>> {
        let settings = self.settings_of(mapping);
        let by_slot = settings.is_some_and(|settings| settings.extent == Extent::Slot);
        let plan = self.snapshot.plan.mappings.get(mapping);
        let chosen = plan.iter().flat_map(|plan| &plan.functions);
        let members: Vec<_> = chosen
            .filter_map(|chosen| {
                let function = inventory.get(chosen.address)?;
                let companion = chosen.companion;
                Some(Member {
                    function,
                    companion,
                })
            })
            .collect();
        units(&members, by_slot)
    }

    /// Frees what an owner has; `by` is the user who asks, root's may free all.
    pub(super) fn release(
        &mut self,
        owner: &str,
        by: u32,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Unclaimed> {
        self.claims.book.may_change(owner, by)?;
        self.claims_over(now, effects, |claim| claim.owner == owner);
        Ok(())
    }

    /// Ends the claims of which that holds.
    pub(super) fn claims_over(
        &mut self,
        now: Duration,
        effects: &mut Vec<Effect>,
        over: impl FnMut(&Claim) -> bool,
    ) {
        let freed = self.claims.book.drop_where(over);
        if freed.is_empty() {
            return;
        }
        self.sriov.freed();
        for claim in freed {
            effects.push(Effect::Report(Report::Unclaimed {
                mapping: claim.mapping,
                owner: claim.owner,
                addresses: claim.addresses,
            }));
        }
        self.claims_changed(now, effects);
    }

    /// Has written down that functions went which somebody had.
    pub(super) fn keep_shrunk_claims(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.claims.shrunk) {
            self.claims_changed(now, effects);
        }
    }

    fn claims_changed(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        effects.push(Effect::KeepClaims(self.claims.book.all().to_vec()));
        self.reconcile_at = Some(now);
    }
}
