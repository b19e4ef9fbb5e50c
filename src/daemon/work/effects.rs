//! Effects: how what the engine asks for is carried out.
//!
//! A part of [`Work`]; decides nothing, and waits for nothing.

use std::sync::Arc;

use super::{Work, finish};
use crate::{
    daemon::{journal, undo},
    engine::{
        event::{Effect, Event},
        snapshot::{DaemonState, Snapshot},
    },
    kernel::{
        helper::protocol::Request as Asked,
        inspect::Wanted,
        order::{Order, Return, Tune},
        scan::{scan_all, scan_function},
        sriov::{MakeVfs, Pf, SettleVfs},
    },
};

impl Work {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Scan => {
                self.rescans.begun();
                let sysfs = Arc::clone(&self.sysfs);
                self.beside(move || {
                    Event::Scanned(scan_all(&*sysfs).map_err(|error| error.to_string()))
                });
            }
            Effect::Observe(address) => {
                let sysfs = Arc::clone(&self.sysfs);
                let slot_name = self.state.slot_name(address);
                self.beside(move || {
                    let function = scan_function(&sysfs.near(address), address, slot_name);
                    Event::Observed(address, function.map(Box::new))
                });
            }
            Effect::Inspect {
                address,
                serial_known,
                variant,
                settings,
            } => {
                let wanted = Wanted {
                    serial: !serial_known,
                    variant,
                    settings,
                };
                let request = Asked::Inspect { address, wanted };
                self.helpers.send(address, request);
            }
            Effect::Apply(action) => {
                let request = Asked::Apply(Order::new(&action, self.undo.owned()));
                self.helpers.send(action.address, request);
            }
            Effect::KeepNodes(rules) => self.node_files.keep(&rules),
            Effect::Own(address, ownership) => {
                let request = Asked::Own { address, ownership };
                self.helpers.send(address, request);
            }
            Effect::Tune {
                address,
                id,
                knobs,
                mappings,
            } => {
                let order = Tune {
                    address,
                    id,
                    knobs,
                    mappings,
                    undo: self.undo.owned(),
                };
                self.helpers.send(address, Asked::Tune(order));
            }
            Effect::Restore { address, together } => {
                let undo = self.undo.owned().unwrap_or_default();
                let order = Return {
                    address,
                    together,
                    undo,
                };
                self.helpers.send(address, Asked::Restore(order));
            }
            Effect::Withhold { pf, withhold } => match self.undo.owned() {
                Some(undo) => {
                    let request = Asked::Withhold { pf, withhold, undo };
                    self.helpers.send(pf, request);
                }
                // It could not be given back.
                None => finish(&self.events, Event::Withholding(pf, Ok(false))),
            },
            Effect::MakeVfs {
                pf,
                id,
                count,
                autoprobe,
            } => {
                let order = MakeVfs {
                    pf: Pf { address: pf, id },
                    count,
                    autoprobe,
                };
                self.helpers.send(pf, Asked::MakeVfs(order));
            }
            Effect::SettleVfs {
                pf,
                id,
                settings,
                again,
            } => {
                let order = SettleVfs {
                    pf: Pf { address: pf, id },
                    settings,
                    again,
                };
                self.helpers.send(pf, Asked::SettleVfs(order));
            }
            Effect::Retake(address) => {
                let folder = self.undo.owned();
                self.beside(move || undo::retake(folder.as_deref(), address));
            }
            Effect::Unfinished(address, unfinished) => {
                self.helpers.keep(address, unfinished);
            }
            Effect::Finished(address) => self.helpers.over(address),
            Effect::Settled(address) => self.hotplug.settled(address),
            Effect::FindHolders(address) => self.helpers.find_holders(address),
            Effect::FindUsers(addresses) => {
                self.claims.bury();
                self.helpers.find_users(addresses);
            }
            Effect::KeepClaims(claims) => self.claims.keep(&claims),
            Effect::Watch(claim) => self.claims.watch(&claim),
            Effect::Granted { asker, result } => self.claims.granted(asker, result),
            Effect::Freed { asker, result } => self.claims.freed(asker, result),
            Effect::Answer { asker, result } => self.undo.answer(asker, result),
            Effect::Remember(memory) => {
                if let Some(memories) = &self.memories {
                    memories.send_replace(memory);
                }
            }
            Effect::Vouch(known) => self.verdicts.write(known),
            Effect::Publish(snapshot) => self.publish(snapshot),
            Effect::Report(report) => journal::report(&report),
        }
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(file) = &mut self.map_file
            && let Err(error) = file.write(&snapshot)
        {
            tracing::warn!("map.json cannot be written: {error}");
        }
        self.snapshots.send_replace(Arc::clone(&snapshot));
        let over = snapshot.state != DaemonState::Starting;
        self.hotplug.listen(over && !snapshot.mappings.is_empty());
        self.notifier.snapshot(&snapshot);
    }
}
