//! The udev rule for hotplug.

use std::process::Command;

use clap::Parser as _;
use vfio_bindd::cli::args::{Cli, Verb};

use crate::{checked, file, is_content, path, unit::has_in};

const RULES: &str = "packaging/udev/60-vfio-bindd.rules";
const SOCKET: &str = "/run/vfio-bindd/hotplug.sock";

/// The one rule.
fn rule() -> String {
    let text = file(RULES);
    let rules = text.lines().filter(|line| !line.starts_with('#'));
    let rules: Vec<_> = rules.filter(|line| !line.is_empty()).collect();
    assert_eq!(rules.len(), 1, "{rules:?}");
    rules.concat()
}

#[test]
fn it_is_for_what_is_plugged_in_only_and_last_of_all_it_asks() {
    let rule = rule();
    let keys: Vec<_> = rule.split(", ").collect();
    assert_eq!(
        keys,
        [
            "ACTION==\"add\"",
            "SUBSYSTEM==\"pci\"",
            // Set by whatever is not the kernel's own: lib/kobject_uevent.c,
            // `kobject_action_args`, v6.12.
            "ENV{SYNTH_UUID}!=\"?*\"",
            "ATTR{class}!=\"0x0604*\"",
            &format!("TEST==\"{SOCKET}\""),
            "PROGRAM==\"/usr/bin/vfio-bindctl hotplug $kernel\"",
        ]
    );
}

#[test]
fn what_it_runs_is_a_command_that_asks_where_the_daemon_listens() {
    let rule = rule();
    let (_, program) = rule.split_once("PROGRAM==\"/usr/bin/").unwrap();
    let program = program.trim_end_matches('"');
    let called = program.replace("$kernel", "10000:e1:00.0");
    let cli = Cli::try_parse_from(called.split(' ')).unwrap();
    assert!(
        matches!(cli.verb, Verb::Hotplug { address } if address.to_string() == "10000:e1:00.0")
    );
    assert!(file("src/cli/hotplug.rs").contains(SOCKET));
    has_in(
        "systemd/vfio-bindd.service",
        &["RuntimeDirectory=vfio-bindd"],
    );
    assert!(file("src/daemon/hotplug.rs").contains("join(\"hotplug.sock\")"));
}

#[test]
fn the_package_brings_it_and_udev_understands_it() {
    let target = "/usr/lib/udev/rules.d/60-vfio-bindd.rules";
    assert!(file("packaging/deb.sh").contains(&format!("put 0644 {RULES} {target}")));
    // Since systemd 254; the lab has one.
    let mut verify = Command::new("udevadm");
    if let Some(output) = checked(verify.args(["verify", "--no-summary"]).arg(path(RULES)))
        && !String::from_utf8_lossy(&output.stderr).contains("Unknown command")
    {
        is_content(&output, RULES);
    }
}
