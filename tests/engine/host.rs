//! A host that answers the engine's effects.

use std::collections::{BTreeMap, BTreeSet};

use vfio_bindd::{
    engine::{
        claims::{Claim, Unclaimed, User},
        event::{Effect, Event, Outcome, Owned, Tuned, Unfinished},
        nodes::Rules,
        report::Report,
        snapshot::{MappingState, Snapshot},
        state::State,
    },
    pci::{
        address::Address,
        function::{Function, Inspection},
        inventory::Inventory,
        settings::Settings,
    },
    policy::{knobs::Knobs, model::Policy, ownership::Ownership, resolve::Held},
};

use crate::{
    drive::{Drive, Engine},
    support::bound,
};

/// Where its functions are.
pub(crate) const A: &str = "0000:01:00.0";
pub(crate) const B: &str = "0000:02:00.0";

/// A host that answers effects as a healthy kernel would; what is in `hang`
/// is never answered until it is taken out.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) inventory: Inventory,
    pub(crate) inspections: BTreeMap<Address, Inspection>,
    pub(crate) hang: BTreeSet<Address>,
    /// Whose writes only hang.
    pub(crate) hang_writes: BTreeSet<Address>,
    pub(crate) fail: BTreeSet<Address>,
    pub(crate) hanging: Vec<Effect>,
    pub(crate) reports: Vec<Report>,
    pub(crate) applied: Vec<Address>,
    pub(crate) scan: Result<(), String>,
    /// What the next daemon is told.
    pub(crate) kept: BTreeMap<Address, Unfinished>,
    /// Of which functions it was asked who holds them.
    pub(crate) asked: Vec<Address>,
    /// Of which functions it was asked for the variant driver, or not.
    pub(crate) variants: Vec<(Address, bool)>,
    /// Which functions udev need not wait for any more.
    pub(crate) settled: Vec<Address>,
    /// Who uses which function, or why that cannot be said.
    pub(crate) users: Result<BTreeMap<Address, User>, String>,
    /// Looks at who uses functions that are not answered yet, if they wait.
    pub(crate) looks: Option<Vec<Vec<Address>>>,
    /// What askers were told.
    pub(crate) granted: BTreeMap<u64, Result<Vec<Address>, Unclaimed>>,
    /// The same of those who released.
    pub(crate) freed: BTreeMap<u64, Result<(), Unclaimed>>,
    /// The claims that the next daemon is told.
    pub(crate) claims: Vec<Claim>,
    /// Whose ends are watched.
    pub(crate) watched: Vec<Claim>,
    /// What udev was left last.
    pub(crate) rules: Rules,
    /// Whose the nodes of functions are.
    pub(crate) nodes: BTreeMap<Address, Ownership>,
    /// Functions whose nodes cannot be had as they are to be, and why.
    pub(crate) strangers: BTreeMap<Address, String>,
    /// Functions whose nodes nobody answers for.
    pub(crate) hang_nodes: BTreeSet<Address>,
    /// What the settings of functions are, of those that were ever changed.
    pub(crate) settings: BTreeMap<Address, Settings>,
    /// Functions whose devices do not offer what is wanted, and why.
    pub(crate) unoffered: BTreeMap<Address, String>,
    /// Functions whose settings cannot be set, and why.
    pub(crate) rigid: BTreeMap<Address, String>,
    /// Functions whose settings nobody answers for.
    pub(crate) hang_knobs: BTreeSet<Address>,
    /// What was done, in its order, as far as it has to do with nodes and settings.
    pub(crate) order: Vec<String>,
}

impl Host {
    pub(crate) fn new(functions: impl IntoIterator<Item = Function>) -> Self {
        let mut inspections = BTreeMap::new();
        let inventory = functions
            .into_iter()
            .map(|mut function| {
                let inspection = function.inspection.take().unwrap_or_default();
                inspections.insert(function.address, inspection);
                function
            })
            .collect();
        Self {
            engine: Engine::new(State::new(Held::new(), false)),
            inventory,
            inspections,
            hang: BTreeSet::new(),
            hang_writes: BTreeSet::new(),
            fail: BTreeSet::new(),
            hanging: Vec::new(),
            reports: Vec::new(),
            applied: Vec::new(),
            scan: Ok(()),
            kept: BTreeMap::new(),
            asked: Vec::new(),
            variants: Vec::new(),
            settled: Vec::new(),
            users: Ok(BTreeMap::new()),
            looks: None,
            granted: BTreeMap::new(),
            freed: BTreeMap::new(),
            claims: Vec::new(),
            watched: Vec::new(),
            rules: Rules::default(),
            nodes: BTreeMap::new(),
            strangers: BTreeMap::new(),
            hang_nodes: BTreeSet::new(),
            settings: BTreeMap::new(),
            unoffered: BTreeMap::new(),
            rigid: BTreeMap::new(),
            hang_knobs: BTreeSet::new(),
            order: Vec::new(),
        }
    }

