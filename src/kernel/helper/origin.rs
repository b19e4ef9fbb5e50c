//! Where helpers come from: started by us, or by whoever listens for it.
//!
//! A helper says first who it is. Of one that systemd started for a connection
//! nobody else could: the socket was made by systemd, and so its other end is
//! PID 1 by SO_PEERCRED (unix(7)).

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixStream,
    process::{Child, Command},
};

use super::{pool::PoolError, process::Process};

/// How a helper comes to be.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// As a process of ours.
    Program {
        path: PathBuf,
        arguments: Vec<OsString>,
        /// Whether it does without our standard error.
        silent: bool,
    },
    /// One for each connection to this socket.
    Socket(PathBuf),
}

/// A helper, and the connection that ends it.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) socket: BufReader<UnixStream>,
    pub(super) process: Process,
    /// Dropped without a wait: the runtime reaps it when it ends.
    _child: Option<Child>,
}

impl Origin {
    /// A new helper, once it says who it is.
    pub(super) async fn helper(&self) -> Result<Helper, PoolError> {
        let (socket, child) = match self {
            Self::Program {
                path,
                arguments,
                silent,
            } => start(path, arguments, *silent).map_err(PoolError::Start)?,
            Self::Socket(path) => {
                let connected = UnixStream::connect(path).await;
                let connected = connected.map_err(|error| PoolError::Connect {
                    path: path.clone(),
                    error,
                })?;
                (connected, None)
            }
        };
        let mut socket = BufReader::new(socket);
        let name = line(&mut socket).await?;
        Ok(Helper {
            process: serde_json::from_str(&name).map_err(PoolError::Garbled)?,
            socket,
            _child: child,
        })
    }
}

/// The next line that a helper says.
pub(super) async fn line(socket: &mut BufReader<UnixStream>) -> Result<String, PoolError> {
    let mut line = String::new();
    match socket.read_line(&mut line).await {
        Ok(0) => Err(PoolError::Ended),
        Ok(_) => Ok(line),
        Err(error) => Err(PoolError::Broken(error)),
    }
}

fn start(
    program: &Path,
    arguments: &[OsString],
    silent: bool,
) -> io::Result<(UnixStream, Option<Child>)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let stderr = if silent {
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
    Ok((UnixStream::from_std(ours)?, Some(child)))
}
