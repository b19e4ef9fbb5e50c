//! The units of helpers: a socket, and what takes the connections to it.

use crate::{
    file,
    unit::{has_in, is_clean, lacks, values_in},
};

pub(crate) const UNIT: &str = "systemd/vfio-bindd-helper.service";
const SOCKET: &str = "systemd/vfio-bindd-helper.socket";
const DAEMON: &str = "systemd/vfio-bindd.service";

#[test]
fn it_is_there_before_the_daemon_whenever_that_starts() {
    for key in ["After", "Wants"] {
        let named = values_in(DAEMON, key);
        assert!(named.contains("vfio-bindd-helper.socket"), "{key}");
    }
    for unit in [SOCKET, UNIT] {
        // A daemon that waits for a helper that waits for the daemon, or for
        // what the daemon is to come before, would wait for ever.
        assert!(values_in(unit, "After").is_empty(), "{unit}");
        for key in ["Requires", "Wants", "PrivateTmp", "StateDirectory"] {
            assert!(values_in(unit, key).is_empty(), "{unit}: {key}");
        }
        assert!(values_in(unit, "Before").contains("vfio-bindd.service"));
        has_in(
            unit,
            &["DefaultDependencies=no", "Conflicts=shutdown.target"],
        );
    }
}

#[test]
fn only_root_gets_one_and_not_too_many() {
    has_in(
        SOCKET,
        &[
            "ListenStream=/run/vfio-bindd/helper.sock",
            "SocketMode=0600",
            "RemoveOnStop=yes",
        ],
    );
    // The name that the daemon looks for, in the directory that it has.
    assert!(file("src/daemon/helpers.rs").contains("const SOCKET: &str = \"helper.sock\";"));
    has_in(DAEMON, &["RuntimeDirectory=vfio-bindd"]);
}

#[test]
fn one_that_hangs_is_nobodys_and_one_that_ended_is_forgotten() {
    has_in(
        UNIT,
        &[
            "ExecStart=/usr/bin/vfio-bindd --helpers",
            "StandardInput=socket",
            "StandardError=journal",
            "CollectMode=inactive-or-failed",
            "KillMode=process",
            "TimeoutStopSec=2s",
        ],
    );
    for key in ["PartOf", "BindsTo", "Restart"] {
        assert!(values_in(UNIT, key).is_empty(), "{key}");
    }
}

#[test]
fn it_may_do_what_helpers_do_and_no_more() {
    has_in(
        UNIT,
        &[
            "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_NET_ADMIN",
            "DevicePolicy=closed",
            "DeviceAllow=block-* r",
            "BindReadOnlyPaths=-/usr/lib/modules/%v:/run/vfio-bindd/modules",
            "ReadWritePaths=/sys/bus/pci /sys/devices -/var/lib/vfio-bindd",
        ],
    );
    assert_eq!(
        lacks(UNIT, DAEMON),
        [
            // It opens disks.
            "PrivateDevices=yes",
            // It has no use for /tmp, which is read-only, and would wait for it.
            "PrivateTmp=yes",
            "ReadOnlyPaths=/sys/bus /sys/devices /sys/module",
        ]
    );
    // What hides a part of the host from the guards.
    for key in [
        "PrivateNetwork",
        "PrivateUsers",
        "ProcSubset",
        // With CAP_SYS_PTRACE it hides nothing, without it everything.
        "ProtectProc",
    ] {
        assert!(values_in(UNIT, key).is_empty(), "{key}");
    }
    // CAP_NET_ADMIN, for what VFs are set to, is one tenth of it.
    is_clean(UNIT, "vfio-bindd", env!("CARGO_BIN_EXE_vfio-bindd"), 25);
}

#[test]
fn the_package_brings_both_and_stops_the_socket_at_its_removal() {
    for unit in ["vfio-bindd-helper.socket", "vfio-bindd-helper.service"] {
        assert!(file("packaging/deb.sh").contains(unit), "{unit}");
    }
    let prerm = file("packaging/debian/prerm");
    let mut lines = prerm.lines().filter(|line| line.contains(" stop "));
    assert!(lines.any(|line| line.contains("vfio-bindd-helper.socket")));
    // The daemon pulls the socket in: nobody enables it.
    assert!(values_in(SOCKET, "WantedBy").is_empty());
}
