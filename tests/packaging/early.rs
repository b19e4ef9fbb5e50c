//! The unit of the early stage.

use crate::{
    file,
    unit::{has_in, is_clean, values_in},
};

const UNIT: &str = "systemd/vfio-bindd-early.service";

fn values(key: &str) -> Vec<String> {
    values_in(UNIT, key).into_iter().collect()
}

#[test]
fn it_comes_before_whoever_loads_drivers() {
    assert_eq!(
        values("Before"),
        [
            "shutdown.target",
            "sysinit.target",
            "systemd-modules-load.service",
            "systemd-udev-trigger.service",
        ]
    );
    has_in(UNIT, &["DefaultDependencies=no", "WantedBy=sysinit.target"]);
    has_in(
        "systemd/vfio-bindd.service",
        &["After=vfio-bindd-early.service"],
    );
}

#[test]
fn it_waits_for_nothing_that_waits_for_udev() {
    assert_eq!(values("After"), ["systemd-remount-fs.service"]);
    for key in [
        // Each of these waits for the file systems that it is about, PrivateTmp
        // for all.
        "RequiresMountsFor",
        "StateDirectory",
        "RuntimeDirectory",
        "WorkingDirectory",
        "PrivateTmp",
        // And nobody fails with it.
        "Requires",
        "BindsTo",
        "RequiredBy",
    ] {
        assert_eq!(values(key), Vec::<String>::new(), "{key}");
    }
}

#[test]
fn it_holds_no_boot_up_and_can_be_turned_off() {
    has_in(
        UNIT,
        &[
            "Type=oneshot",
            "RemainAfterExit=yes",
            "TimeoutStartSec=10s",
            "ExecStart=/usr/bin/vfio-bindctl early",
            "ConditionKernelCommandLine=!vfio_bindd=off",
            "Conflicts=shutdown.target",
        ],
    );
}

#[test]
fn it_is_hardened_as_far_as_modprobe_lets_it() {
    let daemon = file("systemd/vfio-bindd.service");
    let unit = file(UNIT);
    let (_, sandbox) = daemon.split_once("CapabilityBoundingSet=").unwrap();
    let settings = sandbox.lines().skip(1).filter(|line| line.contains('='));
    let missing: Vec<_> = settings
        .filter(|line| !line.starts_with('#') && !unit.lines().any(|one| one == *line))
        .collect();
    assert_eq!(
        missing,
        [
            // It would wait for /tmp.
            "PrivateTmp=yes",
            // modprobe could not read the module it is to load.
            "ProtectKernelModules=yes",
            "BindReadOnlyPaths=-/usr/lib/modules/%v:/run/vfio-bindd/modules",
            // The state directory, too.
            "ReadWritePaths=/sys/bus/pci /sys/devices",
            "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged @resources",
            "WantedBy=multi-user.target",
        ]
    );
    has_in(
        UNIT,
        &["ReadWritePaths=/sys/bus/pci /sys/devices -/var/lib/vfio-bindd"],
    );
    is_clean(UNIT, "vfio-bindctl", env!("CARGO_BIN_EXE_vfio-bindctl"), 33);
}

#[test]
fn the_package_brings_enables_and_removes_it_and_never_starts_it() {
    assert!(file("packaging/deb.sh").contains("for unit in vfio-bindd vfio-bindd-early; do"));
    let scripts = ["postinst", "prerm", "postrm"];
    for script in scripts.map(|name| file(&format!("packaging/debian/{name}"))) {
        assert!(script.contains("vfio-bindd-early.service"), "{script}");
        let lines = script.lines().filter(|line| line.contains("early"));
        let invoked: Vec<_> = lines.filter(|line| line.contains("invoke")).collect();
        assert!(
            invoked.iter().all(|line| line.contains("stop")),
            "{invoked:?}"
        );
    }
}
