//! The daemon's side: idle helpers, and new ones when none is idle.
//!
//! Never joins, kills or waits for a helper that is late: whoever called keeps
//! its future, or drops it and leaves the helper behind.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    process::{Child, Command},
    time::sleep,
};

use super::{
    process::Process,
    protocol::{Reply, Request},
};

/// How long an idle helper is kept for the next request.
const KEPT: Duration = Duration::from_secs(10);

/// Why a helper did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// It could not be started.
    #[error("helper cannot be started: {0}")]
    Start(#[source] io::Error),
    /// The connection to it broke.
    #[error("helper went away: {0}")]
    Broken(#[source] io::Error),
    /// It closed the connection without an answer.
    #[error("helper ended without an answer")]
    Ended,
    /// It answered something else.
    #[error("helper's answer cannot be read: {0}")]
    Garbled(#[source] serde_json::Error),
}

/// Helper processes, as many as there are requests under way.
#[derive(Clone, Debug)]
pub struct Pool {
    program: Arc<(PathBuf, Vec<OsString>)>,
    silent: bool,
    idle: Arc<Mutex<Vec<Helper>>>,
}

#[derive(Debug)]
struct Helper {
    socket: BufReader<UnixStream>,
    process: Process,
    /// Dropped without a wait: the runtime reaps it when it ends.
    _child: Child,
}

/// A helper that answers one caller. Dropped, it is left behind; it ends when
/// it comes back and finds nobody there.
#[derive(Debug)]
pub struct Lease {
    pool: Pool,
    helper: Helper,
}

impl Lease {
    /// The process that answers.
    #[must_use]
    pub const fn process(&self) -> Process {
        self.helper.process
    }

    /// Has the helper answer `request`, however long that takes.
    ///
    /// # Errors
    /// If it ended, or answered something else.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, PoolError> {
        let mut line = serde_json::to_vec(request).map_err(PoolError::Garbled)?;
        line.push(b'\n');
        let socket = &mut self.helper.socket;
        socket.write_all(&line).await.map_err(PoolError::Broken)?;
        let mut answer = String::new();
        let read = socket
            .read_line(&mut answer)
            .await
            .map_err(PoolError::Broken)?;
        if read == 0 {
            return Err(PoolError::Ended);
        }
        serde_json::from_str(&answer).map_err(PoolError::Garbled)
    }

    /// Lets the helper, which has answered all that it was asked, serve others.
    pub fn done(self) {
        self.pool.keep(self.helper);
    }
}

impl Pool {
    /// Helpers are `program` with `arguments`; their standard input is the
    /// socket that [`super::serve::serve`] takes.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            program: Arc::new((program, arguments)),
            silent: false,
            idle: Arc::default(),
        }
    }

    /// Helpers that do not keep our standard error: whoever reads that until
    /// its end would wait for one that hangs.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Has a helper answer `request`, however long that takes.
    ///
    /// # Errors
    /// If no helper could be started, or the one that was asked ended.
    pub async fn call(&self, request: &Request) -> Result<Reply, PoolError> {
        let mut lease = self.lease()?;
        let reply = lease.ask(request).await?;
        lease.done();
        Ok(reply)
    }

    /// A helper for one caller.
    ///
    /// # Errors
    /// If none is idle and no new one could be started.
    pub fn lease(&self) -> Result<Lease, PoolError> {
        let idle = self.idle().pop();
        let helper = match idle {
            Some(helper) => helper,
            None => self.start().map_err(PoolError::Start)?,
        };
        Ok(Lease {
            pool: self.clone(),
            helper,
        })
    }

    fn start(&self) -> io::Result<Helper> {
        let (program, arguments) = &*self.program;
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let stderr = if self.silent {
            Stdio::null()
        } else {
            Stdio::inherit()
        };
        let child = Command::new(program)
            .args(arguments)
            .stderr(stderr)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A Ctrl-C for the daemon must not break off a bind half-way.
            .process_group(0)
            .spawn()?;
        // Not reaped yet, it has one even if it has ended.
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        Ok(Helper {
            socket: BufReader::new(UnixStream::from_std(ours)?),
            process: Process::of(pid)?,
            _child: child,
        })
    }

    /// Keeps an idle helper for a while; closing its socket ends it.
    fn keep(&self, helper: Helper) {
        self.idle().push(helper);
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            sleep(KEPT).await;
            // The oldest is at the front; the newest is used first.
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if !idle.is_empty() {
                drop(idle.remove(0));
            }
        });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Helper>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
