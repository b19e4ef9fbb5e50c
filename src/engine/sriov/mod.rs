//! SR-IOV: has PFs make their VFs, and VFs set before they are told as bound.
//!
//! Owns what is known of PFs; `work` decides when a helper is sent, `making` and
//! `setting` have what it is sent for, `outcome` how that ends, `show` the words.
//! Level-triggered: what the driver of a PF takes away, it is asked for again.

mod making;
mod outcome;
mod setting;
mod show;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::outcome::{Made, Settled};
pub(in crate::engine) use self::show::report;
use super::{flight::Flights, retries::Retries};
use crate::{
    pci::{
        address::Address,
        function::{Function, Role},
        inventory::Inventory,
    },
    policy::{
        model::Mapping,
        plan::MappingPlan,
        sriov::{PfPlan, SriovPlan, Standing, VfSettings},
    },
};

/// What the VFs of a PF were found, or made, to be.
#[derive(Debug)]
struct Settlement {
    vfs: Vec<Address>,
    settings: BTreeMap<u16, VfSettings>,
    wrong: BTreeMap<u16, String>,
    waiting: BTreeMap<u16, String>,
}

impl Settlement {
    /// Whether the VF with this index was found, or made, to be as `wanted`.
    fn is_so(&self, index: u16, wanted: &VfSettings) -> bool {
        self.settings.get(&index) == Some(wanted)
            && !self.wrong.contains_key(&index)
            && !self.waiting.contains_key(&index)
    }
}

/// That a PF has another number of VFs than it was asked for, and will not get that.
#[derive(Debug)]
struct Granted {
    asked: u16,
    got: u16,
    /// Why, a clause.
    why: String,
}

/// What is known of PFs.
#[derive(Debug, Default)]
pub(in crate::engine) struct Sriovs {
    /// VFs that could not be made. Those that there are can be set meanwhile.
    makes: Retries,
    /// VFs that could not be set.
    sets: Retries,
    settled: BTreeMap<Address, Settlement>,
    /// What is being set: the VFs of each PF, as long as none of them goes.
    setting: BTreeMap<Address, Vec<Address>>,
    /// PFs whose VFs may be set otherwise by now.
    stale: BTreeSet<Address>,
    /// Those that are not asked again, or their VFs would go for nothing.
    granted: BTreeMap<Address, Granted>,
    /// What keeps VFs from being made, as it was told last.
    hindered: BTreeMap<Address, String>,
}

impl Sriovs {
    /// Something about the PF is new.
    pub(in crate::engine) fn changed(&mut self, pf: Address) {
        self.stale.insert(pf);
    }

    /// The function went, and with it what it was set to.
    pub(in crate::engine) fn forget(&mut self, address: Address) {
        self.settled
            .retain(|pf, settled| *pf != address && !settled.vfs.contains(&address));
        self.setting
            .retain(|pf, vfs| *pf != address && !vfs.contains(&address));
        self.stale.remove(&address);
        self.granted.remove(&address);
        self.hindered.remove(&address);
        self.makes.forget(address);
        self.sets.forget(address);
    }

    /// What is not planned any more is forgotten.
    fn keep_only(&mut self, plan: &SriovPlan) {
        let planned = |pf: &Address| plan.pfs.contains_key(pf);
        self.settled.retain(|pf, _| planned(pf));
        self.setting.retain(|pf, _| planned(pf));
        self.stale.retain(planned);
        self.granted.retain(|pf, _| planned(pf));
        self.hindered.retain(|pf, _| planned(pf));
        self.makes.keep_only(planned);
        self.sets.keep_only(planned);
    }

    /// When the next of those that wait may start.
    pub(in crate::engine) fn next(&self, now: Duration) -> Option<Duration> {
        let next = [self.makes.next(now), self.sets.next(now)];
        next.into_iter().flatten().min()
    }

    /// Anything may be new.
    pub(in crate::engine) fn look_again(&mut self) {
        self.stale.extend(self.settled.keys());
    }

    /// What did not work is tried once more, at once; but no driver is asked again for
    /// a number that it did not grant, which would cost its VFs.
    pub(in crate::engine) fn try_again(&mut self) {
        self.look_again();
        self.makes.forget_all();
        self.sets.forget_all();
    }

    /// The same, and drivers are asked again, too.
    pub(in crate::engine) fn ask_again(&mut self) {
        self.try_again();
        self.granted.clear();
    }

    /// Somebody is done with what they had: VFs that wait for that may be free.
    pub(in crate::engine) fn freed(&mut self) {
        let waits = |pf| {
            let known = self.settled.get(&pf);
            known.is_some_and(|known| !known.waiting.is_empty())
        };
        self.sets.hurry(|pf, _| waits(pf));
        self.makes.hurry(|_, retry| retry.refused);
    }

    /// The driver went from a VF. Somebody may have made it anew meanwhile; of the
    /// others nothing is new.
    pub(in crate::engine) fn unbound(&mut self, vf: Address) {
        self.setting.retain(|_, vfs| !vfs.contains(&vf));
        for (pf, known) in &mut self.settled {
            let place = known.vfs.iter().position(|one| *one == vf);
            if let Some(index) = place.and_then(|place| u16::try_from(place).ok()) {
                known.settings.remove(&index);
                known.wrong.remove(&index);
                known.waiting.remove(&index);
                self.sets.hurry(|one, _| one == *pf);
            }
        }
    }

