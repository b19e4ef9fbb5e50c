//! Uevents of PCI functions, straight from the kernel.
//!
//! The kernel's netlink group, not udev's: udev sends its own only after the
//! native driver's modprobe ran. The only file that names the udev crate.
//! Source: lib/kobject_uevent.c (v6.12); udev 0.9.3 monitor.rs, which turns
//! every failed receive into `None`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use tokio::io::{Interest, unix::AsyncFd};
use udev::{EventType, MonitorBuilder, MonitorSocket};

use crate::pci::address::Address;

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A function came, or something about it changed.
    Changed(Address),
    /// A network interface of a function came or went, or got its name.
    Interface(Address),
    /// A function went.
    Removed(Address),
    /// Events were lost: everything must be looked at.
    Overrun,
}

/// The kernel's uevents of the pci subsystem, and of network interfaces: udev gives
/// one its name after its function's driver came, and only that event tells.
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
            .match_subsystem("net")?
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
            let heard = heard(event.syspath(), event.event_type());
            if heard.is_some() {
                return heard;
            }
        }
    }
}

/// What an event at this place in sysfs says, `None` if that is nothing of a PCI
/// function.
fn heard(place: &Path, kind: EventType) -> Option<Heard> {
    let address = |place: &Path| place.file_name()?.to_str()?.parse().ok();
    if let Some(address) = address(place) {
        return Some(match kind {
            EventType::Remove => Heard::Removed(address),
            _ => Heard::Changed(address),
        });
    }
    // .../0000:3b:00.0/net/enp59s0f0
    let above = place.parent().filter(|above| above.ends_with("net"))?;
    address(above.parent()?).map(Heard::Interface)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_speaks_for_the_function_that_it_is_of() {
        let pf: Address = "0000:3b:00.0".parse().unwrap();
        let at = "/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0";
        for (place, kind, wanted) in [
            ("", EventType::Add, Some(Heard::Changed(pf))),
            ("", EventType::Remove, Some(Heard::Removed(pf))),
            ("/net/eth0", EventType::Add, Some(Heard::Interface(pf))),
            ("/net/eth0", EventType::Remove, Some(Heard::Interface(pf))),
            ("/virtio0/net/eth0", EventType::Add, None),
            ("/net", EventType::Add, None),
        ] {
            let place = format!("{at}{place}");
            assert_eq!(heard(Path::new(&place), kind), wanted, "{place}");
        }
        for place in ["/sys/devices/virtual/net/tap0", "/", ""] {
            assert_eq!(heard(Path::new(place), EventType::Add), None);
        }
    }
}
