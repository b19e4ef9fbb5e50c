//! How the host was started: processor, firmware, boot loader, command line.

use super::{Survey, words};
use crate::kernel::image;
use crate::policy::doctor::facts::{Cpu, Directive, Image, Loader};

pub(super) fn cpu(survey: Survey<'_>) -> Cpu {
    let info = survey.file("/proc/cpuinfo").ok().flatten();
    let info = info.unwrap_or_default();
    let vendor = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "vendor_id").then_some(value.trim())
    });
    match vendor {
        Some("GenuineIntel") => Cpu::Intel,
        Some("AuthenticAMD" | "HygonGenuine") => Cpu::Amd,
        _ => Cpu::Other,
    }
}

/// What the boot loader says of itself, UTF-16 after four bytes of attributes
/// (systemd, "The Boot Loader Interface"); GRUB has it from 2.12 on.
const INFO: &str = "firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

pub(super) fn loader(survey: Survey<'_>) -> Loader {
    if survey.exists("/etc/NIXOS") {
        return Loader::Nixos;
    }
    let proxmox = survey.exists("/etc/kernel/proxmox-boot-uuids");
    let systemd_boot = if proxmox {
        Loader::ProxmoxBoot
    } else {
        Loader::SystemdBoot
    };
    let info = survey.sysfs.read(INFO).unwrap_or_default();
    let info: String = info
        .iter()
        .skip(4)
        .filter(|byte| **byte != 0)
        .map(|byte| char::from(*byte))
        .collect();
    let grub = survey.exists("/etc/default/grub");
    if info.starts_with("systemd-boot") || info.starts_with("systemd-stub") {
        systemd_boot
    } else if grub && !info.is_empty() {
        Loader::Grub
    } else if proxmox
        && survey.exists("/etc/kernel/cmdline")
        && survey
            .attributes("firmware/efi")
            .is_ok_and(|all| !all.is_empty())
    {
        Loader::ProxmoxBoot
    } else if grub {
        Loader::Grub
    } else if survey.exists("/etc/kernel/cmdline") {
        systemd_boot
    } else {
        Loader::Other
    }
}

/// The parameters that bear on device assignment; others may be nobody's
/// business.
pub(super) fn parameters(survey: Survey<'_>) -> Result<Vec<String>, String> {
    const KEYS: [&str; 13] = [
        "iommu",
        "intel_iommu",
        "amd_iommu",
        "intremap",
        "noapic",
        "nox2apic",
        "pci",
        "pcie_acs_override",
        "module_blacklist",
        "modprobe.blacklist",
        "video",
        "initcall_blacklist",
        "lockdown",
    ];
    const FAMILIES: [&str; 4] = ["iommu.", "vfio", "pci-stub.", "pci_stub."];
    let line = survey.file("/proc/cmdline")?.unwrap_or_default();
    let matters = |word: &&str| {
        let key = word.split('=').next().unwrap_or_default();
        KEYS.contains(&key) || FAMILIES.iter().any(|family| key.starts_with(family))
    };
    let words = line.split_whitespace().filter(matters);
    Ok(words.map(str::to_owned).collect())
}

pub(super) fn tables(survey: Survey<'_>) -> Result<Vec<String>, String> {
    let mut names = survey.attributes("firmware/acpi/tables")?;
    names.retain(|name| matches!(name.as_str(), "DMAR" | "IVRS" | "IORT" | "VIOT"));
    Ok(names)
}

pub(super) fn remapping(survey: Survey<'_>) -> Result<bool, String> {
    let table = survey.file("/proc/interrupts")?;
    let table = table.ok_or_else(|| "/proc/interrupts: there is none".to_owned())?;
    Ok(table.split_whitespace().any(|word| word.starts_with("IR-")))
}

/// The initramfs of the running kernel, and what of its settings is newer.
pub(super) fn initramfs(
    survey: Survey<'_>,
    directives: &[Directive],
) -> Result<Option<Image>, String> {
    let Some(file) = image::file(survey.host, survey.kernel) else {
        return Ok(None);
    };
    let modified = |path: &str| {
        let found = survey.host.stat(path);
        let found = found.map_err(|error| format!("{path}: {}", words(&error)))?;
        Ok::<_, String>(found.modified)
    };
    let made = modified(&file)?;
    let mut older_than = Vec::new();
    let mut settings = survey.drop_ins(&["/etc/modprobe.d"], ".conf")?;
    settings.push("/etc/initramfs-tools/modules".to_owned());
    for path in settings {
        let said = survey.lines(&path)?;
        let named = said.iter().any(|line| line.text.contains("vfio"))
            || directives
                .iter()
                .any(|one| said.iter().any(|line| line.place == one.place));
        if named && modified(&path)? > made {
            older_than.push(path);
        }
    }
    let early = image::carried(survey.host, survey.kernel, &file)?;
    Ok(Some(Image {
        file,
        older_than,
        early,
    }))
}
