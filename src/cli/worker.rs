//! A worker: this program again, as the process that may hang in the kernel.
//!
//! Owns the limit of its time, and that whoever started it comes back in any
//! case. What it does is the caller's.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How often it is looked whether the worker has ended that says no more.
const BREAK: Duration = Duration::from_millis(5);

/// What went wrong with a worker.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    /// There is none.
    #[error("the worker cannot be started: {0}")]
    Start(io::Error),
    /// It hangs, or takes too long.
    #[error("the worker has not come back after {} s and is left behind", .0.as_secs())]
    Late(Duration),
    /// It did not end well.
    #[error("the worker {0}")]
    Ended(String),
}

/// Starts a worker with these arguments, hands on the lines that it tells, and
/// comes back when it has ended or is late.
pub(super) fn work(
    arguments: &[OsString],
    limit: Duration,
    tell: impl FnMut(&str),
) -> Result<(), WorkerError> {
    let deadline = Instant::now() + limit;
    let (mut worker, lines) = start(arguments).map_err(WorkerError::Start)?;
    follow(&mut worker, &lines, deadline, tell)?.ok_or(WorkerError::Late(limit))
}

fn start(arguments: &[OsString]) -> io::Result<(Child, Receiver<String>)> {
    let mut worker = Command::new(std::env::current_exe()?)
        .args(arguments)
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

/// `None` if it is late.
fn follow(
    worker: &mut Child,
    lines: &Receiver<String>,
    deadline: Instant,
    mut tell: impl FnMut(&str),
) -> Result<Option<()>, WorkerError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => tell(&line),
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let ended = |text: String| Err(WorkerError::Ended(text));
    loop {
        match worker.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(Some(())),
            Ok(Some(status)) => return ended(format!("ended with {status}")),
            Ok(None) if Instant::now() >= deadline => return Ok(None),
            Ok(None) => thread::sleep(BREAK),
            Err(error) => return ended(format!("cannot be waited for: {error}")),
        }
    }
}
