//! Resolved functions in the words of those who start VMs.
//!
//! Pure. The options for microvm.nix's `extraArgsScript` are split at spaces
//! and not quoted, so there is one line and no space inside an option.
//! Source: QEMU vfio-pci, Cloud Hypervisor `--device`, crosvm `--vfio`,
//! libvirt formatdomain, Proxmox `qm` (hostpciN).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::args::Format;
use crate::{
    hooks::libvirt::hostdev::{self, GuestSlot},
    pci::address::{Address, Slot},
};

/// What is known of a resolved function beside where it is.
pub(super) type Facts = BTreeMap<Address, Value>;

/// The first bus of a domain that devices of several functions are put on. Only the
/// domain knows which it has free: this is above those that libvirt and virt-install
/// fill, and libvirt adds the PCI Express root ports up to it.
const GUEST_BUS: u8 = 0x10;

/// What `format` makes of `addresses` of the mapping `name`; `whole` are the slots of which nothing
/// is missing. Ends with a line end unless there is nothing.
pub(super) fn render(
    format: Format,
    name: &str,
    addresses: &[Address],
    whole: &BTreeSet<Slot>,
    facts: &Facts,
) -> String {
    let each = |one: fn(&Address) -> String| addresses.iter().map(one).collect::<Vec<_>>();
    match format {
        Format::Address => lines(&each(Address::to_string)),
        Format::Slot => lines(
            &slots(addresses)
                .map(|(slot, _)| slot.to_string())
                .collect::<Vec<_>>(),
        ),
        Format::Qemu => lines(&[qemu(addresses)]),
        Format::CloudHypervisor => {
            let paths = each(|one| format!("path=/sys/bus/pci/devices/{one}"));
            lines(&[format!("--device {}", paths.join(" "))])
        }
        Format::Crosvm => {
            let options = each(|one| format!("--vfio /sys/bus/pci/devices/{one},iommu=viommu"));
            lines(&[options.join(" ")])
        }
        Format::Libvirt => libvirt(name, addresses),
        Format::Proxmox => lines(&[proxmox(addresses, whole)]),
        Format::Json => {
            let bare = |address| json!({ "address": address });
            let fact = |address| facts.get(address).cloned();
            let all = addresses
                .iter()
                .map(|address| fact(address).unwrap_or_else(|| bare(address)));
            lines(&[format!("{:#}", Value::from_iter(all))])
        }
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The slots in the order of their addresses, with what was resolved of each.
fn slots(addresses: &[Address]) -> impl Iterator<Item = (Slot, Vec<Address>)> {
    let mut slots: BTreeMap<Slot, Vec<Address>> = BTreeMap::new();
    for address in addresses {
        slots.entry(address.slot()).or_default().push(*address);
    }
    slots.into_iter()
}

fn qemu(addresses: &[Address]) -> String {
    let option = |address: &Address| format!("-device vfio-pci,host={address}");
    addresses.iter().map(option).collect::<Vec<_>>().join(" ")
}

/// With aliases, by which the hook and `libvirt update` know what the elements are of.
fn libvirt(name: &str, addresses: &[Address]) -> String {
    let free = GuestSlot::new(GUEST_BUS, 0).into_iter();
    let mut hostdevs = hostdev::place(addresses, free.flat_map(GuestSlot::onwards));
    // The daemon has a mapping of that name: it makes an alias.
    hostdev::give_aliases(&mut hostdevs, name, 0).unwrap_or_default();
    hostdev::render(&hostdevs, "")
}

/// Whole slots without a function, which qemu-server makes one multifunction
/// device of; several parts are one device too.
fn proxmox(addresses: &[Address], whole: &BTreeSet<Slot>) -> String {
    let parts: Vec<_> = slots(addresses)
        .flat_map(|(slot, functions)| {
            if whole.contains(&slot) {
                vec![slot.to_string()]
            } else {
                functions.iter().map(Address::to_string).collect()
            }
        })
        .collect();
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(format: Format, whole: &[Slot]) -> String {
        let addresses =
            ["0000:3b:00.0", "0000:3b:00.1", "0000:41:00.0"].map(|one| one.parse().unwrap());
        let whole = whole.iter().copied().collect();
        render(format, "gpu", &addresses, &whole, &Facts::new())
    }

    #[test]
    fn each_format_is_what_its_reader_takes() {
        let slot = "0000:3b:00.0".parse::<Address>().unwrap().slot();
        assert_eq!(
            show(Format::Address, &[]),
            "0000:3b:00.0\n0000:3b:00.1\n0000:41:00.0\n"
        );
        assert_eq!(show(Format::Slot, &[]), "0000:3b:00\n0000:41:00\n");
        assert_eq!(
            show(Format::Qemu, &[]),
            "-device vfio-pci,host=0000:3b:00.0 -device vfio-pci,host=0000:3b:00.1 -device vfio-pci,host=0000:41:00.0\n"
        );
        assert_eq!(
            show(Format::CloudHypervisor, &[]),
            "--device path=/sys/bus/pci/devices/0000:3b:00.0 path=/sys/bus/pci/devices/0000:3b:00.1 path=/sys/bus/pci/devices/0000:41:00.0\n"
        );
        assert!(
            show(Format::Crosvm, &[])
                .starts_with("--vfio /sys/bus/pci/devices/0000:3b:00.0,iommu=viommu --vfio ")
        );
        assert_eq!(show(Format::Proxmox, &[slot]), "0000:3b:00;0000:41:00.0\n");
        assert_eq!(
            show(Format::Proxmox, &[]),
            "0000:3b:00.0;0000:3b:00.1;0000:41:00.0\n"
        );
        let libvirt = show(Format::Libvirt, &[]);
        assert_eq!(libvirt.matches("<hostdev ").count(), 3);
        // Two functions of one device, and one that libvirt finds a place for.
        for part in [
            "bus='0x10' slot='0x00' function='0x0' multifunction='on'/>",
            "bus='0x10' slot='0x00' function='0x1'/>",
            "  <alias name='ua-vfio-bindd-gpu-2'/>\n</hostdev>\n",
        ] {
            assert_eq!(libvirt.matches(part).count(), 1, "{part} in {libvirt}");
        }
        assert!(
            libvirt.contains("<address domain='0x0000' bus='0x41' slot='0x00' function='0x0'/>")
        );
        assert!(show(Format::Json, &[]).contains("\"address\": \"0000:41:00.0\""));
    }
}