    /// Why the PF will not have another number of VFs than it has, if so.
    fn is_all(&self, address: Address, pf: &PfPlan) -> Option<&str> {
        let has = u16::try_from(pf.vfs.len()).ok();
        let granted = self.granted.get(&address)?;
        (granted.asked == pf.wanted && Some(granted.got) == has).then_some(&granted.why)
    }

    fn is_settled(&self, address: Address, pf: &PfPlan) -> bool {
        let known = self.settled.get(&address);
        known.is_some_and(|known| {
            let settled = known.wrong.is_empty() && known.waiting.is_empty();
            known.vfs == pf.vfs && known.settings == present(pf) && settled
        })
    }

    /// Which VFs are as they are to be, as far as is known.
    fn set_before(&self, address: Address, pf: &PfPlan) -> BTreeSet<u16> {
        let known = self.known(address, pf);
        let settings = present(pf).into_iter();
        settings
            .filter(|(index, wanted)| known.is_some_and(|known| known.is_so(*index, wanted)))
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether nothing of its VFs is wrong but what waits for them to be free.
    fn only_waits(&self, address: Address, pf: &PfPlan) -> bool {
        let known = self.known(address, pf);
        known.is_some_and(|known| known.wrong.is_empty() && !known.waiting.is_empty())
    }

    /// What these very VFs were found, or made, to be.
    fn known(&self, address: Address, pf: &PfPlan) -> Option<&Settlement> {
        let known = self.settled.get(&address);
        known.filter(|known| known.vfs == pf.vfs)
    }

    /// Why a VF that is used is not as it is to be before that is over, a clause; who
    /// uses it now may go on.
    pub(in crate::engine) fn held_back(&self, plan: &SriovPlan, vf: &Function) -> Option<&str> {
        let Role::Vf { pf: address, index } = vf.role else {
            return None;
        };
        let known = self.known(address, plan.pfs.get(&address)?)?;
        known.waiting.get(&index?).map(String::as_str)
    }

    /// VFs that a mapping which does without some functions does without for now:
    /// whoever uses them may go on, and all else is had as before. None if that would
    /// be all of them.
    pub(in crate::engine) fn sitting_out(
        &self,
        plan: &SriovPlan,
        inventory: &Inventory,
        mapping: &Mapping,
        planned: &MappingPlan,
    ) -> BTreeSet<Address> {
        if !mapping.partial {
            return BTreeSet::new();
        }
        let held_back = |address: &Address| {
            let function = inventory.get(*address);
            function.is_some_and(|vf| self.held_back(plan, vf).is_some())
        };
        let bound = planned.functions.iter().filter(|chosen| chosen.bound);
        let all = bound.map(|chosen| chosen.address);
        let out: BTreeSet<_> = all.filter(held_back).collect();
        if planned.addresses().all(|one| out.contains(&one)) {
            return BTreeSet::new();
        }
        out
    }

    /// What a VF that a mapping has still waits for; `Err` if that did not work.
    pub(in crate::engine) fn waits(
        &self,
        flights: &Flights,
        plan: &SriovPlan,
        vf: &Function,
    ) -> Result<Option<String>, String> {
        let Role::Vf { pf: address, index } = vf.role else {
            return Ok(None);
        };
        let Some(pf) = plan.pfs.get(&address) else {
            let unread = plan.unread.contains(&address);
            let text =
                format!("is bound, and the serial number of its PF {address} is not read yet");
            return Ok(unread.then_some(text));
        };
        // Whoever found them in use looks again from time to time: that is no news to
        // those who have them.
        let kept = self.makes.get(address).is_some_and(|retry| retry.refused);
        if flights.is_making_vfs(address) && !(kept && pf.vfs.contains(&vf.address)) {
            return Ok(Some(format!(
                "is one of the VFs that {address} has made now"
            )));
        }
        let wanted = index.and_then(|index| pf.settings.get(&index));
        if pf.settings.is_empty() || (index.is_some() && wanted.is_none()) {
            return Ok(None);
        }
        if let Standing::Refused(text) = &pf.standing {
            return Err(format!("is bound, and its PF {address} {text}"));
        }
        let known = self.known(address, pf);
        let (Some(index), Some(wanted)) = (index, wanted) else {
            return Ok(Some("is bound, and its number is not known yet".to_owned()));
        };
        match known {
            Some(known) if known.settings.get(&index) == Some(wanted) => {
                match known.wrong.get(&index).or(known.waiting.get(&index)) {
                    None => Ok(None),
                    Some(text) => Err(format!("is bound, and {text}")),
                }
            }
            _ => match self.sets.get(address) {
                Some(retry) => Err(format!("is bound, and its PF {address} {}", retry.text)),
                None => Ok(Some(format!("is bound, and gets {wanted}"))),
            },
        }
    }

    /// What keeps VFs from being made, a clause that follows the address.
    fn hindrance(&self, address: Address) -> Option<String> {
        self.hindered.get(&address).cloned()
    }

    /// Whether everything is as it is to be.
    pub(in crate::engine) fn is_right(&self, address: Address, pf: &PfPlan) -> bool {
        let settled = present(pf).is_empty() || self.is_settled(address, pf);
        pf.standing == Standing::Right && settled
    }
}

/// What those VFs are set to that the PF has.
fn present(pf: &PfPlan) -> BTreeMap<u16, VfSettings> {
    let has = u16::try_from(pf.vfs.len()).unwrap_or(u16::MAX);
    let settings = pf.settings.range(..has);
    settings.map(|(index, one)| (*index, one.clone())).collect()
}
