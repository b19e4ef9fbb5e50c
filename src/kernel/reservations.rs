//! Proxmox VE's reservations: which functions a virtual machine is about to
//! use, or uses. Read only.
//!
//! Source: qemu-server 9.2, src/PVE/QemuServer/PCI.pm,
//! `parse_pci_reservation_unlocked`.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{host::Host, usage::words};
use crate::pci::address::Address;

const FILE: &str = "/run/qemu-server/pci-id-reservations";

/// A reservation that holds.
#[derive(Debug)]
pub(super) struct Reserved {
    /// The function.
    pub(super) address: Address,
    /// A clause about it: who has it, or that nobody can tell.
    pub(super) text: String,
    /// The virtual machine, where that can be told.
    pub(super) vm: Option<u64>,
    /// Whether the virtual machine runs, and is not only about to.
    pub(super) runs: bool,
}

/// Who has one of `addresses` reserved now, `None` if nobody has.
pub(super) fn reserved(host: &dyn Host, addresses: &[Address]) -> Option<Reserved> {
    let first = *addresses.first()?;
    let found = match valid(&|path| host.read(path)) {
        Ok(all) => all.into_iter().find(|one| addresses.contains(&one.address)),
        Err(error) => {
            return Some(Reserved {
                address: first,
                text: format!("may be reserved by Proxmox VE: {FILE}: {}", words(&error)),
                vm: None,
                runs: false,
            });
        }
    };
    let Reservation { address, vm, until } = found?;
    let text = match until {
        Until::Time(_) => format!("is reserved by Proxmox VE for the start of VM {vm}"),
        Until::Ended(pid) => format!("is reserved by Proxmox VE for VM {vm} (pid {pid})"),
    };
    Some(Reserved {
        address,
        text,
        vm: Some(vm),
        runs: matches!(until, Until::Ended(_)),
    })
}

/// What Proxmox VE has reserved for a virtual machine that runs on the host at `root`.
///
/// # Errors
/// If that cannot be read; a host without Proxmox VE has no reservations.
pub fn of_running(root: &Path, vm: u64) -> io::Result<Vec<Address>> {
    let read = |path: &str| fs::read(root.join(path.trim_start_matches('/')));
    let all = valid(&read)?.into_iter();
    let own = all.filter(|one| one.vm == vm && matches!(one.until, Until::Ended(_)));
    Ok(own.map(|one| one.address).collect())
}

/// All that hold now.
fn valid(read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> io::Result<Vec<Reservation>> {
    let text = match read(FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let is_running = |pid: u64| read(&format!("/proc/{pid}/comm")).is_ok();
    let all = text.lines().filter_map(Reservation::parse);
    Ok(all
        .filter(|one| match one.until {
            Until::Time(end) => end > now,
            Until::Ended(pid) => is_running(pid),
        })
        .collect())
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
