//! Where a host keeps what is to be changed: its kernel command line, and what
//! has to be run after a change.

use super::facts::{HostFacts, Loader};

/// How to put `parameter` on the kernel command line.
pub(super) fn add_parameter(facts: &HostFacts, parameter: &str) -> String {
    change(facts, &format!("add {parameter}"), "to")
}

/// How to take `parameter` from the kernel command line.
pub(super) fn remove_parameter(facts: &HostFacts, parameter: &str) -> String {
    change(facts, &format!("remove {parameter}"), "from")
}

fn change(facts: &HostFacts, what: &str, preposition: &str) -> String {
    let (place, then) = match facts.loader {
        Loader::Grub => (
            "GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub",
            "run update-grub and reboot",
        ),
        Loader::ProxmoxBoot => (
            "the line in /etc/kernel/cmdline",
            "run proxmox-boot-tool refresh and reboot",
        ),
        Loader::SystemdBoot => (
            "the line in /etc/kernel/cmdline",
            "run kernel-install add \"$(uname -r)\" /boot/vmlinuz-\"$(uname -r)\" and reboot",
        ),
        Loader::Nixos => (
            "boot.kernelParams in the NixOS configuration",
            "run nixos-rebuild boot and reboot",
        ),
        Loader::Other => (
            "the kernel command line in the boot loader's configuration",
            "reboot",
        ),
    };
    format!("{what} {preposition} {place}, {then}")
}

/// How to have a change of modprobe.d take effect.
pub(super) fn renew_initramfs(facts: &HostFacts) -> &'static str {
    match facts.loader {
        Loader::Nixos => "run nixos-rebuild boot and reboot",
        _ => "run update-initramfs -u and reboot",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loader_has_its_place() {
        for (loader, place) in [
            (Loader::Grub, "run update-grub"),
            (Loader::ProxmoxBoot, "run proxmox-boot-tool refresh"),
            (Loader::SystemdBoot, "run kernel-install add"),
            (Loader::Nixos, "boot.kernelParams"),
            (Loader::Other, "the boot loader's configuration"),
        ] {
            let facts = HostFacts {
                loader,
                ..HostFacts::default()
            };
            let add = add_parameter(&facts, "intel_iommu=on");
            assert!(add.starts_with("add intel_iommu=on to ") && add.contains(place));
            let remove = remove_parameter(&facts, "iommu=off");
            assert!(remove.starts_with("remove iommu=off from ") && remove.contains(place));
        }
    }
}
