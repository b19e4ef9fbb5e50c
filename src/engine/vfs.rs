//! VFs: from a PF whose every VF is wanted to a helper that keeps native drivers
//! from them, and back.
//!
//! A part of [`State`] as `intake` and `reconcile` are. Which PFs those are is
//! `policy::vfs`'s; whether somebody else set the value is the helper's to see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{errand::Errand, event::Effect, report::Report, state::State};
use crate::{
    pci::{address::Address, function::Role},
    policy::vfs::all_wanted,
};

/// What is known of PFs whose VFs native drivers are kept from.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// Those that may have to be undone.
    pfs: BTreeSet<Address>,
    /// What a helper was asked for and has answered, or will.
    asked: BTreeMap<Address, bool>,
    /// Of those, the ones that it could not do.
    failed: BTreeSet<Address>,
    /// Whether those that nobody wants any more are let go. A PF whose driver is
    /// loaded again has no interface for a while, or not yet that name by which the
    /// config means it: whoever made VFs then would have native drivers get them.
    judged_anew: bool,
}

impl Withheld {
    /// An earlier daemon of this boot left these.
    pub(super) fn recall(&mut self, pfs: Vec<Address>) {
        self.pfs.extend(pfs);
    }

    /// Whether native drivers are kept from the VFs of the PF.
    pub(super) fn keeps(&self, pf: Address) -> bool {
        self.pfs.contains(&pf)
    }

    /// Whether they cannot be kept from them.
    pub(super) fn fails(&self, pf: Address) -> bool {
        self.failed.contains(&pf)
    }

    /// Something about the function is new.
    pub(super) fn changed(&mut self, address: Address) {
        self.asked.remove(&address);
    }

    /// The function went, and its setting with it.
    pub(super) fn forget(&mut self, address: Address) {
        self.changed(address);
        self.pfs.remove(&address);
    }

    /// Anything may be new.
    pub(super) fn look_again(&mut self) {
        self.asked.clear();
        self.judge_anew();
    }

    /// Those that nobody wants any more are let go.
    pub(super) fn judge_anew(&mut self) {
        self.judged_anew = true;
    }

    /// What did not work is tried once more.
    pub(super) fn try_again(&mut self) {
        for pf in std::mem::take(&mut self.failed) {
            self.asked.remove(&pf);
        }
    }
}

impl State {
    /// Sends helpers to PFs that are not as they are to be. Of one with a VF in
    /// `released`, which the host has back, the native driver may come.
    pub(super) fn review_withheld(
        &mut self,
        released: &BTreeSet<Address>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(policy), Some(inventory), false) = (&self.policy, &self.inventory, self.dry_run)
        else {
            return;
        };
        let mut wanted = all_wanted(inventory, policy);
        let pf_of = |vf: &Address| match inventory.get(*vf)?.role {
            Role::Vf { pf, .. } => Some(pf),
            _ => None,
        };
        let returned: BTreeSet<_> = released.iter().filter_map(pf_of).collect();
        wanted.retain(|pf| !returned.contains(pf));
        let judged_anew = std::mem::take(&mut self.withheld.judged_anew);
        let unwanted = self.withheld.pfs.difference(&wanted);
        let wishes: Vec<_> = unwanted
            .filter(|pf| judged_anew || returned.contains(pf))
            .map(|pf| (*pf, false))
            .chain(wanted.iter().map(|pf| (*pf, true)))
            .filter(|(pf, withhold)| self.withheld.asked.get(pf) != Some(withhold))
            .collect();
        for (pf, withhold) in wishes {
            let errand = Errand::Withhold(withhold);
            // Or else when what is under way there is over.
            if self.flights.admits(pf, &errand) {
                self.withheld.asked.insert(pf, withhold);
                self.flights.start(pf, errand, now);
                effects.push(Effect::Withhold { pf, withhold });
            } else if !withhold {
                self.withheld.judged_anew |= judged_anew;
            }
        }
    }

    /// A helper is done with a PF.
    pub(super) fn withholding(
        &mut self,
        pf: Address,
        result: Result<bool, String>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Errand::Withhold(withhold)) = self.land(pf, effects) else {
            return;
        };
        match result {
            Ok(changed) => {
                if withhold {
                    self.withheld.pfs.insert(pf);
                } else {
                    self.withheld.pfs.remove(&pf);
                }
                self.withheld.failed.remove(&pf);
                if changed {
                    effects.push(Effect::Report(Report::Withholding { pf, withhold }));
                }
            }
            Err(text) => {
                self.withheld.failed.insert(pf);
                effects.push(Effect::Report(Report::NotWithholding { pf, text }));
            }
        }
        self.reconcile_at = Some(now);
    }
}
