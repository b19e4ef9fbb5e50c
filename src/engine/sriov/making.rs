//! VFs that are made: what keeps them from it, and what comes of it.

use std::time::Duration;

use super::{Granted, Made};
use crate::{
    engine::{errand::Errand, event::Effect, report::Report, state::State},
    pci::address::Address,
    policy::sriov::PfPlan,
};

impl State {
    /// Why none can be made, or those that there are cannot go, as far as is known
    /// here.
    pub(super) fn hindrance(&self, address: Address, pf: &PfPlan) -> Option<String> {
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
            let vf = pf
                .vfs
                .iter()
                .find(|vf| self.flights.stuck(**vf).is_some())?;
            Some(format!("{vf} is stuck"))
        };
        let why = claimed.or_else(released).or_else(stuck)?;
        Some(format!("keeps its {} VFs: {why}", pf.vfs.len()))
    }

    /// Notes what keeps VFs from being made, and tells it where it is news.
    pub(super) fn hindered(&mut self, address: Address, text: String, effects: &mut Vec<Effect>) {
        let before = self.sriov.hindered.insert(address, text.clone());
        if before.as_ref() != Some(&text) {
            self.tell_not_made(address, text, None, effects);
        }
    }

    fn tell_not_made(
        &self,
        pf: Address,
        text: String,
        wait: Option<Duration>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Report(Report::VfsNotMade {
            pf,
            name: self.sriov_name(pf),
            text,
            retry_in_secs: wait.map(|wait| wait.as_secs()),
        }));
    }

    /// Sends a helper that has VFs made; says whether that has to wait for its turn.
    pub(super) fn make_vfs(
        &mut self,
        address: Address,
        pf: &PfPlan,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(id) = self.id(address) else {
            return false;
        };
        let errand = Errand::MakeVfs(pf.wanted);
        let kept = pf.autoprobe || self.withheld.keeps(address);
        let still = pf.vfs.iter().all(|vf| self.flights.get(*vf).is_none());
        // What is being looked at may turn out to have them.
        if kept && still && self.looks.is_seen(address) && self.flights.admits(address, &errand) {
            let effect = Effect::MakeVfs {
                pf: address,
                id,
                count: pf.wanted,
                autoprobe: pf.autoprobe,
            };
            self.send(address, errand, effect, now, effects);
            return false;
        }
        self.flights.stuck(address).is_none()
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
        match made {
            Made::Has { now: 0, .. } if count > 0 => {
                let text = "made none of its VFs, and its driver does not say why; does its \
                            network interface have to be up?";
                self.not_made(pf, text.to_owned(), false, now, effects);
            }
            Made::Has { now: has, .. } if has > count => {
                let text = format!("keeps {has} VFs, and its driver does not say why");
                self.not_made(pf, text, false, now, effects);
            }
            Made::Has { before, now: has } if before == has && has == count => {
                // It has them by the kernel's count. If that is not what is seen next,
                // it must not be asked for the same at once, and for ever.
                let text = format!("has {has} VFs by its own count, and not all of them are seen");
                self.sriov.makes.failed(pf, now, text, false);
            }
            Made::Has { before, now: has } => {
                self.granted(pf, count, has, "its driver makes no more".to_owned());
                effects.push(Effect::Report(Report::VfsMade {
                    pf,
                    name: self.sriov_name(pf),
                    before,
                    now: has,
                    wanted: count,
                }));
            }
            Made::Back { now: has, text } => {
                self.granted(pf, count, has, format!("it {text}"));
                let text = format!("{text}; it has its {has} VFs again");
                self.tell_not_made(pf, text, None, effects);
            }
            Made::Gone => self.sriov.makes.forget(pf),
            Made::Refused(text) => self.not_made(pf, text, true, now, effects),
            Made::Failed(text) => self.not_made(pf, text, false, now, effects),
        }
        self.sriov.stale.insert(pf);
        // The kernel's word counts, not the helper's.
        self.observe(pf, effects);
        self.reconcile_at = Some(now);
    }

    /// It is tried again later, and told where it is news.
    fn not_made(
        &mut self,
        pf: Address,
        text: String,
        refused: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let is_news = self.sriov.makes.is_news(pf, &text);
        let wait = self.sriov.makes.failed(pf, now, text.clone(), refused);
        if is_news {
            self.tell_not_made(pf, text, Some(wait), effects);
        }
    }

    /// The PF was asked for some VFs and has others now, which is its last word.
    fn granted(&mut self, pf: Address, asked: u16, got: u16, why: String) {
        self.sriov.makes.forget(pf);
        self.sriov.granted.remove(&pf);
        if got != asked {
            self.sriov.granted.insert(pf, Granted { asked, got, why });
        }
    }
}
