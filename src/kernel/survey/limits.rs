//! Settings of the host as a whole, and the daemon's own unit.

use super::Survey;
use crate::{
    kernel::sysfs::text,
    policy::doctor::facts::{MemoryLock, Unit},
};

pub(super) fn hung_task_panic(survey: Survey<'_>) -> Result<bool, String> {
    // Kernels without CONFIG_DETECT_HUNG_TASK have no such file.
    let value = survey.file("/proc/sys/kernel/hung_task_panic")?;
    Ok(value.is_some_and(|value| value.trim() != "0"))
}

/// Settings of limits.conf(5) and systemd-system.conf(5).
pub(super) fn memory_locks(survey: Survey<'_>) -> Result<Vec<MemoryLock>, String> {
    let mut found = Vec::new();
    let mut files = vec!["/etc/security/limits.conf".to_owned()];
    files.extend(survey.drop_ins(&["/etc/security/limits.d"], ".conf")?);
    for file in files {
        for line in survey.lines(&file)? {
            let words: Vec<_> = line.text.split_whitespace().collect();
            let [whom, _, "memlock", limit] = words.as_slice() else {
                continue;
            };
            let number = limit.parse::<u64>().is_ok();
            found.push(MemoryLock {
                place: line.place,
                whom: (*whom).to_owned(),
                // limits.conf(5): in KiB.
                limit: format!("{limit}{}", if number { " KiB" } else { "" }),
            });
        }
    }
    let mut files = vec!["/etc/systemd/system.conf".to_owned()];
    let folders = [
        "/etc/systemd/system.conf.d",
        "/run/systemd/system.conf.d",
        "/usr/lib/systemd/system.conf.d",
    ];
    files.extend(survey.drop_ins(&folders, ".conf")?);
    for file in files {
        for line in survey.lines(&file)? {
            let Some((key, value)) = line.text.split_once('=') else {
                continue;
            };
            if key.trim() == "DefaultLimitMEMLOCK" {
                // SOFT:HARD, or one for both.
                let limit = value.trim().split(':').next().unwrap_or_default();
                found.push(MemoryLock {
                    place: line.place,
                    whom: "services".to_owned(),
                    limit: limit.to_owned(),
                });
            }
        }
    }
    Ok(found)
}

/// The mode in brackets of `none [integrity] confidentiality`.
pub(super) fn lockdown(survey: Survey<'_>) -> Result<Option<String>, String> {
    let modes = text(survey.sysfs, "kernel/security/lockdown");
    Ok(modes.and_then(|modes| {
        let (_, rest) = modes.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }))
}

pub(super) fn unit(survey: Survey<'_>) -> Result<Unit, String> {
    const UNIT: &str = "vfio-bindd.service";
    let wanted = survey.names("/etc/systemd/system/multi-user.target.wants")?;
    if wanted.iter().any(|name| name == UNIT) {
        return Ok(Unit::Enabled);
    }
    let places = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let there = places
        .iter()
        .any(|place| survey.exists(&format!("{place}/{UNIT}")));
    Ok(if there { Unit::Disabled } else { Unit::Missing })
}
