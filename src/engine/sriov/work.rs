//! What is done to PFs and their VFs, and what comes of it.
//!
//! A part of [`State`] as `intake` and `reconcile` are.

use std::{collections::BTreeMap, time::Duration};

use super::{Made, Settled, Settlement, present};
use crate::{
    engine::{coldplug::Coldplug, event::Effect, flight::Errand, report::Report, state::State},
    pci::{address::Address, function::Role},
    policy::{
        plan::Plan,
        sriov::{PfPlan, Standing, VfSettings},
    },
};

impl State {
    /// Sends helpers to PFs that are not as they are to be; says whether anything
    /// waits for its turn.
    pub(in crate::engine) fn review_sriov(
        &mut self,
        plan: &Plan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if self.dry_run || self.journal_awaited {
            return false;
        }
        self.sriov.keep_only(&plan.sriov);
        // A driver that makes VFs is loaded by udev, and so is what names its interface.
        let driverless = |pf: &PfPlan| matches!(pf.standing, Standing::Waiting(_));
        let awaited = !plan.sriov.absent.is_empty() || plan.sriov.pfs.values().any(driverless);
        let mut waits = awaited && self.coldplug != Coldplug::Over;
        for (address, pf) in &plan.sriov.pfs {
            waits |= self.review_pf(*address, pf, now, effects);
        }
        waits
    }

    fn review_pf(
        &mut self,
        address: Address,
        pf: &PfPlan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let makes = pf.standing == Standing::Make && !self.sriov.is_all(address, pf);
        if makes {
            match self.hindrance(address, pf) {
                None => {
                    self.sriov.hindered.remove(&address);
                    if self.sriov.makes.may_start(address, now) {
                        return self.make_vfs(address, pf, now, effects);
                    }
                }
                // Those that there are stay, and are still to be right.
                Some(text) => {
                    let before = self.sriov.hindered.insert(address, text.clone());
                    if before.as_ref() != Some(&text) {
                        effects.push(Effect::Report(Report::VfsNotMade {
                            pf: address,
                            name: pf.name.clone(),
                            text,
                            retry_in_secs: None,
                        }));
                    }
                }
            }
        } else {
            self.sriov.hindered.remove(&address);
            self.sriov.makes.forget(address);
        }
        // What is wrong with it may be just what would be set.
        let settings = match pf.standing {
            Standing::Refused(_) => BTreeMap::new(),
            _ => present(pf),
        };
        let stale = self.sriov.stale.contains(&address);
        if settings.is_empty() || (self.sriov.is_settled(address, pf) && !stale) {
            if settings.is_empty() {
                self.sriov.settled.remove(&address);
                self.sriov.stale.remove(&address);
            }
            self.sriov.sets.forget(address);
            return false;
        }
        self.settle_vfs(address, pf, settings, now, effects)
    }

    /// Why none can be made, or those that there are cannot go, as far as is known
    /// here.
    fn hindrance(&self, address: Address, pf: &PfPlan) -> Option<String> {
        if !pf.autoprobe && self.withheld.fails(address) {
            let text = "makes no VFs while native drivers would get them: \
                        sriov_drivers_autoprobe cannot be set";
            return Some(text.to_owned());
        }
        let owners = self.claims.owners();
        let claimed = pf.vfs.iter().enumerate().find_map(|(index, vf)| {
            let owner = owners.get(vf)?;
            Some(format!("VF {index}, {vf}, is claimed by {owner:?}"))
        });
        let released = || {
            let released = self.undo.released();
            let vf = pf.vfs.iter().find(|vf| released.contains(vf))?;
            Some(format!("{vf} was given back to the host"))
        };
        let stuck = || {
            let stuck = |vf: &&Address| self.flights.get(**vf).is_some_and(|one| one.stuck);
            let vf = pf.vfs.iter().find(stuck)?;
            Some(format!("{vf} is stuck"))
        };
        let why = claimed.or_else(released).or_else(stuck)?;
        Some(format!("keeps its {} VFs: {why}", pf.vfs.len()))
    }

    /// Why nobody is to get the function now: as a VF it may be about to go.
    pub(in crate::engine) fn goes(&self, address: Address) -> Option<String> {
        let function = self.inventory.as_ref()?.get(address)?;
        let Role::Vf { pf, .. } = function.role else {
            return None;
        };
        let flight = self.flights.get(pf)?;
        matches!(flight.errand, Errand::MakeVfs(_))
            .then(|| format!("{address} may go: its PF {pf} is {}", flight.errand.doing()))
    }

    fn make_vfs(
        &mut self,
        address: Address,
        pf: &PfPlan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let errand = Errand::MakeVfs(pf.wanted);
        let Some(id) = self
            .inventory
            .as_ref()
            .and_then(|all| all.get(address))
            .map(|one| one.id)
        else {
            return false;
        };
        // What is being looked at may turn out to have them.
        let known = !self.observing.contains(&address) && !self.unseen.contains(&address);
        let kept = pf.autoprobe || self.withheld.keeps(address);
        let still = pf.vfs.iter().all(|vf| self.flights.get(*vf).is_none());
        if known && kept && still && self.flights.admits(address, &errand) {
            let effect = Effect::MakeVfs {
                pf: address,
                id,
                count: pf.wanted,
                autoprobe: pf.autoprobe,
            };
            self.send(address, errand, effect, now, effects);
            return false;
        }
        self.flights.get(address).is_none_or(|flight| !flight.stuck)
    }

