//! The IOMMU, and how far it keeps functions apart.

use vfio_bindd::policy::doctor::{
    Level,
    facts::{Cpu, HostFacts, Loader, Seen},
};

use crate::{
    NIC, config, examined, facts, has, known, only,
    support::{FunctionExt as _, inventory, nic},
    unwell, with_facts, with_gpu,
};

#[test]
fn an_iommu_that_is_off_is_turned_on_where_this_host_is_configured() {
    let off = |cpu, loader, tables: &[&str], parameters: &[&str]| {
        let host = facts();
        let facts = HostFacts {
            cpu,
            loader,
            iommus: known([]),
            tables: Seen::Known(tables.iter().map(|one| (*one).to_owned()).collect()),
            parameters: Seen::Known(parameters.iter().map(|one| (*one).to_owned()).collect()),
            remapping: Seen::Known(false),
            ..host
        };
        let ungrouped = inventory([nic(NIC).with(|one| one.iommu_group = None)]);
        unwell(examined(Some(&facts), &ungrouped, &config()))
    };
    for (cpu, loader, tables, parameters, text, advice) in [
        (
            Cpu::Intel,
            Loader::Grub,
            &["DMAR"][..],
            &[][..],
            "the firmware has VT-d",
            "add intel_iommu=on to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, run update-grub",
        ),
        (
            Cpu::Intel,
            Loader::ProxmoxBoot,
            &["DMAR"],
            &["iommu=pt"],
            "the kernel does not use it",
            "/etc/kernel/cmdline, run proxmox-boot-tool refresh",
        ),
        (
            Cpu::Intel,
            Loader::Nixos,
            &[],
            &[],
            "no function can be bound",
            "turn VT-d on in the firmware setup; if that is not enough, add intel_iommu=on to \
             boot.kernelParams",
        ),
        (
            Cpu::Amd,
            Loader::Grub,
            &["IVRS"],
            &["amd_iommu=off"],
            "the kernel command line says amd_iommu=off",
            "remove amd_iommu=off from GRUB_CMDLINE_LINUX_DEFAULT",
        ),
        (
            Cpu::Amd,
            Loader::SystemdBoot,
            &["IVRS"],
            &[],
            "the firmware has AMD-Vi",
            "CONFIG_AMD_IOMMU",
        ),
        (
            Cpu::Amd,
            Loader::SystemdBoot,
            &[],
            &[],
            "off",
            "set IOMMU (AMD-Vi) to enabled",
        ),
        // An emulator has Intel's IOMMU with any processor.
        (
            Cpu::Amd,
            Loader::Grub,
            &["DMAR"],
            &[],
            "the firmware has VT-d",
            "add intel_iommu=on",
        ),
        (
            Cpu::Other,
            Loader::Other,
            &[],
            &["intel_iommu=sm_on,off"],
            "says intel_iommu=sm_on,off",
            "from the kernel command line in the boot loader's configuration",
        ),
    ] {
        let findings = off(cpu, loader, tables, parameters);
        has(&findings, Level::Fail, "iommu", text, advice);
        let blames_firmware = findings.iter().any(|finding| finding.name == "firmware");
        assert_eq!(blames_firmware, tables.is_empty(), "{findings:#?}");
        // What follows from it is not said again.
        assert!(findings.iter().all(|finding| finding.name != "interrupts"));
    }
    // Groups alone are no IOMMU: vfio can make them up.
    let made_up = with_facts(|facts| facts.iommus = known([]));
    has(&made_up, Level::Fail, "iommu", "off", "intel_iommu=on");
}

#[test]
fn interrupts_that_are_not_remapped_are_a_failure_unless_every_guest_is_trusted() {
    only(
        &with_facts(|facts| facts.remapping = Seen::Known(false)),
        Level::Fail,
        "interrupts",
        "No interrupt remapping support",
        "allow_unsafe_interrupts=1 in /etc/modprobe.d/vfio.conf",
    );
    only(
        &with_facts(|facts| {
            facts.remapping = Seen::Known(false);
            facts.unsafe_interrupts = true;
            facts.parameters = known(["intremap=off"]);
        }),
        Level::Warn,
        "interrupts",
        "allow_unsafe_interrupts is on",
        "remove intremap=off from GRUB_CMDLINE_LINUX_DEFAULT",
    );
    // Other processors have other controllers.
    assert_eq!(
        with_facts(|facts| {
            facts.remapping = Seen::Known(false);
            facts.cpu = Cpu::Other;
            facts.tables = known(["IORT"]);
        }),
        []
    );
}

#[test]
fn groups_that_promise_too_much_are_told() {
    only(
        &with_facts(|facts| facts.no_iommu_mode = true),
        Level::Warn,
        "no-iommu",
        "enable_unsafe_noiommu_mode",
        "turn the IOMMU on",
    );
    has(
        &with_gpu(|gpu| gpu.inspection.as_mut().unwrap().no_iommu = true),
        Level::Fail,
        "no-iommu",
        "0000:01:00.0 has no IOMMU behind it",
        "turn the IOMMU on",
    );
    for parameter in [
        "pcie_acs_override=downstream,multifunction",
        "pci=config_acs=1@0000:00:01.0",
        "pci=nomsi,disable_acs_redir=0000:00:01.0",
    ] {
        only(
            &with_facts(|facts| facts.parameters = known([parameter, "pci=noaer"])),
            Level::Warn,
            "isolation",
            &format!("({parameter})"),
            &format!("remove {parameter} from"),
        );
    }
}
