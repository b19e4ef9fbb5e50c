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
            match self.hindrance(pf) {
                None => {
                    self.sriov.hindered.remove(&address);
                    return self.make_vfs(address, pf, now, effects);
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
        }
        let settings = present(pf);
        let stale = self.sriov.stale.contains(&address);
        if settings.is_empty() || (self.sriov.is_settled(address, pf) && !stale) {
            if settings.is_empty() {
                self.sriov.settled.remove(&address);
                self.sriov.stale.remove(&address);
            }
            if !makes {
                self.sriov.retries.forget(address);
            }
            return false;
        }
        self.settle_vfs(address, settings, now, effects)
    }

    /// Why the VFs that there are cannot go, as far as is known here.
    fn hindrance(&self, pf: &PfPlan) -> Option<String> {
        let owners = self.claims.owners();
        let claimed = pf.vfs.iter().enumerate().find_map(|(index, vf)| {
            let owner = owners.get(vf)?;
            Some(format!("VF {index}, {vf}, is claimed by {owner:?}"))
        });
        let stuck = || {
            let stuck = |vf: &&Address| self.flights.get(**vf).is_some_and(|one| one.stuck);
            let vf = pf.vfs.iter().find(stuck)?;
            Some(format!("{vf} is stuck"))
        };
        let why = claimed.or_else(stuck)?;
        Some(format!("keeps its {} VFs: {why}", pf.vfs.len()))
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
        if !self.sriov.retries.may_start(address, now) {
            return false;
        }
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
        if !self.sriov.retries.may_start(address, now) {
            return false;
        }
        let known = !self.observing.contains(&address) && !self.unseen.contains(&address);
        let errand = Errand::SettleVfs(settings.clone());
        if known && self.flights.admits(address, &errand) {
            self.sriov.stale.remove(&address);
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
            let before = state.sriov.retries.get(pf).map(|retry| retry.text.clone());
            let wait = state.sriov.retries.failed(pf, now, text.clone(), refused);
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
            Made::Has { before, now } => {
                self.sriov.retries.forget(pf);
                self.sriov.granted.remove(&pf);
                if now != count {
                    self.sriov.granted.insert(pf, (count, now));
                }
                if before != now || now != count {
                    effects.push(Effect::Report(Report::VfsMade {
                        pf,
                        name,
                        before,
                        now,
                        wanted: count,
                    }));
                }
            }
            Made::Gone => self.sriov.retries.forget(pf),
            Made::Refused(text) => fail(self, text, true),
            Made::Failed(text) => fail(self, format!("was asked for {text}"), false),
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
        let before = self.sriov.retries.get(pf).map(|retry| retry.text.clone());
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
                let role = self.inventory.as_ref().and_then(|all| all.get(pf));
                let role = role.map(|one| &one.role);
                if let Some(Role::Pf { vfs, .. }) = role {
                    let vfs = vfs.clone();
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
            None => self.sriov.retries.forget(pf),
            Some(text) => {
                let wait = self.sriov.retries.failed(pf, now, text.clone(), false);
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
        // A helper that takes them away looks at the PF when it is done.
        if !self.flights.is_writing(pf) {
            self.observe(pf, effects);
        }
    }

    /// The entry of the config that the PF belongs to.
    fn sriov_name(&self, pf: Address) -> String {
        let plan = self.snapshot.plan.sriov.pfs.get(&pf);
        plan.map(|plan| plan.name.clone()).unwrap_or_default()
    }
}
