//! The work: hands events to the engine; `effects` carries out what comes of them.
//!
//! Owns who waits for what. Decides nothing: `engine::state` does. Never writes
//! to sysfs, never waits for a helper, never reads what takes a lock.

mod effects;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    callers::Waiting,
    claims::Claims,
    coldplug, config,
    helpers::{self, Helpers},
    hotplug::{Arrival, Hotplug},
    last_map,
    map_file::MapFile,
    nodes::NodeFiles,
    notify::Notifier,
    run::{Options, StartError},
    runtime_file, survey,
    undo::{self, Undo},
    verdicts::Verdicts,
};
use crate::{
    bus::request::Request,
    engine::{event::Event, snapshot::Snapshot, state::State},
    kernel::sysfs::HostSysfs,
    policy::{drift::Memory, resolve::Held},
};

/// All that the loop works with.
pub(super) struct Work {
    options: Options,
    started: Instant,
    state: State,
    helpers: Helpers,
    sysfs: Arc<HostSysfs>,
    events: mpsc::UnboundedSender<Event>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    notifier: Notifier,
    map_file: Option<MapFile>,
    node_files: NodeFiles,
    /// Where what is kept for the next boot goes.
    memories: Option<watch::Sender<Memory>>,
    verdicts: Verdicts,
    /// Whether the config is being read. One read at a time, or an older one
    /// could come in last.
    reading: bool,
    /// Whether it was asked for meanwhile.
    read_again: bool,
    rescans: Waiting,
    reloads: Waiting,
    undo: Undo,
    claims: Claims,
    hotplug: Hotplug,
}

impl Work {
    pub(super) fn new(
        options: Options,
        events: mpsc::UnboundedSender<Event>,
        snapshots: watch::Sender<Arc<Snapshot>>,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Result<Self, StartError> {
        let directory = runtime_file::directory();
        let directory = directory.as_deref();
        let map_file = directory.map(MapFile::new);
        let held = map_file
            .as_ref()
            .map_or_else(|| Ok(Held::new()), MapFile::held);
        let held = held.unwrap_or_else(|error| {
            tracing::warn!("what mappings held before cannot be read: {error}");
            Held::new()
        });
        let undo = Undo::new(options.dry_run);
        let verdicts = Verdicts::new(options.dry_run);
        let mut state = State::new(held, options.dry_run);
        if undo.folder().is_some() {
            state = state.awaiting_journal();
        }
        // Another tree than the host's has nothing to do with its udev.
        let of_host = options.sysfs_root == Path::new("/sys");
        if of_host {
            state = state.awaiting_udev();
            coldplug::watch(events.clone());
        }
        let memories = last_map::start(&events);
        let pool = helpers::pool(&options.sysfs_root, directory).map_err(StartError::Program)?;
        survey::tell(&pool);
        Ok(Self {
            started: Instant::now(),
            state,
            helpers: Helpers::new(pool, directory, events.clone()),
            claims: Claims::new(directory, events.clone()),
            sysfs: Arc::new(HostSysfs::new(&options.sysfs_root)),
            options,
            events,
            snapshots,
            notifier: Notifier::default(),
            map_file,
            node_files: NodeFiles::new(directory.filter(|_| of_host)),
            memories,
            verdicts,
            reading: false,
            read_again: false,
            rescans: Waiting::default(),
            reloads: Waiting::default(),
            undo,
            hotplug: Hotplug::new(directory, arrivals),
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// When the engine wants to hear that time has passed.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let at = self.state.next_tick(self.now())?;
        Some(self.started + at)
    }

    pub(super) fn request(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::Reload(waiting) => {
                self.reloads.add(waiting);
                self.read_config();
                None
            }
            Request::Rescan(waiting) => {
                self.rescans.add(waiting);
                Some(Event::Rescan)
            }
            Request::RescanTake(waiting) => {
                self.rescans.add(waiting);
                Some(Event::RescanTake)
            }
            Request::Restore(target, waiting) => self.undo.ask(target, waiting),
            Request::Claim(wish, claimer) => self.claims.claim(*wish, claimer),
            Request::Release {
                owner,
                uid,
                releaser,
            } => Some(self.claims.release(owner, uid, releaser)),
            Request::CallersLeft { bus, names } => Some(Event::CallersLeft { bus, names }),
        }
    }

    /// udev waits for a function that was plugged in.
    pub(super) fn arrived(&mut self, arrival: Arrival) -> Event {
        let address = arrival.0;
        self.hotplug.add(arrival);
        Event::Arrived(address)
    }

    /// Leaves alone what helpers of an earlier daemon are still at, and what was
    /// claimed of it.
    pub(super) fn take_over(&mut self) {
        let unfinished = self.helpers.take_over();
        self.handle(Event::Unfinished(unfinished));
        let claims = self.claims.recall();
        self.handle(Event::Claimed(claims));
    }

    /// Reads the undo journal, if there is one, beside the loop. Until it is read
    /// nothing is taken, so what must be on the disk before that comes first.
    pub(super) fn read_journal(&self) {
        if let Some(folder) = self.undo.folder() {
            let (folder, sysfs) = (folder.to_owned(), Arc::clone(&self.sysfs));
            let tidy = !self.options.dry_run;
            let (begin, events) = (self.verdicts.beginning(), self.events.clone());
            self.beside(move || {
                finish(&events, Event::Vouched(begin()));
                finish(&events, undo::withheld(&folder, tidy));
                undo::read(&folder, &*sysfs, tidy)
            });
        }
    }

    /// Reads the config beside the loop: a disk may be slow.
    pub(super) fn read_config(&mut self) {
        if self.reading {
            self.read_again = true;
            return;
        }
        self.reading = true;
        self.reloads.begun();
        self.notifier.reloading();
        let file = self.options.config.clone();
        self.beside(move || Event::Config(config::read(file.as_deref())));
    }

    /// Has `work` done on another thread; its event comes back to the loop.
    fn beside(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || finish(&events, work()));
    }

    pub(super) fn handle(&mut self, event: Event) {
        // Before its effects begin another scan.
        let rescanned = match &event {
            Event::Scanned(result) => {
                let result = result.as_ref().map(|_| ()).map_err(Clone::clone);
                Some((self.rescans.done(), result))
            }
            _ => None,
        };
        let config = match &event {
            Event::Config(config) => Some(config.as_ref().map(|_| ()).map_err(Clone::clone)),
            _ => None,
        };
        for effect in self.state.handle(event, self.now()) {
            self.carry_out(effect);
        }
        if let Some((callers, result)) = rescanned {
            callers.answer(&result);
        }
        if let Some(result) = config {
            self.reloads.done().answer(&result);
            self.notifier.reloaded();
            self.reading = false;
            if std::mem::take(&mut self.read_again) {
                self.read_config();
            }
        }
    }
}

/// Brings an event back to the loop; at the daemon's end there is none.
pub(super) fn finish(events: &mpsc::UnboundedSender<Event>, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("the daemon ended first");
    }
}
