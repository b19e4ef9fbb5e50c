//! Proxmox VE's reservations: which functions a virtual machine is about to
//! use, or uses. Read only.
//!
//! Source: qemu-server 9.2, src/PVE/QemuServer/PCI.pm,
//! `parse_pci_reservation_unlocked`.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{host::Host, usage::words};
use crate::pci::address::Address;

const FILE: &str = "/run/qemu-server/pci-id-reservations";

/// Who has one of `addresses` reserved now, as a clause about that function,
/// or that it cannot be told; `None` if nobody has.
pub(super) fn reserved(host: &dyn Host, addresses: &[Address]) -> Option<(Address, String)> {
    reservation(host, addresses).map(|(address, _, text)| (address, text))
}

/// The same, with the number of the virtual machine that has it.
pub(super) fn reservation(
    host: &dyn Host,
    addresses: &[Address],
) -> Option<(Address, Option<u64>, String)> {
    let first = *addresses.first()?;
    let text = match host.read(FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let text = format!("may be reserved by Proxmox VE: {FILE}: {}", words(&error));
            return Some((first, None, text));
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let is_running = |pid: u64| host.read(&format!("/proc/{pid}/comm")).is_ok();
    let mut found = text.lines().filter_map(Reservation::parse);
    let reservation = found.find(|one| {
        addresses.contains(&one.address)
            && match one.until {
                Until::Time(end) => end > now,
                Until::Ended(pid) => is_running(pid),
            }
    })?;
    let vm = reservation.vm;
    let text = match reservation.until {
        Until::Time(_) => format!("is reserved by Proxmox VE for the start of VM {vm}"),
        Until::Ended(pid) => format!("is reserved by Proxmox VE for VM {vm} (pid {pid})"),
    };
    Some((reservation.address, Some(vm), text))
}

#[derive(Debug, PartialEq, Eq)]
struct Reservation {
    address: Address,
    vm: u64,
    until: Until,
}

#[derive(Debug, PartialEq, Eq)]
enum Until {
    /// Seconds since 1970.
    Time(u64),
    /// This process ended.
    Ended(u64),
}

impl Reservation {
    /// `0000:02:00.0 100 pid:4711`; Proxmox itself ignores any other line.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (address, vm, until) = (words.next()?, words.next()?, words.next()?);
        let (kind, number) = until.split_once(':')?;
        let number = number.parse().ok()?;
        let until = match kind {
            "time" => Until::Time(number),
            "pid" => Until::Ended(number),
            _ => return None,
        };
        let reservation = Self {
            address: address.parse().ok()?,
            vm: vm.parse().ok()?,
            until,
        };
        words.next().is_none().then_some(reservation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_kind_are_ignored() {
        let address: Address = "0000:02:00.0".parse().unwrap();
        for (line, until) in [
            (
                "0000:02:00.0 100 time:1795220613",
                Until::Time(1_795_220_613),
            ),
            ("0000:02:00.0 100 pid:4711", Until::Ended(4711)),
        ] {
            let wanted = Reservation {
                address,
                vm: 100,
                until,
            };
            assert_eq!(Reservation::parse(line), Some(wanted), "{line}");
        }
        for line in [
            "",
            "# 0000:02:00.0",
            "0000:02:00.0 100",
            "0000:02:00.0 100 since:4711",
            "0000:02:00.0 100 pid:",
            "0000:02:00.0 vm pid:4711",
            "0000:02:00.0 100 pid:4711 more",
            "gpu 100 pid:4711",
        ] {
            assert_eq!(Reservation::parse(line), None, "{line}");
        }
    }
}
