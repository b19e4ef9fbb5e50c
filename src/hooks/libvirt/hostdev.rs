//! `<hostdev>` elements for resolved functions.
//!
//! One element a function: libvirt describes PCI devices by their address only.
//! The daemon has bound them already, and `managed='no'` keeps them bound when
//! the guest ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, iter,
};

use super::alias::{Alias, AliasError};
use crate::pci::address::{Address, Slot};

/// A slot of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestSlot {
    bus: u8,
    slot: u8,
}

impl GuestSlot {
    /// The slot with these numbers, `None` if `slot` > 31 or both are 0, which
    /// libvirt reads as no address at all.
    #[must_use]
    pub fn new(bus: u8, slot: u8) -> Option<Self> {
        (slot < 32 && (bus, slot) != (0, 0)).then_some(Self { bus, slot })
    }

    /// This slot and those that follow it. Slot 0 is that of a PCI Express
    /// port, which has no other, so the next bus follows; conventional buses
    /// start at 1 and go on to 31.
    pub fn onwards(self) -> impl Iterator<Item = Self> {
        iter::successors(Some(self), |last| match last.slot {
            0 => Self::new(last.bus.checked_add(1)?, 0),
            slot => Self::new(last.bus, slot + 1),
        })
    }
}

/// Where a function is in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestAddress {
    slot: GuestSlot,
    function: u8,
}

/// One `<hostdev>` element; its text has no indentation and no line end behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostdev {
    /// The function of the host.
    pub host: Address,
    /// Where the guest sees it; libvirt chooses where there is none.
    pub guest: Option<GuestAddress>,
    /// By what it is known.
    pub alias: Option<Alias>,
}

impl fmt::Display for Hostdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hostdev mode='subsystem' type='pci' managed='no'>\n")?;
        f.write_str("  <driver name='vfio'/>\n  <source>\n    <address")?;
        for (name, value) in attributes(self.host) {
            write!(f, " {name}='{value}'")?;
        }
        f.write_str("/>\n  </source>\n")?;
        if let Some(alias) = &self.alias {
            writeln!(f, "  <alias name='{alias}'/>")?;
        }
        if let Some(GuestAddress { slot, function }) = self.guest {
            write!(
                f,
                "  <address type='pci' domain='0x0000' bus='0x{:02x}' slot='0x{:02x}' function='0x{function:x}'",
                slot.bus, slot.slot
            )?;
            // Only where function 0 says so does the guest look for others.
            f.write_str(if function == 0 {
                " multifunction='on'/>\n"
            } else {
                "/>\n"
            })?;
        }
        f.write_str("</hostdev>")
    }
}

