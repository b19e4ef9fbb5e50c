//! The files around the program keep up with it: man pages, the bus policy,
//! the unit, the package's scripts.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use clap::CommandFactory as _;
use vfio_bindd::{
    cli::args::Cli,
    daemon::{args::Args, journal},
    policy::guard::Guard,
};

fn file(name: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A man page as a reader sees it, without fonts and escapes.
fn page(name: &str) -> String {
    let text = file(&format!("packaging/man/{name}"));
    text.replace("\\-", "-")
        .replace("\\(dq", "\"")
        .replace("\\(aq", "'")
}

fn names_all(page_name: &str, words: impl IntoIterator<Item = String>) {
    let page = page(page_name);
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let known: BTreeSet<&str> = page
        .split(|c| !is_part(c))
        .flat_map(|word| [word, word.trim_start_matches('-')])
        .collect();
    let missing: Vec<_> = words
        .into_iter()
        .filter(|word| !known.contains(word.as_str()))
        .collect();
    assert!(missing.is_empty(), "{page_name} does not name {missing:?}");
}

/// Every command, long option and named value that is not hidden.
fn words_of(command: &clap::Command) -> Vec<String> {
    let mut words = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        words.extend(arg.get_long().map(str::to_owned));
        let values = arg.get_possible_values();
        words.extend(values.iter().map(|value| value.get_name().to_owned()));
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        words.push(sub.get_name().to_owned());
        words.extend(words_of(sub));
    }
    words.retain(|word| word != "true" && word != "false");
    words
}

#[test]
fn man_pages_name_every_command_option_and_value() {
    let (client, daemon) = (words_of(&Cli::command()), words_of(&Args::command()));
    assert!(
        client.len() > 20 && daemon.len() > 4,
        "{client:?} {daemon:?}"
    );
    names_all("vfio-bindctl.1", client);
    names_all("vfio-bindd.8", daemon);
}

#[test]
fn man_pages_name_every_key_class_and_guard() {
    // What the config's own messages list as known.
    let sources = [vfio_bindd::policy::config::Source {
        name: "c".to_owned(),
        text: "[x]\n[protect]\nx = 1\n[mapping.aa]\nx = 1\nmatch = [{ x = 1 }, { class = \"x\" }]\nexpect = { x = 1 }\n".to_owned(),
    }];
    let told = vfio_bindd::policy::config::parse(&sources)
        .unwrap_err()
        .to_string();
    let lists = told.lines().filter_map(|line| {
        line.split_once("one of: ")
            .or_else(|| line.split_once("or a name: "))
    });
    let words: Vec<String> = lists
        .flat_map(|(_, list)| list.split(", "))
        .map(str::to_owned)
        .collect();
    assert!(words.len() > 45, "{words:?} in {told}");
    names_all("vfio-bindd.toml.5", words);
    let guards = Guard::ALL.iter().map(|guard| guard.name().to_owned());
    names_all("vfio-bindd.toml.5", guards);
}

#[test]
fn man_pages_name_every_member_of_the_bus_and_every_message() {
    let members: Vec<String> = file("tests/bus/introspection.xml")
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let kinds = ["<method", "<signal", "<property"];
            kinds.iter().find(|kind| line.starts_with(**kind))?;
            Some(line.split("name=\"").nth(1)?.split('"').next()?.to_owned())
        })
        .collect();
    assert!(members.len() > 25, "{members:?}");
    names_all("org.vfiobindd1.5", members);
    let ids = [
        journal::BOUND,
        journal::NOT_BOUND,
        journal::STUCK,
        journal::CAME_BACK,
        journal::MAPPING,
        journal::LIFTED,
        journal::CONFIG_LOADED,
        journal::CONFIG_REJECTED,
        journal::SCAN_FAILED,
        journal::OVERRUN,
    ];
    names_all("vfio-bindd.8", ids.map(str::to_owned));
}

#[test]
fn man_pages_are_clean() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/man");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let lint = Command::new("mandoc")
            .args(["-Tlint", "-W", "warning"])
            .arg(&path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&lint.stdout);
        assert!(lint.status.success() && told.is_empty(), "{told}");
        let version = format!("vfio-bindd {}", env!("CARGO_PKG_VERSION"));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            page(name).contains(&version),
            "{name} is of another version"
        );
    }
}

#[test]
fn the_bus_policy_lets_everyone_read_and_only_root_change() {
    let policy = file("packaging/org.vfiobindd1.conf");
    let (root, default) = policy.split_once("context=\"default\"").unwrap();
    assert!(root.contains("<allow own=\"org.vfiobindd1\"/>"));
    let open: BTreeSet<&str> = default
        .split("send_member=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(open, BTreeSet::from(["Resolve", "ResolveWait", "Plan"]));
    // An interface of ours without its members named would open them all.
    for line in default
        .lines()
        .filter(|line| line.contains("\"org.vfiobindd1."))
    {
        assert!(line.contains("send_member="), "{line}");
    }
}

#[test]
fn the_unit_is_ready_before_whoever_starts_guests() {
    let unit = file("systemd/vfio-bindd.service");
    let values = |key: &str| -> BTreeSet<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key));
        lines
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    for guest in [
        "pvedaemon.service",
        "pve-ha-lrm.service",
        "pve-guests.service",
        "libvirtd.service",
        "virtqemud.service",
        "libvirt-guests.service",
        "microvms.target",
    ] {
        assert!(values("Before=").contains(guest), "{guest}");
    }
    // Instances are not ordered by their target.
    assert!(file("systemd/after-vfio-bindd.conf").contains("\nAfter=vfio-bindd.service\n"));
    for units in ["microvm@", "microvm-pci-devices@"] {
        assert!(file("packaging/deb.sh").contains(units), "{units}");
    }
    for line in [
        "Type=notify",
        "WatchdogSec=30s",
        "RuntimeDirectoryPreserve=yes",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    // It must never hold a boot up: nobody may need it.
    assert!(!unit.contains("RequiredBy="));
}

#[test]
fn the_packages_scripts_are_shell() {
    for script in [
        "deb.sh",
        "deps.sh",
        "debian/postinst",
        "debian/prerm",
        "debian/postrm",
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("packaging")
            .join(script);
        let checked = Command::new("sh").arg("-n").arg(path).output().unwrap();
        assert!(checked.status.success(), "{script}: {checked:?}");
    }
}

#[test]
fn the_config_that_is_installed_binds_nothing() {
    let sources = [vfio_bindd::policy::config::Source {
        name: "packaging/config.toml".to_owned(),
        text: file("packaging/config.toml"),
    }];
    let config = vfio_bindd::policy::config::parse(&sources).unwrap();
    assert!(config.policy.mappings.is_empty());
}