    fn settle_vfs(
        &mut self,
        address: Address,
        pf: &PfPlan,
        settings: BTreeMap<u16, VfSettings>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(id) = self
            .inventory
            .as_ref()
            .and_then(|all| all.get(address))
            .map(|one| one.id)
        else {
            return false;
        };
        if !self.sriov.sets.may_start(address, now) {
            return false;
        }
        let known = !self.observing.contains(&address) && !self.unseen.contains(&address);
        let errand = Errand::SettleVfs(settings.clone());
        if known && self.flights.admits(address, &errand) {
            self.sriov.stale.remove(&address);
            self.sriov.setting.insert(address, pf.vfs.clone());
            self.flights.start(address, errand, now);
            effects.push(Effect::SettleVfs {
                pf: address,
                id,
                settings,
            });
            return false;
        }
        self.flights.get(address).is_none_or(|flight| !flight.stuck)
    }

    /// A helper is done with making VFs.
    pub(in crate::engine) fn made(
        &mut self,
        pf: Address,
        made: Made,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Errand::MakeVfs(count)) = self.land(pf, effects) else {
            return;
        };
        let name = self.sriov_name(pf);
        let mut fail = |state: &mut Self, text: String, refused| {
            let before = state.sriov.makes.get(pf).map(|retry| retry.text.clone());
            let wait = state.sriov.makes.failed(pf, now, text.clone(), refused);
            if before.as_ref() != Some(&text) {
                effects.push(Effect::Report(Report::VfsNotMade {
                    pf,
                    name: name.clone(),
                    text,
                    retry_in_secs: Some(wait.as_secs()),
                }));
            }
        };
        match made {
            Made::Has { now: 0, .. } if count > 0 => {
                let text = "made none of its VFs, and its driver does not say why; does its \
                            network interface have to be up?";
                fail(self, text.to_owned(), false);
            }
            Made::Has { now: has, .. } if has > count => {
                let text = format!("keeps {has} VFs, and its driver does not say why");
                fail(self, text, false);
            }
            Made::Has { before, now: has } if before == has && has == count => {
                // It has them by the kernel's count. If that is not what is seen next,
                // it must not be asked for the same at once, and for ever.
                let text = format!("has {has} VFs by its own count, and not all of them are seen");
                self.sriov.makes.failed(pf, now, text, false);
            }
            Made::Has { before, now } => {
                self.sriov.makes.forget(pf);
                self.sriov.granted.remove(&pf);
                if now != count {
                    self.sriov.granted.insert(pf, (count, now));
                }
                effects.push(Effect::Report(Report::VfsMade {
                    pf,
                    name,
                    before,
                    now,
                    wanted: count,
                }));
            }
            Made::Gone => self.sriov.makes.forget(pf),
            Made::Refused(text) => fail(self, text, true),
            Made::Failed(text) => fail(self, text, false),
        }
        self.sriov.stale.insert(pf);
        // The kernel's word counts, not the helper's.
        self.observe(pf, effects);
        self.reconcile_at = Some(now);
    }

    /// A helper is done with setting VFs.
    pub(in crate::engine) fn settled(
        &mut self,
        pf: Address,
        settled: Settled,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Errand::SettleVfs(settings)) = self.land(pf, effects) else {
            return;
        };
        let name = self.sriov_name(pf);
        let before = self.sriov.sets.get(pf).map(|retry| retry.text.clone());
        // Or else what was set is not there any more, even if the like came since.
        let still = self.sriov.setting.remove(&pf);
        let mut trouble = None;
        match settled {
            Settled::Done { changed, wrong } => {
                if !changed.is_empty() {
                    effects.push(Effect::Report(Report::VfsSet {
                        pf,
                        name: name.clone(),
                        changed,
                    }));
                }
                trouble = wrong
                    .iter()
                    .next()
                    .map(|(index, text)| format!("has a VF {index} that {text}"));
                if let Some(vfs) = still {
                    let settlement = Settlement {
                        vfs,
                        settings,
                        wrong,
                    };
                    self.sriov.settled.insert(pf, settlement);
                }
            }
            Settled::Gone => self.observe(pf, effects),
            Settled::Failed(text) => {
                self.sriov.settled.remove(&pf);
                trouble = Some(text);
            }
        }
        match trouble {
            None => self.sriov.sets.forget(pf),
            Some(text) => {
                let wait = self.sriov.sets.failed(pf, now, text.clone(), false);
                if before.as_ref() != Some(&text) {
                    effects.push(Effect::Report(Report::VfsNotSet {
                        pf,
                        name,
                        text,
                        retry_in_secs: wait.as_secs(),
                    }));
                }
            }
        }
        self.reconcile_at = Some(now);
    }

    /// A function went: if it was a VF, its PF has it no more, which the kernel tells
    /// of none but those that come (drivers/pci/iov.c, `sriov_disable`, v6.12).
    pub(in crate::engine) fn lost_by_its_pf(
        &mut self,
        address: Address,
        effects: &mut Vec<Effect>,
    ) {
        let function = self.inventory.as_ref().and_then(|all| all.get(address));
        let Some(Role::Vf { pf, .. }) = function.map(|one| one.role.clone()) else {
            return;
        };
        self.look_at(pf, effects);
    }

    /// The entry of the config that the PF belongs to.
    fn sriov_name(&self, pf: Address) -> String {
        let plan = self.snapshot.plan.sriov.pfs.get(&pf);
        plan.map(|plan| plan.name.clone()).unwrap_or_default()
    }
}
