//! `early`: takes functions at boot before their drivers come, without D-Bus.
//!
//! Owns the limit of its time. The work is a process of its own, this program
//! again: one that hangs in the kernel is left behind. Never fails a boot.

use std::{
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{commands::tell, local};
use crate::kernel::{
    early::{self, Task, state_directory},
    host::ThisHost,
    modules::Modprobe,
    sysfs::HostSysfs,
    usage::{Look, Tables},
};

/// How long it takes at most, whatever hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// How often it is looked whether the worker has ended that says no more.
const BREAK: Duration = Duration::from_millis(5);

/// Where systemd.exec(5) puts the daemon's `StateDirectory=`. The early unit has
/// none, which would make it wait for the file system that it is on.
const STATE: &str = "/var/lib/vfio-bindd";

/// What `early` is called with.
struct Call<'a> {
    config: Option<&'a Path>,
    root: &'a Path,
    dry_run: bool,
}

/// Takes what may be taken early: as the `worker`, or by having one do it.
pub(super) fn run(config: Option<&Path>, root: &Path, dry_run: bool, worker: bool) {
    let call = Call {
        config,
        root,
        dry_run,
    };
    if worker {
        work(&call);
    } else {
        watch(&call);
    }
}

/// Has a worker do it, and comes back when that has ended or is late. What went
/// wrong is told, and is no failure.
fn watch(call: &Call<'_>) {
    let deadline = Instant::now() + LIMIT;
    match start(call) {
        Ok((mut worker, lines)) => {
            if let Some(text) = follow(&mut worker, &lines, deadline) {
                tell(&format!("{text}; vfio-bindd.service does the rest"));
            }
        }
        Err(error) => tell(&format!(
            "nothing is taken early: the worker cannot be started: {error}"
        )),
    }
}

fn start(call: &Call<'_>) -> io::Result<(Child, Receiver<String>)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--sysfs-root").arg(call.root);
    if let Some(config) = call.config {
        command.arg("--config").arg(config);
    }
    command.args(["early", "--worker"]);
    if call.dry_run {
        command.arg("--dry-run");
    }
    let mut worker = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Not ours: whoever reads that until its end would wait for one that hangs.
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let (sender, lines) = mpsc::channel();
    if let Some(stderr) = worker.stderr.take() {
        thread::spawn(move || pass_on(stderr, &sender));
    }
    Ok((worker, lines))
}

fn pass_on(stderr: ChildStderr, sender: &mpsc::Sender<String>) {
    let lines = BufReader::new(stderr).lines();
    for line in lines.map_while(Result::ok) {
        if sender.send(line).is_err() {
            return;
        }
    }
}

/// Tells what the worker tells; says what is wrong with its end.
fn follow(worker: &mut Child, lines: &Receiver<String>, deadline: Instant) -> Option<String> {
    let late = || {
        let limit = LIMIT.as_secs();
        Some(format!(
            "the worker has not come back after {limit} s and is left behind"
        ))
    };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            // As the worker words it: with the name before it, or none for the
            // diagnostics of a file.
            Ok(line) => eprint(&line),
            Err(RecvTimeoutError::Timeout) => return late(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    loop {
        match worker.try_wait() {
            Ok(Some(status)) if status.success() => return None,
            Ok(Some(status)) => return Some(format!("the worker ended with {status}")),
            Ok(None) if Instant::now() >= deadline => return late(),
            Ok(None) => thread::sleep(BREAK),
            Err(error) => return Some(format!("the worker cannot be waited for: {error}")),
        }
    }
}

fn eprint(line: &str) {
    use io::Write as _;
    // Without a stderr there is nobody to tell.
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

/// Does it, in this process.
fn work(call: &Call<'_>) {
    let sysfs = HostSysfs::new(call.root);
    let tables = Tables::default();
    let look = Look {
        sysfs: &sysfs,
        host: &ThisHost,
        tables: &tables,
    };
    // Whoever runs it by hand can have another place.
    let state = std::env::var_os("STATE_DIRECTORY").unwrap_or_else(|| STATE.into());
    let task = Task {
        state: state_directory(Path::new(&state)),
        dry_run: call.dry_run,
    };
    let config = || local::policy(call.config).map_err(|stop| stop.text);
    let done = early::run(look, &Modprobe, task, config, &mut |line| tell(&line));
    if let Err(text) = done {
        tell(&text);
        tell("nothing is taken early");
    }
}
