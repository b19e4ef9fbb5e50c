//! The package's scripts, and the config that it brings.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use vfio_bindd::policy::config::{Source, parse};

use crate::{checked, file, is_content, path};

const SCRIPTS: [&str; 15] = [
    "deb.sh",
    "deps.sh",
    "dracut/give-back.sh",
    "dracut/module-setup.sh",
    "dracut/take.sh",
    "dracut/waits-for-device.sh",
    "initramfs-tools/hook",
    "initramfs-tools/init-top",
    "initramfs-tools/local-block",
    "initramfs-tools/panic",
    "libvirt/hook",
    "nixos/eval.sh",
    "debian/postinst",
    "debian/prerm",
    "debian/postrm",
];

#[test]
fn scripts_are_shell() {
    for name in SCRIPTS {
        let script = path("packaging").join(name);
        let checker = Command::new("sh").arg("-n").arg(&script).output().unwrap();
        is_content(&checker, name);
        if let Some(checker) = checked(Command::new("shellcheck").arg(&script)) {
            is_content(&checker, name);
        }
    }
}

/// What systemctl says of its jobs, as an image of dracut hears it.
#[test]
fn a_boot_that_waits_for_a_device_is_told_from_one_that_checks_a_file_system() {
    let device = "25 dev-disk-by\\\\x2dlabel-root.device start running\\n";
    let check = "26 systemd-fsck-root.service start running\\n27 initrd.target start waiting\\n";
    for (jobs, waits) in [(device, true), (check, false), ("", false)] {
        let folder = tempfile::tempdir().unwrap();
        let systemctl = folder.path().join("systemctl");
        fs::write(&systemctl, format!("#!/bin/sh\nprintf '{jobs}'\n")).unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let script = path("packaging/dracut/waits-for-device.sh");
        let ended = Command::new("/bin/sh")
            .arg(script)
            .env("PATH", folder.path())
            .status()
            .unwrap();
        assert_eq!(ended.success(), waits, "{jobs}");
    }
}

#[test]
fn scripts_of_the_package_never_touch_what_is_bound() {
    for name in ["postinst", "prerm", "postrm"] {
        let script = file(&format!("packaging/debian/{name}"));
        assert!(
            script.contains("\nset -e\n"),
            "{name} goes on after an error"
        );
        for word in ["/sys", "unbind", "modprobe", "rmmod", "kill"] {
            let code = script.lines().filter(|line| !line.trim().starts_with('#'));
            let found: Vec<_> = code.filter(|line| line.contains(word)).collect();
            // The directory that says whether systemd runs is no sysfs.
            let found = found.iter().filter(|line| !line.contains("/run/systemd/"));
            assert_eq!(found.count(), 0, "{name} has {word}");
        }
    }
}

#[test]
fn the_config_that_is_installed_binds_nothing() {
    for name in ["packaging/config.toml", "config.example.toml"] {
        let sources = [Source {
            name: name.to_owned(),
            text: file(name),
        }];
        let config = parse(&sources).unwrap();
        assert!(config.policy.mappings.is_empty(), "{name}");
    }
}
