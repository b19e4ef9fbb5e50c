//! The loop: every source becomes one event.
//!
//! Owns the sources and their order; `daemon::work` does what follows.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{notify, runtime_file, socket::listen, work::Work};
use crate::{
    bus::{
        publish,
        request::Request,
        varlink::{self, message::INTERFACE},
    },
    engine::{event::Event, snapshot::Snapshot},
    kernel::uevent::{Heard, Monitor},
};

/// How often everything is looked at, whatever the kernel said: what was
/// missed heals, and what was in use may be idle by now.
const AUDIT: Duration = Duration::from_secs(60);

/// How long the daemon waits at its end for reads that are under way.
pub const GRACE: Duration = Duration::from_millis(200);

/// How long a thread that reads beside the loop stays without work. Each that stays
/// keeps freed memory for itself, up to a quarter of a megabyte (glibc's thread cache).
pub const SPARE_THREAD: Duration = Duration::from_secs(1);

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
    /// Without a thread for it nobody could ask.
    #[error("cannot start the thread that serves D-Bus: {0}")]
    Bus(#[source] io::Error),
    /// Without its own path it could start no helper.
    #[error("cannot find the path of this program: {0}")]
    Program(#[source] io::Error),
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
    let bus_address = options.bus_address.clone();
    let (snapshots, followed) = watch::channel(Arc::new(Snapshot::starting()));
    let (arrival_sender, mut arrivals) = mpsc::channel(16);
    let mut this = Work::new(options, events, snapshots, arrival_sender)?;
    serve(bus_address, followed, request_sender).map_err(StartError::Bus)?;
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    audit.reset();
    let mut watchdog = notify::watchdog().map(interval);
    this.take_over();
    this.read_journal();
    this.read_config();
    loop {
        let tick = this.next_tick();
        let event = tokio::select! {
            heard = monitor.next() => Some(match heard.map_err(StartError::Uevents)? {
                Heard::Changed(address) => Event::Changed(address),
                Heard::Interface(address) => Event::Interface(address),
                Heard::Removed(address) => Event::Removed(address),
                Heard::Overrun => Event::Overrun,
            }),
            Some(event) = finished.recv() => Some(event),
            Some(request) = requests.recv() => this.request(request),
            Some(arrival) = arrivals.recv() => Some(this.arrived(arrival)),
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

/// Serves D-Bus and the socket on a thread of its own: who asks waits for no plan, and
/// no bind waits until all are told of the one before. It ends with the process.
fn serve(
    address: Option<String>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<Request>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bus = thread::Builder::new().name("bus".to_owned());
    let serve = async move {
        match hooks_socket() {
            Ok(Some(listener)) => {
                let serve = varlink::serve(listener, snapshots.clone(), requests.clone());
                tokio::spawn(serve);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("hooks cannot ask: {INTERFACE}: {error}"),
        }
        publish::run(address, snapshots, requests).await;
    };
    bus.spawn(move || runtime.block_on(serve)).map(drop)
}

/// Where hooks ask, without a bus: a socket in the runtime directory, if there is one.
fn hooks_socket() -> io::Result<Option<UnixListener>> {
    let Some(directory) = runtime_file::directory() else {
        return Ok(None);
    };
    // For everyone: what may be asked is decided by who asks.
    let listener = listen(&directory.join(INTERFACE), 0o666)?;
    UnixListener::from_std(listener).map(Some)
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
