//! VFs that are set: what is sent, and what comes of it.

use std::{collections::BTreeMap, time::Duration};

use super::{Settled, Settlement};
use crate::{
    engine::{errand::Errand, event::Effect, report::Report, state::State},
    pci::address::Address,
    policy::sriov::{PfPlan, VfSettings},
};

impl State {
    /// Sends a helper that sets VFs; says whether that has to wait for its turn.
    pub(super) fn settle_vfs(
        &mut self,
        address: Address,
        pf: &PfPlan,
        settings: BTreeMap<u16, VfSettings>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(id) = self.id(address) else {
            return false;
        };
        if !self.sriov.sets.may_start(address, now) {
            return false;
        }
        let again = self.sriov.set_before(address, pf);
        let errand = Errand::SettleVfs(settings.clone());
        if self.looks.is_seen(address) && self.flights.admits(address, &errand) {
            self.sriov.stale.remove(&address);
            self.sriov.setting.insert(address, pf.vfs.clone());
            self.flights.start(address, errand, now);
            effects.push(Effect::SettleVfs {
                pf: address,
                id,
                settings,
                again,
            });
            return false;
        }
        self.flights.stuck(address).is_none()
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
        // Or else what was set is not there any more, even if the like came since.
        let still = self.sriov.setting.remove(&pf);
        let mut trouble = None;
        match settled {
            Settled::Done {
                changed,
                wrong,
                waiting,
            } => {
                if !changed.is_empty() {
                    effects.push(Effect::Report(Report::VfsSet {
                        pf,
                        name: name.clone(),
                        changed,
                    }));
                }
                trouble = wrong
                    .iter()
                    .chain(&waiting)
                    .next()
                    .map(|(index, text)| format!("has a VF {index} that {text}"));
                if let Some(vfs) = still {
                    let settlement = Settlement {
                        vfs,
                        settings,
                        wrong,
                        waiting,
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
                let is_news = self.sriov.sets.is_news(pf, &text);
                let wait = self.sriov.sets.failed(pf, now, text.clone(), false);
                if is_news {
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
}
