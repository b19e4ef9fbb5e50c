//! QEMU's control socket (QMP), as far as hotplug needs it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::topology::Port;

/// How long QEMU may take to answer a command.
const ANSWER: Duration = Duration::from_secs(30);

/// A session with QEMU's monitor.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).map_err(|error| format!("QEMU's monitor: {error}"))?;
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(|error| format!("QEMU's monitor: {error}"))?;
        let reader = BufReader::new(stream);
        let mut qmp = Self {
            reader,
            line: Vec::new(),
            events: VecDeque::new(),
        };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Plugs a device of the given kind into an empty port.
    pub(crate) fn device_add(&mut self, driver: &str, port: Port, id: &str) -> Result<()> {
        let arguments = json!({ "driver": driver, "bus": port.id, "id": id });
        self.execute("device_add", &arguments).map(drop)
    }

    /// Adds a NIC as one of a card's functions. The guest is told of the card when
    /// it gets its function 0, which so has to come last.
    pub(crate) fn nic_add(&mut self, port: Port, function: u8, id: &str) -> Result<()> {
        let arguments = json!({
            "driver": "e1000e",
            "bus": port.id,
            "id": id,
            "addr": format!("0.{function}"),
            "multifunction": true,
            // As code for the firmware, it would need more memory than the rest.
            "romfile": "",
        });
        self.execute("device_add", &arguments).map(drop)
    }

    /// Asks the guest to let a device go; it goes when the guest has agreed.
    pub(crate) fn device_del(&mut self, id: &str) -> Result<()> {
        self.execute("device_del", &json!({ "id": id })).map(drop)
    }

    /// Waits until a device that was asked to go is gone.
    pub(crate) fn wait_deleted(&mut self, id: &str, limit: Duration) -> Result<()> {
        self.wait_event("DEVICE_DELETED", limit, |data| {
            data.get("device").and_then(Value::as_str) == Some(id)
        })
        .map(drop)
    }

    /// Waits until one of the devices that were asked to go is gone; its name.
    pub(crate) fn wait_any_deleted(&mut self, ids: &[String], limit: Duration) -> Result<String> {
        let named = |data: &Value| {
            let id = data.get("device").and_then(Value::as_str)?;
            ids.iter().find(|one| *one == id).cloned()
        };
        let data = self.wait_event("DEVICE_DELETED", limit, |data| named(data).is_some())?;
        named(&data).ok_or_else(|| "a device without a name is gone".to_owned())
    }

    /// Runs a command and returns its answer.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.reader
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .map_err(|error| format!("QEMU's monitor: {error}"))?;
        let end = Instant::now() + ANSWER;
        while let Some(message) = self.message(end)? {
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            if let Some(error) = message.get("error") {
                return Err(format!("QEMU refused {request}: {error}"));
            }
            if message.get("event").is_some() {
                self.events.push_back(message);
            }
        }
        Err(format!("QEMU did not answer {request}"))
    }

    /// Waits for an event whose data is the wanted one; others are dropped.
    pub(crate) fn wait_event(
        &mut self,
        name: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.message(end)?.ok_or_else(|| {
                    format!("QEMU told of no {name} within {} s", limit.as_secs())
                })?,
            };
            let data = event.get("data").cloned().unwrap_or_default();
            if event.get("event").and_then(Value::as_str) == Some(name) && wanted(&data) {
                return Ok(data);
            }
        }
    }

    /// The next message of any kind; `None` when time is up.
    fn message(&mut self, end: Instant) -> Result<Option<Value>> {
        loop {
            // A timeout in the middle of a line leaves its beginning in place.
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return Err("QEMU closed its monitor".to_owned()),
                Ok(_) => {
                    let line = std::mem::take(&mut self.line);
                    return serde_json::from_slice(&line)
                        .map(Some)
                        .map_err(|error| format!("QEMU's monitor speaks no JSON: {error}"));
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= end {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(format!("QEMU's monitor: {error}")),
            }
        }
    }
}
