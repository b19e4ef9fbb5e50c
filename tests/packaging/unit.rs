//! The service's unit.

use std::{collections::BTreeSet, fs, process::Command};

use crate::{checked, file, path};

const UNIT: &str = "systemd/vfio-bindd.service";

fn values(key: &str) -> BTreeSet<String> {
    values_in(UNIT, key)
}

fn has(lines: &[&str]) {
    has_in(UNIT, lines);
}

/// What `unit` says to `key`, in all lines of it.
pub(crate) fn values_in(unit: &str, key: &str) -> BTreeSet<String> {
    let unit = file(unit);
    let start = format!("{key}=");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(&start));
    let words = lines.flat_map(str::split_whitespace);
    words.map(str::to_owned).collect()
}

pub(crate) fn has_in(unit: &str, lines: &[&str]) {
    let unit = file(unit);
    for line in lines {
        assert!(has_line(&unit, line), "{line} is not there");
    }
}

#[test]
fn it_is_ready_before_whoever_starts_guests() {
    for guest in [
        "pvedaemon.service",
        "pve-ha-lrm.service",
        "pve-guests.service",
        "libvirtd.service",
        "virtqemud.service",
        "libvirt-guests.service",
        "microvms.target",
    ] {
        assert!(values("Before").contains(guest), "{guest}");
    }
    // Instances are not ordered by their target.
    assert!(file("systemd/after-vfio-bindd.conf").contains("\nAfter=vfio-bindd.service\n"));
    for units in ["microvm@", "microvm-pci-devices@"] {
        assert!(file("packaging/deb.sh").contains(units), "{units}");
    }
    has(&[
        "Type=notify",
        "WatchdogSec=30s",
        "WantedBy=multi-user.target",
    ]);
}

#[test]
fn it_holds_up_and_brings_down_nobody() {
    // With sysinit.target after it, dbus.socket would make a circle.
    assert!(values("DefaultDependencies").is_empty());
    for key in ["RequiredBy", "Requires", "BindsTo", "PartOf"] {
        assert!(values(key).is_empty(), "{key}");
    }
    has(&["TimeoutStartSec=60s", "TimeoutStopSec=10s"]);
    // What is left is stopped with it, and nothing that hangs is: helpers are in
    // units of their own.
    assert!(values("KillMode").is_empty());
}

#[test]
fn a_restart_finds_what_was_held_and_everyone_can_read_it() {
    has(&[
        "RuntimeDirectory=vfio-bindd",
        "RuntimeDirectoryPreserve=yes",
        "StateDirectory=vfio-bindd",
    ]);
    assert!(values("RuntimeDirectoryMode").is_empty());
    assert!(values("StateDirectoryMode").is_empty());
}

#[test]
fn it_is_hardened() {
    has(&[
        "CapabilityBoundingSet=",
        "IPAddressDeny=any",
        "KeyringMode=private",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "NoNewPrivileges=yes",
        "PrivateDevices=yes",
        "PrivateMounts=yes",
        "PrivateTmp=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHome=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectSystem=strict",
        "ReadOnlyPaths=/sys/bus /sys/devices /sys/module",
        "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "UMask=0077",
    ]);
    for key in [
        // Devices are not its own to open, nor sysfs to write.
        "DeviceAllow",
        "ReadWritePaths",
        // What hides a part of the host from it: netdevs, the boot's ID, helpers
        // of an earlier start.
        "PrivateNetwork",
        "ProcSubset",
        "ProtectProc",
        // It does not start where user namespaces are turned off.
        "PrivateUsers",
    ] {
        assert!(values(key).is_empty(), "{key}");
    }
}

#[test]
fn systemd_finds_it_clean_and_not_exposed() {
    is_clean(UNIT, "vfio-bindd", env!("CARGO_BIN_EXE_vfio-bindd"), 14);
}

/// What confines the unit `from` and not `unit`.
pub(crate) fn lacks(unit: &str, from: &str) -> Vec<String> {
    let (from, unit) = (file(from), file(unit));
    let (_, sandbox) = from.split_once("CapabilityBoundingSet=").unwrap();
    let (sandbox, _) = sandbox.split_once("[Install]").unwrap_or((sandbox, ""));
    let settings = sandbox.lines().skip(1).filter(|line| line.contains('='));
    let missing = settings.filter(|line| !line.starts_with('#') && !has_line(&unit, line));
    missing.map(str::to_owned).collect()
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

/// systemd has nothing to say about `unit`, which starts `program`, and finds it
/// no more exposed than `most` tenths of a point.
pub(crate) fn is_clean(unit: &str, program: &str, built: &str, most: u32) {
    let folder = tempfile::tempdir().unwrap();
    // What it names of the package is there, too.
    for entry in fs::read_dir(path("systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = file(&format!("systemd/{name}"));
        let installed = text.replace(&format!("/usr/bin/{program}"), built);
        fs::write(folder.path().join(name), installed).unwrap();
    }
    let path = folder.path().join(unit.rsplit('/').next().unwrap());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(built), "{text}");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    let Some(verified) = checked(verify.arg(&path)) else {
        return;
    };
    // It reads all units of this machine, and may have a word on those too.
    let told = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = told
        .lines()
        .filter(|line| line.contains("vfio-bindd") || line.contains("cycle"))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager"]);
    security.arg(format!("--threshold={most}"));
    let judged = checked(security.arg(&path)).unwrap();
    let told = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{told}{judged:?}");
}
