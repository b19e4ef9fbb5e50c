//! The daemon's side: idle helpers, and new ones when none is idle.
//!
//! Never joins, kills or waits for a helper that is late: whoever called keeps
//! its future, or drops it and leaves the helper behind.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, time::sleep};

use super::{
    origin::{Helper, Origin, line},
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
    /// Nobody listens there, or only for others.
    #[error("helper cannot be reached at {}: {error}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
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
    origin: Origin,
    idle: Arc<Mutex<Vec<Helper>>>,
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
        let mut question = serde_json::to_vec(request).map_err(PoolError::Garbled)?;
        question.push(b'\n');
        let socket = &mut self.helper.socket;
        let asked = socket.write_all(&question).await;
        asked.map_err(PoolError::Broken)?;
        self.next().await
    }

    /// What the helper says next, where an answer is of more than one part.
    ///
    /// # Errors
    /// As [`Lease::ask`].
    pub async fn next(&mut self) -> Result<Reply, PoolError> {
        let answer = line(&mut self.helper.socket).await?;
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
    pub fn of_program(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self::of(Origin::Program {
            path: program,
            arguments,
            silent: false,
        })
    }

    /// As [`Pool::of_program`], of helpers that do not keep our standard error:
    /// whoever reads that until its end would wait for one that hangs.
    #[must_use]
    pub fn of_silent_program(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self::of(Origin::Program {
            path: program,
            arguments,
            silent: true,
        })
    }

    /// Each connection to the socket at `path` is taken by a helper of its own
    /// (systemd.socket(5), `Accept=yes`).
    #[must_use]
    pub fn of_socket(path: PathBuf) -> Self {
        Self::of(Origin::Socket(path))
    }

    fn of(origin: Origin) -> Self {
        Self {
            origin,
            idle: Arc::default(),
        }
    }

    /// Has a helper answer `request`, however long that takes.
    ///
    /// # Errors
    /// If there is no helper to be had, or the one that was asked ended.
    pub async fn call(&self, request: &Request) -> Result<Reply, PoolError> {
        let mut lease = self.lease().await?;
        let reply = lease.ask(request).await?;
        lease.done();
        Ok(reply)
    }

    /// A helper for one caller, however long it takes until there is one.
    ///
    /// # Errors
    /// If none is idle and there is no new one to be had.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        let idle = self.idle().pop();
        let helper = match idle {
            Some(helper) => helper,
            None => self.origin.helper().await?,
        };
        Ok(Lease {
            pool: self.clone(),
            helper,
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