/// The attributes of a source's `<address>`, spelled as libvirt does.
pub(super) fn attributes(host: Address) -> [(&'static str, String); 4] {
    [
        ("domain", format!("0x{:04x}", host.domain())),
        ("bus", format!("0x{:02x}", host.bus())),
        ("slot", format!("0x{:02x}", host.device())),
        ("function", format!("0x{:x}", host.function())),
    ]
}

/// An element for each of `addresses`, in their order. The functions of a host
/// slot of which there are several share the next one of the `free` guest slots,
/// numbered from 0 without gaps; where none is left, and for functions that are
/// alone, libvirt chooses. With no free slots it chooses all.
pub fn place(addresses: &[Address], free: impl IntoIterator<Item = GuestSlot>) -> Vec<Hostdev> {
    let mut slots: BTreeMap<Slot, BTreeSet<Address>> = BTreeMap::new();
    for address in addresses {
        slots.entry(address.slot()).or_default().insert(*address);
    }
    let several = slots.into_values().filter(|functions| functions.len() > 1);
    let guests: BTreeMap<Address, GuestAddress> = several
        .zip(free)
        .flat_map(|(functions, slot)| {
            let numbered = functions.into_iter().zip(0_u8..);
            numbered.map(move |(host, function)| (host, GuestAddress { slot, function }))
        })
        .collect();
    let element = |host: &Address| Hostdev {
        host: *host,
        guest: guests.get(host).copied(),
        alias: None,
    };
    addresses.iter().map(element).collect()
}

/// Gives the elements the aliases of `mapping`, counted from `first`.
///
/// # Errors
/// If no mapping can have that name, or a number is too large for an alias.
pub fn give_aliases(hostdevs: &mut [Hostdev], mapping: &str, first: u32) -> Result<(), AliasError> {
    for (hostdev, number) in hostdevs.iter_mut().zip(first..) {
        hostdev.alias = Some(Alias::new(mapping, number)?);
    }
    Ok(())
}

/// The elements as text, each line behind `indent` and with its end.
#[must_use]
pub fn render(hostdevs: &[Hostdev], indent: &str) -> String {
    let text = |one: &Hostdev| {
        let lines = one.to_string();
        let lines = lines.lines().map(|line| format!("{indent}{line}\n"));
        lines.collect::<String>()
    };
    hostdevs.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn guests(hostdevs: &[Hostdev]) -> Vec<String> {
        let one = |hostdev: &Hostdev| {
            hostdev.guest.map_or("-".to_owned(), |guest| {
                format!(
                    "{:02x}:{:02x}.{}",
                    guest.slot.bus, guest.slot.slot, guest.function
                )
            })
        };
        hostdevs.iter().map(one).collect()
    }

    #[test]
    fn an_element_is_what_libvirt_takes() {
        let plain = place(&addresses(&["10000:e1:1f.7"]), []);
        assert_eq!(
            render(&plain, ""),
            "<hostdev mode='subsystem' type='pci' managed='no'>\n  \
               <driver name='vfio'/>\n  \
               <source>\n    \
                 <address domain='0x10000' bus='0xe1' slot='0x1f' function='0x7'/>\n  \
               </source>\n\
             </hostdev>\n"
        );
        let mut both = place(
            &addresses(&["0000:41:00.0", "0000:41:00.1"]),
            GuestSlot::new(6, 0),
        );
        give_aliases(&mut both, "gpu", 4).unwrap();
        assert_eq!(
            render(&both, "    "),
            "    <hostdev mode='subsystem' type='pci' managed='no'>\n      \
                   <driver name='vfio'/>\n      \
                   <source>\n        \
                     <address domain='0x0000' bus='0x41' slot='0x00' function='0x0'/>\n      \
                   </source>\n      \
                   <alias name='ua-vfio-bindd-gpu-4'/>\n      \
                   <address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x0' multifunction='on'/>\n    \
                 </hostdev>\n    \
                 <hostdev mode='subsystem' type='pci' managed='no'>\n      \
                   <driver name='vfio'/>\n      \
                   <source>\n        \
                     <address domain='0x0000' bus='0x41' slot='0x00' function='0x1'/>\n      \
                   </source>\n      \
                   <alias name='ua-vfio-bindd-gpu-5'/>\n      \
                   <address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x1'/>\n    \
                 </hostdev>\n"
        );
        assert!(give_aliases(&mut both, "no name", 0).is_err());
        assert_eq!(render(&[], "  "), "");
    }

    #[test]
    fn functions_of_one_slot_share_a_guest_slot() {
        let host = addresses(&[
            "0000:41:00.3",
            "0000:3b:00.0",
            "0000:41:00.0",
            "0000:82:00.1",
            "0000:82:00.6",
            "0000:41:00.5",
        ]);
        let first = GuestSlot::new(6, 0).unwrap();
        let placed = place(&host, first.onwards());
        let expected = ["06:00.1", "-", "06:00.0", "07:00.0", "07:00.1", "06:00.2"];
        assert_eq!(guests(&placed), expected);
        let placed = place(&host, [first]);
        assert_eq!(
            guests(&placed),
            ["06:00.1", "-", "06:00.0", "-", "-", "06:00.2"]
        );
        assert_eq!(guests(&place(&host, [])), ["-"; 6]);
        assert!(placed.iter().map(|one| one.host).eq(host));
    }

    #[test]
    fn slots_follow_as_their_bus_has_them() {
        let from = |bus, slot| GuestSlot::new(bus, slot).unwrap().onwards();
        assert!(from(0xfe, 0).eq([
            GuestSlot { bus: 0xfe, slot: 0 },
            GuestSlot { bus: 0xff, slot: 0 }
        ]));
        assert!(from(1, 30).eq([
            GuestSlot { bus: 1, slot: 30 },
            GuestSlot { bus: 1, slot: 31 }
        ]));
        assert_eq!(GuestSlot::new(0, 0), None);
        assert_eq!(GuestSlot::new(0, 32), None);
    }
}
