//! A person's terminal connected to the guest's first serial port.

use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::Result;

/// Ctrl-], as in telnet and virsh: the key that leaves.
const LEAVE: u8 = 0x1d;

/// Puts the terminal back as it was.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        tcsetattr(stdin(), OptionalActions::Now, &self.0).ok();
    }
}

/// Hands the terminal to the guest until the guest or the person leaves.
pub(crate) fn hand_over(socket: &Path) -> Result<()> {
    let words = |error: std::io::Error| format!("the guest's console: {error}");
    if !isatty(stdin()) {
        println!("(no terminal here, so there is no shell to leave open)");
        return Ok(());
    }
    let mut stream = UnixStream::connect(socket).map_err(words)?;
    let mut typed = stream.try_clone().map_err(words)?;
    println!("\nYou are on the guest's console. Ctrl-] leaves and ends the guest.\n");

    let before = tcgetattr(stdin()).map_err(|error| format!("the terminal: {error}"))?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(stdin(), OptionalActions::Now, &raw)
        .map_err(|error| format!("the terminal: {error}"))?;
    let _restore = Restore(before);

    // The thread stays in its read when the guest ends first; the process ends anyway.
    thread::spawn(move || {
        let mut chunk = [0_u8; 256];
        while let Ok(count @ 1..) = stdin().read(&mut chunk) {
            let keys = chunk.get(..count).unwrap_or_default();
            if keys.contains(&LEAVE) || typed.write_all(keys).is_err() {
                break;
            }
        }
        typed.shutdown(std::net::Shutdown::Both)
    });
    // A first return brings the login's prompt up.
    stream.write_all(b"\r").map_err(words)?;
    let mut chunk = [0_u8; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let text = chunk.get(..count).unwrap_or_default();
                stdout()
                    .write_all(text)
                    .and_then(|()| stdout().flush())
                    .map_err(words)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(words(error)),
        }
    }
}
