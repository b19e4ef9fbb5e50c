//! The daemon as hooks ask it: over its own socket, without a bus and without a
//! runtime.
//!
//! Nothing here waits longer than it may, whatever the daemon does.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    exit::{Exit, Stop},
    wire,
};
use crate::bus::varlink::message::{Call, END, INTERFACE, Reason, Reply};

/// Where the socket is below the root.
pub(super) const SOCKET: &str = "run/vfio-bindd/org.vfiobindd1";

/// A connection to the daemon.
#[derive(Debug)]
pub(super) struct Varlink {
    stream: BufReader<UnixStream>,
}

impl Varlink {
    /// Connects to the daemon of the host at `root`; each read and write may take
    /// `patience`.
    ///
    /// # Errors
    /// If nobody is there, or too many wait already.
    pub(super) fn connect(root: &Path, patience: Duration) -> io::Result<Self> {
        let address = SocketAddrUnix::new(root.join(SOCKET))?;
        // A daemon that accepts nobody must not keep us waiting (unix(7): EAGAIN).
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        let this = Self {
            stream: BufReader::new(stream),
        };
        this.patient(patience)?;
        Ok(this)
    }

    /// What each read and write may take from now on.
    ///
    /// # Errors
    /// As the kernel says.
    pub(super) fn patient(&self, patience: Duration) -> io::Result<()> {
        let stream = self.stream.get_ref();
        // It has to be more than nothing.
        let patience = Some(patience.max(Duration::from_millis(1)));
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)
    }

    /// Calls a method.
    ///
    /// # Errors
    /// With what the daemon says, or that it does not answer.
    pub(super) fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, Stop> {
        let reply = self.exchange(method, json!(parameters));
        let reply = reply.map_err(|error| silent(&error))?;
        let parameters = Value::Object(reply.parameters);
        let Some(name) = reply.error else {
            return serde_json::from_value(parameters).map_err(|error| in_other_terms(&error));
        };
        let own = name.strip_prefix(INTERFACE);
        let own = own.and_then(|rest| rest.strip_prefix('.'));
        let reason: Result<Reason, _> = serde_json::from_value(parameters);
        Err(Stop {
            from_daemon: own.is_some(),
            ..Stop::new(
                own.map_or(Exit::Failure, wire::exit),
                reason.map_or(name.clone(), |reason| reason.reason),
            )
        })
    }

    fn exchange(&mut self, method: &str, parameters: Value) -> io::Result<Reply> {
        let mut text = serde_json::to_vec(&Call {
            method: format!("{INTERFACE}.{method}"),
            parameters,
            oneway: false,
        })?;
        text.push(END);
        self.stream.get_mut().write_all(&text)?;
        text.clear();
        self.stream.read_until(END, &mut text)?;
        if text.pop() != Some(END) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The daemon says nothing.
pub(super) fn silent(error: &io::Error) -> Stop {
    use io::ErrorKind::{ConnectionRefused, NotFound, TimedOut, WouldBlock};
    match error.kind() {
        NotFound | ConnectionRefused => Stop::failure(wire::NOT_RUNNING),
        TimedOut | WouldBlock => Stop::failure("vfio-bindd does not answer"),
        _ => Stop::failure(format!("vfio-bindd does not answer: {error}")),
    }
}

fn in_other_terms(error: &serde_json::Error) -> Stop {
    Stop::failure(format!("vfio-bindd answers in other terms: {error}"))
}
