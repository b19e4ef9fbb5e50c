//! The IOMMU: whether it is on, and how far it keeps functions apart.

use super::{
    Case, Finding,
    advice::{add_parameter, remove_parameter},
    facts::{Cpu, HostFacts, Seen},
    seen,
};

pub(super) fn all(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    let mut findings = iommu(case, facts);
    findings.extend(firmware(case, facts));
    findings.extend(interrupts(case, facts));
    findings.extend(no_iommu(case, facts));
    findings.extend(acs(case, facts));
    findings
}

/// Whether it works. Groups alone do not say so: vfio makes some up where it
/// is asked to.
fn is_on(case: &Case<'_>, facts: &HostFacts) -> bool {
    let driven = match &facts.iommus {
        Seen::Known(iommus) => !iommus.is_empty(),
        Seen::Unseen(_) => true,
    };
    driven && case.inventory.has_iommu()
}

fn iommu(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "iommu";
    seen(NAME, &facts.iommus, |iommus| {
        let groups = case.inventory.groups().len();
        if is_on(case, facts) {
            let units = match iommus.as_slice() {
                [only] => only.clone(),
                all => format!("{} units", all.len()),
            };
            return vec![Finding::ok(NAME, format!("on: {groups} groups, {units}"))];
        }
        let (text, advice) = off(facts);
        vec![Finding::fail(NAME, text, advice)]
    })
}

/// Whose IOMMU it is: the firmware's table says so for certain (an emulator has
/// Intel's with any processor), else the processor's is the likely one.
fn maker(facts: &HostFacts) -> Cpu {
    let has = |table: &str| match &facts.tables {
        Seen::Known(tables) => tables.iter().any(|one| one == table),
        Seen::Unseen(_) => false,
    };
    if has("DMAR") {
        Cpu::Intel
    } else if has("IVRS") {
        Cpu::Amd
    } else {
        facts.cpu
    }
}

/// Why it is off, and what to do.
fn off(facts: &HostFacts) -> (String, String) {
    let switch = parameters(facts).find(|one| {
        let (key, value) = one.split_once('=').unwrap_or((one, ""));
        matches!(key, "iommu" | "intel_iommu" | "amd_iommu")
            && value.split(',').any(|word| word == "off")
    });
    if let Some(switch) = switch {
        let text = format!("off: the kernel command line says {switch}");
        return (text, remove_parameter(facts, switch));
    }
    let described = matches!(&facts.tables, Seen::Known(tables) if !tables.is_empty());
    match (maker(facts), described) {
        (Cpu::Intel, true) => (
            "off: the firmware has VT-d, and the kernel does not use it".to_owned(),
            add_parameter(facts, "intel_iommu=on"),
        ),
        // On unless the command line says otherwise (drivers/iommu/amd/init.c).
        (Cpu::Amd, true) => (
            "off: the firmware has AMD-Vi, and the kernel does not use it".to_owned(),
            "see why in journalctl -k -g AMD-Vi; the kernel needs CONFIG_AMD_IOMMU".to_owned(),
        ),
        (Cpu::Intel, false) => (
            "off, and no function can be bound without it".to_owned(),
            format!(
                "turn VT-d on in the firmware setup; if that is not enough, {}",
                add_parameter(facts, "intel_iommu=on")
            ),
        ),
        (Cpu::Amd, false) => (
            "off, and no function can be bound without it".to_owned(),
            "set IOMMU (AMD-Vi) to enabled, not auto, in the firmware setup".to_owned(),
        ),
        (Cpu::Other, _) => (
            "off, and no function can be bound without it".to_owned(),
            "turn it on in the firmware setup; see journalctl -k -g iommu".to_owned(),
        ),
    }
}

/// Whether the firmware describes an IOMMU: in the ACPI tables DMAR (Intel) and
/// IVRS (AMD), or in IORT or VIOT elsewhere.
fn firmware(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "firmware";
    let (what, table) = match maker(facts) {
        Cpu::Intel => ("VT-d", "DMAR"),
        Cpu::Amd => ("AMD-Vi", "IVRS"),
        Cpu::Other => ("an IOMMU", "IORT or VIOT"),
    };
    seen(NAME, &facts.tables, |tables| {
        if !tables.is_empty() {
            let text = format!("describes {what} ({})", tables.join(", "));
            return vec![Finding::ok(NAME, text)];
        }
        if is_on(case, facts) {
            return Vec::new();
        }
        vec![Finding::fail(
            NAME,
            format!("describes no IOMMU: there is no ACPI table {table}"),
            format!("turn {what} on in the firmware setup, or update the firmware"),
        )]
    })
}

