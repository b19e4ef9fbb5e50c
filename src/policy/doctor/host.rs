//! The config, the service, and settings of the host that bear on virtual
//! machines as a whole.

use super::{
    Case, Finding,
    advice::renew_initramfs,
    facts::{HostFacts, Unit},
    image, seen,
};

pub(super) fn config(case: &Case<'_>) -> Vec<Finding> {
    const NAME: &str = "config";
    if let Some(mistake) = case.mistake {
        let text = format!("is not valid: {mistake}");
        let advice = "vfio-bindctl check shows every mistake and what is right";
        return vec![Finding::fail(NAME, text, advice)];
    }
    vec![match case.plan.mappings.len() {
        0 => Finding::warn(
            NAME,
            "has no mappings, so nothing is bound",
            "describe what is for virtual machines in /etc/vfio-bindd/config.toml, see \
             vfio-bindd.toml(5)",
        ),
        1 => Finding::ok(NAME, "valid, 1 mapping"),
        count => Finding::ok(NAME, format!("valid, {count} mappings")),
    }]
}

pub(super) fn service(facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "service";
    seen(NAME, &facts.unit, |unit| {
        vec![match unit {
            Unit::Enabled => Finding::ok(NAME, "vfio-bindd is started at boot"),
            Unit::Disabled => Finding::warn(
                NAME,
                "vfio-bindd is not started at boot",
                "systemctl enable --now vfio-bindd",
            ),
            Unit::Missing => Finding::warn(
                NAME,
                "there is no unit vfio-bindd.service",
                "install the package on this host",
            ),
        }]
    })
}

pub(super) fn limits(facts: &HostFacts) -> Vec<Finding> {
    let mut findings = initramfs(facts);
    findings.extend(hung_task(facts));
    findings.extend(memory_lock(facts));
    findings.extend(lockdown(facts));
    findings
}

fn initramfs(facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "initramfs";
    seen(NAME, &facts.initramfs, |found| {
        let Some(found) = found else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        if !found.older_than.is_empty() {
            let older = found.older_than.join(", ");
            let text = format!("{} is older than {older}", found.file);
            findings.push(Finding::warn(NAME, text, renew_initramfs(facts)));
        }
        findings.extend(image::early(NAME, found));
        if findings.is_empty() {
            let text = format!("{} has the settings of vfio as they are now", found.file);
            findings.push(Finding::ok(NAME, text));
        }
        findings
    })
}

/// A driver whose remove never ends is a hung task (kernel/hung_task.c).
fn hung_task(facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "hung-task";
    seen(NAME, &facts.hung_task_panic, |panics| {
        vec![if *panics {
            Finding::warn(
                NAME,
                "a driver that does not let go of its device would take the host down \
                 (kernel.hung_task_panic is 1)",
                "sysctl kernel.hung_task_panic=0, and the same in /etc/sysctl.d",
            )
        } else {
            Finding::ok(NAME, "a task that hangs does not take the host down")
        }]
    })
}

/// vfio locks all of a guest's memory and counts it against the limit of
/// whoever runs the guest, unless that has `CAP_IPC_LOCK`
/// (drivers/vfio/vfio_iommu_type1.c, `vfio_lock_acct`, v6.12).
fn memory_lock(facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "memory-lock";
    seen(NAME, &facts.memory_locks, |all| {
        let finite = all
            .iter()
            .filter(|one| !matches!(one.limit.as_str(), "unlimited" | "infinity" | "-1"));
        let findings: Vec<_> = finite
            .map(|one| {
                let text = format!(
                    "{} lets {} lock {}: a guest of theirs with more memory does not start",
                    one.place, one.whom, one.limit
                );
                let advice = "raise it above the memory of the largest guest; root needs none";
                Finding::warn(NAME, text, advice)
            })
            .collect();
        if !findings.is_empty() {
            return findings;
        }
        let text = match all.as_slice() {
            [] => {
                "no setting; root needs none, a guest of another user needs LimitMEMLOCK= or one \
                 in limits.conf(5)"
            }
            _ => "every setting is unlimited",
        };
        vec![Finding::ok(NAME, text)]
    })
}

/// Lockdown leaves vfio alone; what it stops are modules that nobody signed and
/// writes to config space from userspace (security/lockdown/lockdown.c, v6.12).
fn lockdown(facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "lockdown";
    seen(NAME, &facts.lockdown, |mode| {
        let text = match mode.as_deref() {
            None | Some("none") => "the kernel is not locked down".to_owned(),
            Some(mode) => format!(
                "the kernel is locked down ({mode}): vfio works, unsigned modules do not load and \
                 setpci does not write"
            ),
        };
        vec![Finding::ok(NAME, text)]
    })
}
