//! The config and settings of the host as a whole.

use vfio_bindd::policy::{
    doctor::{
        Case, Level, examine,
        facts::{Image, MemoryLock, Seen, Unit},
        image::{Carried, Holding},
    },
    model::Policy,
    plan::plan,
    resolve::Held,
};

use crate::{config, examined, facts, has, host, only, unwell, with_facts};

#[test]
fn a_config_that_is_not_valid_is_a_failure_among_the_others() {
    let (facts, host) = (facts(), host());
    let findings = examine(&Case {
        host: Some(&facts),
        inventory: &host,
        plan: &plan(&host, &Policy::default(), &Held::new()),
        mistake: Some("/etc/x.toml:2:11: unknown key `nume`"),
    });
    only(
        &unwell(findings.clone()),
        Level::Fail,
        "config",
        "is not valid: /etc/x.toml:2:11: unknown key `nume`",
        "vfio-bindctl check",
    );
    assert!(findings.iter().any(|finding| finding.name == "iommu"));
}

#[test]
fn settings_of_the_host_are_told() {
    for (unit, text, advice) in [
        (
            Unit::Disabled,
            "not started at boot",
            "systemctl enable --now",
        ),
        (Unit::Missing, "no unit vfio-bindd.service", "install"),
    ] {
        let findings = with_facts(|facts| facts.unit = Seen::Known(unit));
        only(&findings, Level::Warn, "service", text, advice);
    }
    only(
        &with_facts(|facts| {
            facts.initramfs = Seen::Known(Some(Image {
                file: "/boot/initrd".to_owned(),
                older_than: vec!["/etc/modprobe.d/vfio.conf".to_owned()],
                early: None,
            }));
        }),
        Level::Warn,
        "initramfs",
        "/boot/initrd is older than /etc/modprobe.d/vfio.conf",
        "update-initramfs -u",
    );
    assert_eq!(with_facts(|facts| facts.initramfs = Seen::Known(None)), []);
    only(
        &with_facts(|facts| facts.hung_task_panic = Seen::Known(true)),
        Level::Warn,
        "hung-task",
        "kernel.hung_task_panic is 1",
        "sysctl kernel.hung_task_panic=0",
    );
    let lock = |limit: &str| {
        let limit = limit.to_owned();
        with_facts(|facts| {
            facts.memory_locks = Seen::Known(vec![MemoryLock {
                place: "/etc/security/limits.conf:5".to_owned(),
                whom: "@kvm".to_owned(),
                limit,
            }]);
        })
    };
    only(
        &lock("64 KiB"),
        Level::Warn,
        "memory-lock",
        "/etc/security/limits.conf:5 lets @kvm lock 64 KiB",
        "root needs none",
    );
    for limit in ["unlimited", "infinity", "-1"] {
        assert_eq!(lock(limit), []);
    }
    let mut facts = facts();
    facts.lockdown = Seen::Known(Some("integrity".to_owned()));
    let findings = examined(Some(&facts), &host(), &config());
    has(&findings, Level::Ok, "lockdown", "(integrity)", "");
}

#[test]
fn an_image_with_another_config_is_to_be_made_anew_and_other_verdicts_are_advice() {
    for (holding, level, text) in [
        (
            Holding::Same,
            Level::Ok,
            "has the settings of vfio as they are",
        ),
        (
            Holding::OtherVerdicts,
            Level::Ok,
            "was made before this boot found",
        ),
        (Holding::OtherConfig, Level::Warn, "is not the one of now"),
        (
            Holding::Nothing,
            Level::Warn,
            "made without the early stage",
        ),
    ] {
        let mut facts = facts();
        facts.initramfs = Seen::Known(Some(Image {
            file: "/boot/initrd".to_owned(),
            older_than: Vec::new(),
            early: Some(Carried {
                renew: "update-initramfs -u -k 6.12".to_owned(),
                holding,
            }),
        }));
        let found = examined(Some(&facts), &host(), &config());
        let advice = if holding == Holding::Same {
            ""
        } else {
            "update-initramfs -u -k 6.12"
        };
        has(&found, level, "initramfs", text, advice);
    }
}
