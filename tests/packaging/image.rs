//! What puts the early stage into an initramfs.

use std::process::Command;

use crate::{file, path};

const SCRIPTS: [&str; 4] = ["hook", "init-top", "local-block", "panic"];

/// What a script of initramfs-tools does when it is called like this.
fn run(script: &str, args: &[&str], start: Option<&str>) -> (i32, String) {
    let output = Command::new("sh")
        .arg(path("packaging/initramfs-tools").join(script))
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(start.map(|start| ("starttime", start)))
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8(told).unwrap();
    (output.status.code().unwrap(), told)
}

#[test]
fn scripts_answer_what_they_come_after() {
    for script in SCRIPTS {
        assert_eq!(
            run(script, &["prereqs"], None),
            (0, String::new()),
            "{script}"
        );
    }
}

#[test]
fn the_early_stage_comes_before_udev_and_gives_back_before_arrays_are_started() {
    let deb = file("packaging/deb.sh");
    for (folder, others) in [
        (
            "init-top",
            &["all_generic_ide", "blacklist", "keymap", "udev"][..],
        ),
        ("local-block", &["cryptroot", "lvm2", "mdadm"]),
    ] {
        let place = format!("scripts/{folder}/");
        let line = deb.lines().find(|line| line.contains(&place));
        let name = line.unwrap().rsplit('/').next().unwrap();
        for other in others {
            assert!(name < *other, "{name} runs after {other}");
        }
    }
}

#[test]
fn a_script_never_ends_a_boot() {
    // The program is not there: neither does its absence.
    for script in ["init-top", "panic"] {
        assert_eq!(run(script, &[], None).0, 0, "{script}");
    }
    assert_eq!(run("local-block", &["/dev/sda1"], Some("0")).0, 0);
}

#[test]
fn what_may_still_come_is_waited_for() {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let now: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    let just = run("local-block", &["/dev/sda1"], Some(&now.to_string()));
    assert_eq!(just, (0, String::new()));
    let late = run("local-block", &["/dev/sda1"], Some("0"));
    assert!(late.1.contains("/usr/lib/vfio-bindd/early"), "{late:?}");
}

#[test]
fn images_are_made_anew_with_the_package_and_without_it() {
    assert!(file("packaging/debian/triggers").contains("\nactivate-noawait update-initramfs\n"));
    assert!(file("packaging/debian/postrm").contains("rm -rf /var/lib/vfio-bindd/images\n"));
}

#[test]
fn what_looks_for_the_files_finds_them_where_the_package_puts_them() {
    let deb = file("packaging/deb.sh").replace("$initramfs", "/usr/share/initramfs-tools");
    let source = file("src/kernel/image.rs");
    for place in [
        "/usr/share/initramfs-tools/hooks/vfio-bindd",
        "/usr/lib/dracut/modules.d/90vfio-bindd/",
    ] {
        assert!(deb.contains(place) && source.contains(place), "{place}");
    }
    for script in [
        "initramfs-tools/init-top",
        "initramfs-tools/hook",
        "dracut/take.sh",
        "dracut/vfio-bindd-give-back.service",
    ] {
        let script = file(&format!("packaging/{script}"));
        assert!(script.contains("/usr/lib/vfio-bindd/early"), "{script}");
    }
}