/// Without interrupt remapping vfio opens nothing unless it is told to
/// (drivers/vfio/vfio_iommu_type1.c, `vfio_iommu_type1_attach_group`, v6.12).
fn interrupts(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "interrupts";
    if maker(facts) == Cpu::Other || !is_on(case, facts) {
        return Vec::new();
    }
    seen(NAME, &facts.remapping, |remapped| {
        if *remapped {
            return vec![Finding::ok(NAME, "are remapped")];
        }
        let switch = parameters(facts).find(|one| {
            one.strip_prefix("intremap=")
                .is_some_and(|value| value.split(',').any(|word| word == "off"))
        });
        let turn_on = match switch {
            Some(switch) => remove_parameter(facts, switch),
            None => "turn interrupt remapping (x2APIC) on in the firmware setup".to_owned(),
        };
        if facts.unsafe_interrupts {
            return vec![Finding::warn(
                NAME,
                "are not remapped, and allow_unsafe_interrupts is on: a guest can send the host \
                 interrupts that are not its device's",
                turn_on,
            )];
        }
        vec![Finding::fail(
            NAME,
            "are not remapped, so no virtual machine can use what is bound (No interrupt \
             remapping support)",
            format!(
                "{turn_on}; or trust every guest: options vfio_iommu_type1 \
                 allow_unsafe_interrupts=1 in /etc/modprobe.d/vfio.conf"
            ),
        )]
    })
}

/// Groups that vfio made up give a guest all of the host's memory.
fn no_iommu(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "no-iommu";
    let made_up = case.mapped_functions().into_iter().filter(|function| {
        let inspection = function.inspection.as_ref();
        inspection.is_some_and(|inspection| inspection.no_iommu)
    });
    let made_up: Vec<_> = made_up.map(|function| function.address).collect();
    let advice = "turn the IOMMU on, and remove enable_unsafe_noiommu_mode=1 from modprobe.d or \
                  vfio.enable_unsafe_noiommu_mode=1 from the kernel command line";
    if !made_up.is_empty() {
        let text = format!(
            "{} has no IOMMU behind it: its virtual machine could read and write all of the \
             host's memory",
            super::list(made_up)
        );
        return vec![Finding::fail(NAME, text, advice)];
    }
    if facts.no_iommu_mode {
        let text = "vfio is told to do without an IOMMU (enable_unsafe_noiommu_mode)";
        return vec![Finding::warn(NAME, text, advice)];
    }
    Vec::new()
}

/// Parameters that make groups smaller than the hardware keeps functions apart:
/// `pcie_acs_override=` is a patch that Proxmox VE has, the others are in
/// drivers/pci/pci.c (`disable_acs_redir` v4.19, `config_acs` v6.11).
fn acs(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "isolation";
    if !is_on(case, facts) {
        return Vec::new();
    }
    seen(NAME, &facts.parameters, |_| {
        let overrides: Vec<_> = parameters(facts)
            .filter(|one| {
                let pci = one.strip_prefix("pci=").unwrap_or_default();
                one.starts_with("pcie_acs_override=")
                    || pci.split([',', ';']).any(|word| {
                        word.starts_with("config_acs=") || word.starts_with("disable_acs_redir=")
                    })
            })
            .collect();
        if overrides.is_empty() {
            return vec![Finding::ok(
                NAME,
                "groups are as the hardware isolates them",
            )];
        }
        let parameters = overrides.join(" ");
        vec![Finding::warn(
            NAME,
            format!(
                "groups are not what the hardware isolates ({parameters}): functions of two \
                 groups may reach each other's memory past the IOMMU"
            ),
            format!(
                "give such functions to guests that trust each other, or {}",
                remove_parameter(facts, &parameters)
            ),
        )]
    })
}

/// The kernel's parameters, as far as they were seen.
pub(super) fn parameters(facts: &HostFacts) -> impl Iterator<Item = &str> {
    let all = match &facts.parameters {
        Seen::Known(all) => all.as_slice(),
        Seen::Unseen(_) => &[],
    };
    all.iter().map(String::as_str)
}
