//! The udev rules: for hotplug, and for whose nodes are.

use std::process::Command;

use clap::Parser as _;
use vfio_bindd::cli::args::{Cli, Verb};

use crate::{checked, file, is_content, path, unit::has_in};

const RULES: &str = "packaging/udev/60-vfio-bindd.rules";
const NODE_RULES: &str = "packaging/udev/99-vfio-bindd-nodes.rules";
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
fn nodes_are_whose_the_daemon_says_and_no_others_are_touched() {
    let text = file(NODE_RULES);
    let rules: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let folder = vfio_bindd::kernel::nodes::FOLDER;
    assert!(file("src/daemon/nodes.rs").contains("directory.join(\"nodes\")"));
    assert_eq!(folder, "/run/vfio-bindd/nodes");
    let (first, rest) = rules.split_first().unwrap();
    let (last, rest) = rest.split_last().unwrap();
    assert_eq!(*first, "ACTION==\"remove\", GOTO=\"vfio_bindd_nodes_end\"");
    assert_eq!(*last, "LABEL=\"vfio_bindd_nodes_end\"");
    // Not /dev/vfio/vfio, which is of the subsystem misc.
    assert!(
        rest.iter()
            .all(|rule| rule.starts_with("SUBSYSTEM==\"vfio"))
    );
    let imports: Vec<_> = rest.iter().filter(|rule| rule.contains(folder)).collect();
    assert_eq!(imports.len(), 2);
    let writer = file("src/daemon/nodes.rs");
    for key in ["OWNER", "GROUP", "MODE"] {
        let property = format!("VFIO_BINDD_{key}");
        assert!(writer.contains(&format!("{property}=")), "{property}");
        let rule = format!(
            "SUBSYSTEM==\"vfio|vfio-dev\", ENV{{{property}}}==\"?*\", {key}=\"$env{{{property}}}\""
        );
        assert!(rest.contains(&rule.as_str()), "{rule} is not there");
    }
}

#[test]
fn the_package_brings_them_and_udev_understands_them() {
    for rules in [RULES, NODE_RULES] {
        let name = rules.rsplit('/').next().unwrap();
        let target = format!("/usr/lib/udev/rules.d/{name}");
        assert!(file("packaging/deb.sh").contains(&format!("put 0644 {rules} {target}")));
        // Since systemd 254; the lab has one.
        let mut verify = Command::new("udevadm");
        if let Some(output) = checked(verify.args(["verify", "--no-summary"]).arg(path(rules)))
            && !String::from_utf8_lossy(&output.stderr).contains("Unknown command")
        {
            is_content(&output, rules);
        }
    }
}
