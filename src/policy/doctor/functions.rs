//! What the functions themselves have: resets, power, nodes, memory that the
//! firmware keeps, the boot display.

use std::collections::BTreeSet;

use super::{
    Case, Finding,
    facts::{HostFacts, Seen},
    iommu::parameters,
    is_on_vfio, list, seen,
};

/// What can be said without a look at the rest of the host.
pub(super) fn all(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = reset(case);
    findings.extend(reserved(case));
    findings
}

/// What needs it.
pub(super) fn with_facts(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    let mut findings = display(case, facts);
    findings.extend(power(case, facts));
    findings.extend(nodes(case, facts));
    findings
}

/// A function that cannot be reset is as the last guest left it.
fn reset(case: &Case<'_>) -> Vec<Finding> {
    const NAME: &str = "reset";
    let accepted = case.accepted();
    if accepted.is_empty() {
        return Vec::new();
    }
    let never = accepted.iter().filter(|one| one.reset_methods.is_empty());
    let never: Vec<_> = never.map(|one| one.address).collect();
    if never.is_empty() {
        return vec![Finding::ok(NAME, "every mapped function can be reset")];
    }
    let text = format!(
        "the kernel knows no way to reset {}: what a guest left in it the next one finds, and it \
         may not start twice",
        list(never)
    );
    let advice = "map all functions of its slot (functions = \"slot\"), or reboot the host \
                  between two guests";
    vec![Finding::warn(NAME, text, advice)]
}

/// Memory that the firmware wants a function to reach at all times (RMRR,
/// unity maps): its group is not given to userspace
/// (drivers/iommu/iommu.c, `__iommu_device_set_domain`, v6.12). Kernels of
/// Proxmox VE count all of it as relaxable with `intel_iommu=relax_rmrr`.
fn reserved(case: &Case<'_>) -> Vec<Finding> {
    const NAME: &str = "reserved-memory";
    let relaxed = case.host.is_some_and(|facts| {
        parameters(facts).any(|one| {
            one.strip_prefix("intel_iommu=")
                .is_some_and(|value| value.split(',').any(|word| word == "relax_rmrr"))
        })
    });
    let mut findings = Vec::new();
    for function in case.mapped_functions() {
        let inspection = function.inspection.as_ref();
        let regions = inspection.map_or(&[][..], |one| one.direct_regions.as_slice());
        if regions.is_empty() {
            continue;
        }
        let text = format!(
            "the firmware keeps memory for {} ({}), so the kernel gives it to no virtual machine",
            function.address,
            regions.join(", ")
        );
        let or = if relaxed {
            "this kernel does not know intel_iommu=relax_rmrr"
        } else {
            "kernels of Proxmox VE also know intel_iommu=relax_rmrr"
        };
        let advice =
            format!("turn that off in the firmware (HPE: conrep, shared memory features); {or}");
        findings.push(Finding::fail(NAME, text, advice));
    }
    let accepted = case.accepted();
    let unread = accepted.iter().filter(|one| one.inspection.is_none());
    let unread: Vec<_> = unread.map(|one| one.address).collect();
    if !unread.is_empty() {
        let text = format!("{} was not inspected", list(unread));
        findings.push(Finding::unseen(NAME, &text));
    } else if findings.is_empty() && relaxed {
        findings.push(Finding::warn(
            NAME,
            "intel_iommu=relax_rmrr has the kernel give away what the firmware may still use",
            "give away no port or disk that the BMC shares, and remove it where it is not needed",
        ));
    } else if findings.is_empty() && !accepted.is_empty() {
        let text = "the firmware keeps no memory for a mapped function";
        findings.push(Finding::ok(NAME, text));
    }
    findings
}

