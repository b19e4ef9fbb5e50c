//! Uevents of PCI functions, straight from the kernel.
//!
//! The kernel's netlink group, not udev's: udev sends its own only after the
//! native driver's modprobe ran. The only file that names the udev crate.
//! Source: lib/kobject_uevent.c (v6.12); udev 0.9.3 monitor.rs, which turns
//! every failed receive into `None`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};
use udev::{EventType, MonitorBuilder, MonitorSocket};

use crate::pci::address::Address;

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A function came, or something about it changed.
    Changed(Address),
    /// A function went.
    Removed(Address),
    /// Events were lost: everything must be looked at.
    Overrun,
}

/// The kernel's uevents of the pci subsystem.
///
/// Not `Send`, as libudev is not: it lives in the daemon's main task.
pub struct Monitor {
    socket: MonitorSocket,
    /// A duplicate of the socket's descriptor, to wait on.
    readable: AsyncFd<OwnedFd>,
}

impl Monitor {
    /// Listens from now on. libudev asks for a receive buffer of 128 MiB, enough
    /// for tens of thousands of events; it takes CAP_NET_ADMIN to get more than
    /// `net.core.rmem_max` of it, which is enough for some hundred.
    ///
    /// # Errors
    /// If the netlink socket cannot be opened or watched.
    pub fn open() -> io::Result<Self> {
        let socket = MonitorBuilder::new_kernel()?
            .match_subsystem("pci")?
            .listen()?;
        let readable = watch(&socket)?;
        Ok(Self { socket, readable })
    }

    /// The next thing heard. Cancel-safe: nothing is taken before it returns.
    ///
    /// # Errors
    /// If the socket cannot be waited on any more.
    pub async fn next(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(heard) = self.take() {
                return Ok(heard);
            }
            let mut ready = self.readable.readable().await?;
            // Only an empty queue brings a new edge; look once more after
            // clearing, what came in between brings one too.
            ready.clear_ready();
            drop(ready);
        }
    }

    /// What is queued already; `None` once the queue is empty.
    fn take(&mut self) -> Option<Heard> {
        loop {
            let Some(event) = self.socket.iter().next() else {
                // errno is all that libudev leaves of the reason, and must be
                // read before anything else is called.
                let error = io::Error::last_os_error();
                let lost = error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error());
                return lost.then_some(Heard::Overrun);
            };
            let name = event.sysname().to_str().unwrap_or_default();
            let Ok(address) = name.parse() else {
                continue;
            };
            return Some(match event.event_type() {
                EventType::Remove => Heard::Removed(address),
                _ => Heard::Changed(address),
            });
        }
    }
}

#[expect(
    unsafe_code,
    reason = "registering a descriptor is unsafe; nobody else has this one"
)]
fn watch(socket: &MonitorSocket) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = socket.as_fd().try_clone_to_owned()?;
    // SAFETY: the duplicate is owned by the `AsyncFd` from here on, always
    // names itself by the same number, and is closed only with it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
