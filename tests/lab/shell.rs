//! A root shell in the guest over its second serial port.
//!
//! The port has no notion of a command's end, so each command is framed by
//! marks with a number that is used once. The marks are put together by the
//! guest (`printf '%s-%s'`), so that a command echoed back is never taken for
//! its answer.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

/// How often it is looked meanwhile whether the guest lives.
const CHECK: Duration = Duration::from_secs(5);

/// What a command in the guest said and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Standard output without the newlines at its end.
    pub(crate) stdout: String,
    /// Standard error without the newlines at its end.
    pub(crate) stderr: String,
    /// The exit status.
    pub(crate) status: i32,
}

impl Output {
    /// Everything in one text, for a message.
    pub(crate) fn words(&self) -> String {
        format!("status {}\n{}\n{}", self.status, self.stdout, self.stderr)
    }
}

/// The driver's end of the serial port.
pub(crate) struct Shell {
    stream: UnixStream,
    heard: Vec<u8>,
    count: u32,
}

impl Shell {
    /// Connects to QEMU's socket; the guest need not be up yet.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .map_err(|error| format!("the guest's shell port: {error}"))?;
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(|error| format!("the guest's shell port: {error}"))?;
        Ok(Self {
            stream,
            heard: Vec::new(),
            count: 0,
        })
    }

    /// Waits for a shell that answers. `alive` may end the wait early.
    pub(crate) fn wait_ready(
        &mut self,
        limit: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        for turn in 1.. {
            alive()?;
            self.count += 1;
            let number = self.count;
            // The port may have lost a part of what was sent while the guest
            // booted. No quote is used that could stay open, and now and then
            // the shell is made to start anew, whatever it has heard so far.
            if turn % 10 == 0 {
                self.send("\x03")?;
                sleep(Duration::from_millis(500));
            }
            self.send(&format!("\nprintf %s-%s\\\\n LAB-READY {number}\n"))?;
            if self
                .hear(
                    &format!("LAB-READY-{number}\n"),
                    Duration::from_secs(2),
                    || Ok(()),
                )?
                .is_some()
            {
                return Ok(());
            }
            if Instant::now() >= end {
                break;
            }
            sleep(Duration::from_millis(200));
        }
        Err(format!(
            "no shell in the guest within {} s",
            limit.as_secs()
        ))
    }

    /// Runs a command in a subshell without input and waits for its end. `alive`
    /// may end the wait early.
    pub(crate) fn run(
        &mut self,
        command: &str,
        limit: Duration,
        alive: impl FnMut() -> Result<()>,
    ) -> Result<Output> {
        self.count += 1;
        let number = self.count;
        let quoted = command.replace('\'', "'\\''");
        self.heard.clear();
        self.send(&format!(
            "printf '%s-%s\\n' LAB-BEGIN {number}; \
             ( eval '{quoted}' ) </dev/null 2>/run/lab-stderr; lab_status=$?; \
             printf '\\n%s-%s %d\\n' LAB-OUT {number} $lab_status; \
             cat /run/lab-stderr; printf '\\n%s-%s\\n' LAB-END {number}\n"
        ))?;
        let end = format!("\nLAB-END-{number}\n");
        let Some(all) = self.hear(&end, limit, alive)? else {
            let so_far = String::from_utf8_lossy(&self.heard).into_owned();
            self.interrupt()?;
            return Err(format!(
                "no end after {} s: {command}\nso far:\n{so_far}",
                limit.as_secs()
            ));
        };
        parse(&all, number).ok_or_else(|| format!("garbled answer to: {command}\n{all}"))
    }

    /// Stops what runs, so that the next command has a shell to talk to.
    fn interrupt(&mut self) -> Result<()> {
        self.send("\x03")?;
        sleep(Duration::from_millis(500));
        self.wait_ready(Duration::from_secs(20), || Ok(()))
    }

    fn send(&mut self, text: &str) -> Result<()> {
        self.stream
            .write_all(text.as_bytes())
            .map_err(|error| format!("the guest's shell port is closed: {error}"))
    }

    /// Collects until `mark` was heard; `None` when time is up.
    fn hear(
        &mut self,
        mark: &str,
        limit: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Option<String>> {
        let end = Instant::now() + limit;
        let mut checked = Instant::now();
        let mut chunk = [0_u8; 4096];
        loop {
            if let Some(at) = find(&self.heard, mark.as_bytes()) {
                let rest = self.heard.split_off(at + mark.len());
                let text = std::mem::replace(&mut self.heard, rest);
                return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            if checked.elapsed() > CHECK {
                alive()?;
                checked = Instant::now();
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the guest is gone (its shell port closed)".to_owned()),
                Ok(count) => self.heard.extend(chunk.iter().take(count)),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the guest's shell port: {error}")),
            }
        }
    }
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

fn parse(all: &str, number: u32) -> Option<Output> {
    let (_, rest) = all.split_once(&format!("LAB-BEGIN-{number}\n"))?;
    let (stdout, rest) = rest.rsplit_once(&format!("\nLAB-OUT-{number} "))?;
    let (status, rest) = rest.split_once('\n')?;
    let (stderr, _) = rest.rsplit_once(&format!("\nLAB-END-{number}\n"))?;
    Some(Output {
        stdout: stdout.trim_end_matches('\n').to_owned(),
        stderr: stderr.trim_end_matches('\n').to_owned(),
        status: status.trim().parse().ok()?,
    })
}