/// A framebuffer of the firmware on a mapped function keeps its memory until
/// its driver goes; vfio-pci sees to that for VGA devices
/// (drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_vga_init`, v6.1), but not
/// where the memory is claimed by nobody's driver (`BOOTFB`).
fn display(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "display";
    let mapped = case.mapped_functions();
    let displays: Vec<_> = mapped.iter().filter(|one| one.class.base() == 3).collect();
    if displays.is_empty() {
        return Vec::new();
    }
    seen(NAME, &facts.framebuffers, |framebuffers| {
        let mut findings = Vec::new();
        for function in &displays {
            let address = function.address;
            let framebuffer = framebuffers.iter().find(|one| one.address == address);
            let text = match framebuffer {
                Some(framebuffer) => format!(
                    "the firmware's framebuffer ({}) is in the memory of {address}: a guest may \
                     fail with \"can't reserve\"",
                    framebuffer.name
                ),
                None if function.boot_vga => {
                    format!("{address} is the display that the host booted with (boot_vga)")
                }
                None => continue,
            };
            let advice = "make another display the first one in the firmware setup, or see the \
                          host over the network or a serial console";
            findings.push(Finding::warn(NAME, text, advice));
        }
        if findings.is_empty() {
            let text = "the host's boot display is on no mapped function";
            findings.push(Finding::ok(NAME, text));
        }
        findings
    })
}

fn power(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "power";
    let mapped = case.mapped();
    let asleep = facts
        .asleep
        .iter()
        .filter(|one| mapped.contains(&one.address));
    asleep
        .map(|one| {
            let address = one.address;
            let text = format!("{address} is in D3cold; some devices never come back from it");
            let advice = if one.allowed {
                format!(
                    "if it fails with \"device inaccessible\": d3cold = false in the mapping of \
                     {address}, or options vfio-pci disable_idle_d3=1 in modprobe.d"
                )
            } else {
                "it may not go there any more (d3cold_allowed is 0): a reboot wakes it".to_owned()
            };
            Finding::warn(NAME, text, advice)
        })
        .collect()
}

/// `/dev/vfio/N` is there for every group with a bound function
/// (drivers/vfio/group.c, `vfio_devnode`, v6.12).
fn nodes(case: &Case<'_>, facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "nodes";
    let bound = case.mapped_functions().into_iter();
    let bound = bound.filter(|function| is_on_vfio(function));
    let groups: BTreeSet<u32> = bound.filter_map(|one| one.iommu_group).collect();
    if groups.is_empty() {
        return Vec::new();
    }
    if let Seen::Known(nodes) = &facts.nodes
        && nodes.is_empty()
    {
        let text = "there is no /dev/vfio, although functions are bound";
        let advice = "see that /dev is a devtmpfs (findmnt /dev), then modprobe vfio";
        return vec![Finding::fail(NAME, text, advice)];
    }
    seen(NAME, &facts.nodes, |nodes| {
        let node = |group: &u32| {
            let name = group.to_string();
            nodes.iter().find(move |node| node.name == name)
        };
        let words = |groups: &[u32]| {
            let names: Vec<_> = groups
                .iter()
                .map(|one| format!("/dev/vfio/{one}"))
                .collect();
            names.join(", ")
        };
        let missing: Vec<u32> = groups
            .iter()
            .copied()
            .filter(|one| node(one).is_none())
            .collect();
        let mut findings = Vec::new();
        if !missing.is_empty() {
            findings.push(Finding::fail(
                NAME,
                format!(
                    "there is no {}, although its functions are bound",
                    words(&missing)
                ),
                "see that /dev is a devtmpfs (findmnt /dev); journalctl -k -g vfio",
            ));
        }
        let open: Vec<u32> = groups
            .iter()
            .copied()
            .filter(|group| node(group).is_some_and(|node| node.mode & 0o006 != 0))
            .collect();
        if !open.is_empty() {
            findings.push(Finding::warn(
                NAME,
                format!("every user may open {}", words(&open)),
                "give it to the group that runs virtual machines: a udev rule with \
                 SUBSYSTEM==\"vfio\", GROUP=\"kvm\", MODE=\"0660\"",
            ));
        }
        if findings.is_empty() {
            let root = |group: &&u32| node(group).is_some_and(|node| node.mode & 0o060 == 0);
            let text = match groups.iter().filter(root).count() {
                0 => "/dev/vfio has the node of every bound group".to_owned(),
                _ => "/dev/vfio has the node of every bound group; only their owners may open \
                      them"
                    .to_owned(),
            };
            findings.push(Finding::ok(NAME, text));
        }
        findings
    })
}