    pub(crate) fn start(&mut self, policy: &Policy) {
        self.event(Event::Config(Ok(policy.clone())));
    }

    fn tune(&mut self, address: Address, knobs: &Knobs) -> Tuned {
        if let Some(text) = self.unoffered.get(&address) {
            return Tuned::Refused(text.clone());
        }
        if let Some(text) = self.rigid.get(&address) {
            return Tuned::Failed(text.clone());
        }
        let wanted = knobs.settings();
        let before = self.settings.insert(address, wanted.clone());
        let same = before.unwrap_or_default() == wanted;
        Tuned::Set {
            changed: if same {
                Settings::default()
            } else {
                wanted.clone()
            },
            found: wanted,
        }
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.engine.state.snapshot()
    }

    pub(crate) fn mapping(&self) -> (MappingState, String) {
        let mapping = self.snapshot().mappings.get("m").unwrap();
        let addresses: Vec<_> = mapping.addresses.iter().map(Address::to_string).collect();
        (mapping.state, addresses.join(" "))
    }
}

impl Drive for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        match &effect {
            Effect::Inspect { address, .. } if self.hang.contains(address) => {
                self.hanging.push(effect);
                None
            }
            Effect::Apply(action)
                if self.hang.contains(&action.address)
                    || self.hang_writes.contains(&action.address) =>
            {
                self.hanging.push(effect);
                None
            }
            Effect::Scan => Some(Event::Scanned(
                self.scan.clone().map(|()| self.inventory.clone()),
            )),
            Effect::Observe(address) => {
                let function = self.inventory.get(*address).cloned();
                Some(Event::Observed(*address, function.map(Box::new)))
            }
            Effect::Inspect {
                address, variant, ..
            } => {
                self.variants.push((*address, *variant));
                let inspection = self.inspections.get(address).cloned();
                Some(Event::Inspected(*address, Ok(inspection)))
            }
            Effect::Apply(action) => {
                self.applied.push(action.address);
                self.order.push(format!("bind {}", action.address));
                let outcome = if self.fail.contains(&action.address) {
                    Outcome::Failed {
                        step: "bind".to_owned(),
                        text: "invalid argument".to_owned(),
                        touched: true,
                    }
                } else {
                    let function = self.inventory.get_mut(action.address).unwrap();
                    bound(action, function.driver.replace(action.driver.clone()))
                };
                Some(Event::Applied(action.address, outcome))
            }
            Effect::Unfinished(address, unfinished) => {
                self.kept.insert(*address, unfinished.clone());
                None
            }
            Effect::Finished(address) => {
                self.kept.remove(address);
                None
            }
            Effect::FindHolders(address) => {
                self.asked.push(*address);
                None
            }
            Effect::Settled(address) => {
                self.settled.push(*address);
                None
            }
            Effect::FindUsers(addresses) => {
                if let Some(looks) = &mut self.looks {
                    looks.push(addresses.clone());
                    return None;
                }
                Some(Event::Users(self.users.clone()))
            }
            Effect::KeepClaims(claims) => {
                self.claims.clone_from(claims);
                None
            }
            Effect::Watch(claim) => {
                self.watched.push(claim.clone());
                None
            }
            Effect::Granted { asker, result } => {
                self.granted.insert(*asker, result.clone());
                None
            }
            Effect::Freed { asker, result } => {
                self.freed.insert(*asker, result.clone());
                None
            }
            Effect::KeepNodes(rules) => {
                self.rules.clone_from(rules);
                self.order.push("rules".to_owned());
                None
            }
            Effect::Own(address, ownership) => {
                self.order.push(format!("own {address}"));
                if self.hang_nodes.contains(address) {
                    self.hanging.push(effect);
                    return None;
                }
                let owned = match self.strangers.get(address) {
                    Some(text) => Owned::Failed(text.clone()),
                    None if self.nodes.get(address) == Some(ownership) => Owned::Set(Vec::new()),
                    None => {
                        self.nodes.insert(*address, ownership.clone());
                        Owned::Set(vec!["/dev/vfio/1".to_owned()])
                    }
                };
                Some(Event::Owned(*address, owned))
            }
            Effect::Tune { address, knobs, .. } => {
                self.order.push(format!("tune {address} {knobs}"));
                if self.hang_knobs.contains(address) {
                    self.hanging.push(effect);
                    return None;
                }
                Some(Event::Tuned(*address, self.tune(*address, knobs)))
            }
            // Restores are in tests/restore.rs, what is kept in drift.rs and early/.
            Effect::Publish(_)
            | Effect::Remember(_)
            | Effect::Vouch(_)
            | Effect::Withhold { .. }
            | Effect::MakeVfs { .. }
            | Effect::SettleVfs { .. }
            | Effect::Restore { .. }
            | Effect::Retake(_)
            | Effect::Answer { .. } => None,
            Effect::Report(report) => {
                self.reports.push(report.clone());
                None
            }
        }
    }
}
