//! A host with a PF that does what the engine asks, as a driver would.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use vfio_bindd::{
    engine::{
        claims::{Asked, Lifetime, Share, Unclaimed},
        event::{Effect, Event, Unfinished},
        report::Report,
        snapshot::{MappingState, PfState, Snapshot},
        sriov::{Made, Settled},
        state::State,
    },
    pci::{
        address::Address,
        function::{Function, Inspection, Role},
        inventory::Inventory,
    },
    policy::{resolve::Held, sriov::VfSettings},
};

use crate::{
    PF, config,
    drive::{Drive, Engine, seen},
    pf,
    support::{at, bound},
    vf,
};

/// More than any script here can need: whoever has that many goes in circles.
const MOST_EFFECTS: usize = 2000;

pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) inventory: Inventory,
    /// What comes of that by itself.
    pub(crate) uevents: VecDeque<Event>,
    /// What the VFs are set to.
    pub(crate) set: BTreeMap<u16, VfSettings>,
    /// How many VFs the driver makes at most.
    pub(crate) grants: u16,
    /// Why the helper makes no VFs, or the kernel, or none can be set.
    pub(crate) refuses: Option<String>,
    pub(crate) fails: Option<String>,
    pub(crate) mute: Option<String>,
    /// VFs that cannot be set as wanted, and why.
    pub(crate) wrong: BTreeMap<u16, String>,
    /// Why VFs are set when they are free.
    pub(crate) waiting: BTreeMap<u16, String>,
    /// Whether native drivers cannot be kept from VFs.
    pub(crate) probes: bool,
    /// What is not answered, by its first word in `done`.
    pub(crate) hang: BTreeSet<&'static str>,
    pub(crate) hanging: Vec<Effect>,
    /// What was done.
    pub(crate) done: Vec<String>,
    pub(crate) reports: Vec<Report>,
    /// What the next daemon is told.
    pub(crate) kept: BTreeMap<Address, Unfinished>,
    pub(crate) granted: BTreeMap<u64, Result<Vec<Address>, Unclaimed>>,
    /// Of each time that VFs were set, which were so before.
    pub(crate) again: Vec<BTreeSet<u16>>,
    effects: usize,
}

impl Host {
    /// A host with the PF and so many VFs of it.
    pub(crate) fn new(vfs: u16) -> Self {
        let functions = (0..vfs).map(vf).chain([pf(vfs)]);
        Self {
            engine: Engine::new(State::new(Held::new(), false)),
            inventory: functions.collect(),
            uevents: VecDeque::new(),
            set: (0..vfs)
                .map(|index| (index, VfSettings::default()))
                .collect(),
            grants: 8,
            refuses: None,
            fails: None,
            mute: None,
            wrong: BTreeMap::new(),
            waiting: BTreeMap::new(),
            probes: false,
            hang: BTreeSet::new(),
            hanging: Vec::new(),
            done: Vec::new(),
            reports: Vec::new(),
            kept: BTreeMap::new(),
            granted: BTreeMap::new(),
            again: Vec::new(),
            effects: 0,
        }
    }

    pub(crate) fn start(&mut self, text: &str) {
        self.run(Event::Config(Ok(config(text))));
    }

    /// Gives an event, and the uevents that come of it.
    pub(crate) fn run(&mut self, event: Event) {
        self.event(event);
        while let Some(event) = self.uevents.pop_front() {
            self.event(event);
        }
    }

