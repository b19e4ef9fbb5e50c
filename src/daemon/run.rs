//! The loop: every source becomes one event, every effect is carried out.
//!
//! Owns the sources and the clock. Decides nothing: `engine::state` does. Never
//! writes to sysfs, never waits for a helper, never reads what takes a lock.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{
    callers::Waiting,
    journal,
    map_file::MapFile,
    notify::{self, Notifier},
};
use crate::{
    bus::publish::{self, Request},
    engine::{
        event::{Effect, Event, Outcome},
        snapshot::Snapshot,
        state::State,
    },
    kernel::{
        apply::{self, Order},
        config_files,
        helper::{
            self,
            pool::{Pool, PoolError},
            protocol::Reply,
        },
        scan::{scan_all, scan_function},
        sysfs::HostSysfs,
        uevent::{Heard, Monitor},
    },
    pci::address::Address,
    policy::{config::parse, model::Policy, resolve::Held},
};

/// How often everything is looked at, whatever the kernel said: what was
/// missed heals, and what was in use may be idle by now.
const AUDIT: Duration = Duration::from_secs(60);

/// How long the daemon waits at its end for reads that are under way.
pub const GRACE: Duration = Duration::from_millis(200);

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The config file, `None` for the default one, which may be missing.
    pub config: Option<PathBuf>,
    /// What to use as `/sys`.
    pub sysfs_root: PathBuf,
    /// The bus to serve on, `None` for the system bus.
    pub bus_address: Option<String>,
    /// Plan and publish, but bind nothing.
    pub dry_run: bool,
}

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Without uevents it would miss what comes.
    #[error("cannot listen for the kernel's uevents: {0}")]
    Uevents(#[source] io::Error),
    /// Without signals it could be neither reloaded nor stopped.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// Without its own path it could start no helper.
    #[error("cannot find the path of this program: {0}")]
    Program(#[source] io::Error),
}

/// The loop's belongings.
struct Loop {
    options: Options,
    started: Instant,
    state: State,
    pool: Pool,
    sysfs: Arc<HostSysfs>,
    events: mpsc::UnboundedSender<Event>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    notifier: Notifier,
    map_file: Option<MapFile>,
    /// Whether the config is being read. One read at a time, or an older one
    /// could come in last.
    reading: bool,
    /// Whether it was asked for meanwhile.
    read_again: bool,
    rescans: Waiting,
    reloads: Waiting,
}

/// Runs until a signal says to end.
///
/// # Errors
/// If it could not start; once it runs, nothing ends it but a signal.
pub async fn run(options: Options) -> Result<(), StartError> {
    // Before the first scan, or what comes in between would be missed.
    let mut monitor = Monitor::open().map_err(StartError::Uevents)?;
    let signals = |kind| signal(kind).map_err(StartError::Signals);
    let mut hangup = signals(SignalKind::hangup())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let (events, mut finished) = mpsc::unbounded_channel();
    let (request_sender, mut requests) = mpsc::channel(16);
    let (snapshots, followed) = watch::channel(Arc::new(Snapshot::starting()));
    let mut this = Loop::new(options, events, snapshots)?;
    tokio::spawn(publish::run(
        this.options.bus_address.clone(),
        followed,
        request_sender,
    ));
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    audit.reset();
    let mut watchdog = notify::watchdog().map(interval);
    this.read_config();
    loop {
        let tick = this.state.next_tick(this.now()).map(|at| this.started + at);
        let event = tokio::select! {
            heard = monitor.next() => Some(match heard.map_err(StartError::Uevents)? {
                Heard::Changed(address) => Event::Changed(address),
                Heard::Removed(address) => Event::Removed(address),
                Heard::Overrun => Event::Overrun,
            }),
            Some(event) = finished.recv() => Some(event),
            Some(request) = requests.recv() => this.request(request),
            _ = hangup.recv() => {
                this.read_config();
                None
            }
            () = at(tick) => Some(Event::Tick),
            _ = audit.tick() => Some(Event::Audit),
            () = beat(watchdog.as_mut()) => {
                notify::alive();
                None
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        if let Some(event) = event {
            this.handle(event);
        }
    }
    notify::stopping();
    Ok(())
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

async fn beat(watchdog: Option<&mut tokio::time::Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

impl Loop {
    fn new(
        options: Options,
        events: mpsc::UnboundedSender<Event>,
        snapshots: watch::Sender<Arc<Snapshot>>,
    ) -> Result<Self, StartError> {
        let program = std::env::current_exe().map_err(StartError::Program)?;
        let arguments: [OsString; 3] = [
            "--helper".into(),
            "--sysfs-root".into(),
            options.sysfs_root.clone().into(),
        ];
        // systemd.exec(5), RuntimeDirectory=. Started by hand there is none.
        let directory = std::env::var_os("RUNTIME_DIRECTORY");
        let map_file = directory.map(|directory| MapFile::new(Path::new(&directory)));
        let held = map_file
            .as_ref()
            .map_or_else(|| Ok(Held::new()), MapFile::held);
        let held = held.unwrap_or_else(|error| {
            tracing::warn!("what mappings held before cannot be read: {error}");
            Held::new()
        });
        Ok(Self {
            started: Instant::now(),
            state: State::new(held, options.dry_run),
            pool: Pool::new(program, arguments.into()),
            sysfs: Arc::new(HostSysfs::new(&options.sysfs_root)),
            options,
            events,
            snapshots,
            notifier: Notifier::default(),
            map_file,
            reading: false,
            read_again: false,
            rescans: Waiting::default(),
            reloads: Waiting::default(),
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn request(&mut self, request: Request) -> Option<Event> {
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
        }
    }

    /// Reads the config beside the loop: a disk may be slow.
    fn read_config(&mut self) {
        if self.reading {
            self.read_again = true;
            return;
        }
        self.reading = true;
        self.reloads.begun();
        self.notifier.reloading();
        let file = self.options.config.clone();
        self.beside(move || Event::Config(config(file.as_deref())));
    }

    /// Has `work` done on another thread; its event comes back to the loop.
    fn beside(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || finish(&events, work()));
    }

    fn handle(&mut self, event: Event) {
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

    fn carry_out(&mut self, effect: Effect) {
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
                self.beside(move || {
                    let function = scan_function(&*sysfs, address);
                    Event::Observed(address, function.map(Box::new))
                });
            }
            Effect::Inspect {
                address,
                serial_known,
            } => {
                let request = helper::protocol::Request::Inspect {
                    address,
                    serial_known,
                };
                self.ask_helper(address, request);
            }
            Effect::Apply(action) => {
                let request = helper::protocol::Request::Apply(Order::from(&action));
                self.ask_helper(action.address, request);
            }
            Effect::Publish(snapshot) => self.publish(snapshot),
            Effect::Report(report) => journal::report(&report),
        }
    }

    /// Never waited for: a helper that is late answers late, or never.
    fn ask_helper(&self, address: Address, request: helper::protocol::Request) {
        let pool = self.pool.clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let reply = pool.call(&request).await;
            finish(&events, helped(address, &request, reply));
        });
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(file) = &self.map_file
            && let Err(error) = file.write(&snapshot)
        {
            tracing::warn!("map.json cannot be written: {error}");
        }
        self.snapshots.send_replace(Arc::clone(&snapshot));
        self.notifier.snapshot(&snapshot);
    }
}

/// What a helper's answer means to the engine.
fn helped(
    address: Address,
    request: &helper::protocol::Request,
    reply: Result<Reply, PoolError>,
) -> Event {
    match (request, reply) {
        (_, Ok(Reply::Inspected(inspection))) => Event::Inspected(address, Ok(inspection)),
        (_, Ok(Reply::Applied(outcome))) => Event::Applied(address, ended(outcome)),
        (helper::protocol::Request::Inspect { .. }, Err(error)) => {
            Event::Inspected(address, Err(format!("cannot be inspected: {error}")))
        }
        (helper::protocol::Request::Apply(_), Err(error)) => {
            let step = "asking a helper".to_owned();
            let text = error.to_string();
            Event::Applied(address, Outcome::Failed { step, text })
        }
    }
}

fn ended(outcome: apply::Outcome) -> Outcome {
    match outcome {
        apply::Outcome::Bound { from } => Outcome::Bound(from),
        apply::Outcome::AlreadyBound => Outcome::AlreadyBound,
        apply::Outcome::Gone => Outcome::Gone,
        apply::Outcome::Refused { text } => Outcome::Refused(text),
        apply::Outcome::Failed { step, text } => Outcome::Failed {
            step: step.as_str().to_owned(),
            text,
        },
    }
}

/// Reads and validates the config; what is not honoured yet is told.
fn config(file: Option<&Path>) -> Result<Policy, String> {
    let sources = config_files::read(file).map_err(|error| error.to_string())?;
    let config = parse(&sources).map_err(|errors| errors.to_string())?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    Ok(config.policy)
}

/// Brings an event back to the loop; at the daemon's end there is none.
fn finish(events: &mpsc::UnboundedSender<Event>, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("the daemon ended first");
    }
}