    /// Lets time pass, and what comes of that.
    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.wait(Duration::from_secs(1));
            while let Some(event) = self.uevents.pop_front() {
                self.event(event);
            }
        }
    }

    /// What was done since it was asked last.
    pub(crate) fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    /// How often this was done.
    pub(crate) fn times(&self, what: &str) -> usize {
        self.done.iter().filter(|one| *one == what).count()
    }

    /// Carries out what hung.
    pub(crate) fn go_on(&mut self) {
        self.hang.clear();
        for effect in std::mem::take(&mut self.hanging) {
            if let Some(event) = self.carry_out(&effect) {
                self.run(event);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.engine.state.snapshot()
    }

    pub(crate) fn pf(&self) -> (PfState, &str) {
        let pf = self.snapshot().pfs.get(&at(PF)).unwrap();
        (pf.state, &pf.reason)
    }

    pub(crate) fn mapping(&self) -> (MappingState, &str) {
        let mapping = self.snapshot().mappings.get("vms").unwrap();
        (mapping.state, &mapping.reason)
    }

    pub(crate) fn vfs(&self) -> usize {
        let pf = self.inventory.get(at(PF)).unwrap();
        match &pf.role {
            Role::Pf { vfs, .. } => vfs.len(),
            Role::Vf { .. } | Role::Plain => unreachable!("it is a PF"),
        }
    }

    /// The driver makes so many VFs in place of those that there are.
    pub(crate) fn make(&mut self, count: u16) {
        let old: Vec<_> = self.inventory.iter().map(|one| one.address).collect();
        for address in old.into_iter().filter(|address| *address != at(PF)) {
            self.inventory.remove(address);
            self.uevents.push_back(Event::Removed(address));
        }
        let driver = self
            .inventory
            .get(at(PF))
            .and_then(|one| one.driver.clone());
        self.set.clear();
        for index in 0..count {
            let new = vf(index);
            self.uevents.push_back(Event::Changed(new.address));
            self.inventory.insert(new);
            self.set.insert(index, VfSettings::default());
        }
        let mut pf = pf(count);
        pf.driver = driver;
        self.inventory.insert(pf);
        self.uevents.push_back(Event::Changed(at(PF)));
    }

    /// The PF gets another driver, or none.
    pub(crate) fn driver(&mut self, driver: Option<&str>) {
        let pf = self.inventory.get_mut(at(PF)).unwrap();
        pf.driver = driver.map(str::to_owned);
        self.uevents.push_back(Event::Changed(at(PF)));
    }

    /// Somebody wants one function of the mapping.
    pub(crate) fn claim(&mut self, asker: u64) {
        let asked = Asked {
            mapping: "vms".to_owned(),
            owner: "somebody".to_owned(),
            uid: 0,
            share: Share::Devices(1),
            prefer_numa: None,
            placement: None,
            lifetime: Lifetime::Released,
        };
        self.run(Event::Claim { asker, asked });
    }

    fn made(&mut self, count: u16) -> Made {
        if let Some(text) = self.refuses.clone() {
            return Made::Refused(text);
        }
        let before = u16::try_from(self.vfs()).unwrap();
        if let Some(text) = self.fails.clone() {
            if before == 0 {
                return Made::Failed(text);
            }
            self.make(before);
            return Made::Back { now: before, text };
        }
        let now = count.min(self.grants);
        if before != count {
            self.make(now);
        }
        Made::Has { before, now }
    }

    fn settled(&mut self, settings: &BTreeMap<u16, VfSettings>) -> Settled {
        if let Some(text) = self.mute.clone() {
            return Settled::Failed(text);
        }
        let mut changed = BTreeMap::new();
        for (index, wanted) in settings {
            let set = self.set.get_mut(index).unwrap();
            let held = self.wrong.contains_key(index) || self.waiting.contains_key(index);
            if set != wanted && !held {
                set.clone_from(wanted);
                changed.insert(*index, wanted.clone());
            }
        }
        let of = |texts: &BTreeMap<u16, String>| {
            let texts = texts.clone().into_iter();
            texts
                .filter(|(index, _)| settings.contains_key(index))
                .collect()
        };
        Settled::Done {
            changed,
            wrong: of(&self.wrong),
            waiting: of(&self.waiting),
        }
    }

    fn carry_out(&mut self, effect: &Effect) -> Option<Event> {
        match effect {
            Effect::Withhold { pf, .. } => {
                let result = if self.probes {
                    Err("input/output error".to_owned())
                } else {
                    Ok(true)
                };
                Some(Event::Withholding(*pf, result))
            }
            Effect::MakeVfs { pf, count, .. } => Some(Event::Made(*pf, self.made(*count))),
            Effect::SettleVfs {
                pf,
                settings,
                again,
                ..
            } => {
                self.again.push(again.clone());
                Some(Event::Settled(*pf, self.settled(settings)))
            }
            Effect::Apply(action) => {
                // It may have gone meanwhile.
                let function = self.inventory.get_mut(action.address)?;
                let from = function.driver.replace(action.driver.clone());
                Some(Event::Applied(action.address, bound(action, from)))
            }
            _ => None,
        }
    }

    fn note(&mut self, effect: &Effect) {
        let done = match effect {
            Effect::Withhold { withhold: true, .. } => "withhold".to_owned(),
            Effect::Withhold { .. } => "let".to_owned(),
            Effect::MakeVfs { count, .. } => format!("make {count}"),
            Effect::SettleVfs { settings, .. } => format!("set {}", settings.len()),
            Effect::Apply(action) => format!("bind {}", action.address),
            _ => return,
        };
        self.done.push(done);
    }
}

impl Drive for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        self.effects += 1;
        assert!(self.effects < MOST_EFFECTS, "{effect:?}");
        self.note(&effect);
        match &effect {
            Effect::Scan | Effect::Observe(_) => seen(&self.inventory, &effect),
            Effect::Inspect { address, .. } => {
                let known = self.inventory.get(*address);
                let inspection = known.map(|_: &Function| Inspection::default());
                Some(Event::Inspected(*address, Ok(inspection)))
            }
            Effect::Withhold { .. }
            | Effect::MakeVfs { .. }
            | Effect::SettleVfs { .. }
            | Effect::Apply(_) => {
                let word = self.done.last().and_then(|done| done.split(' ').next());
                if word.is_some_and(|word| self.hang.contains(word)) {
                    self.hanging.push(effect);
                    return None;
                }
                self.carry_out(&effect)
            }
            Effect::FindUsers(_) => Some(Event::Users(Ok(BTreeMap::new()))),
            Effect::Granted { asker, result } => {
                self.granted.insert(*asker, result.clone());
                None
            }
            Effect::Unfinished(address, unfinished) => {
                self.kept.insert(*address, unfinished.clone());
                None
            }
            Effect::Finished(address) => {
                self.kept.remove(address);
                None
            }
            Effect::Report(report) => {
                self.reports.push(report.clone());
                None
            }
            _ => None,
        }
    }
}
