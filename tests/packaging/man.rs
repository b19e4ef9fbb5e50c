//! Man pages name what there is.

use std::{collections::BTreeSet, fs, process::Command};

use clap::CommandFactory as _;
use vfio_bindd::{
    cli::args::Cli,
    daemon::args::Args,
    policy::{
        config::{Source, parse},
        guard::Guard,
        pattern::ClassPattern,
    },
};

use crate::{
    checked, file, is_content,
    members::{errors, members},
    path,
};

/// A man page as a reader sees it, without escapes.
fn page(name: &str) -> String {
    file(&format!("packaging/man/{name}"))
        .replace("\\-", "-")
        .replace("\\(dq", "\"")
        .replace("\\(aq", "'")
}

fn words(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.split(|c| !is_part(c))
        .map(|word| word.trim_end_matches('.'))
        .collect()
}

/// The page says each of `wanted` somewhere.
fn says(name: &str, wanted: impl IntoIterator<Item = String>) {
    lacks_none(name, &words(&page(name)), wanted);
}

/// The page has a paragraph of its own for each of `wanted`.
fn describes(name: &str, wanted: impl IntoIterator<Item = String>) {
    let page = page(name);
    let tags: Vec<_> = page
        .lines()
        .zip(page.lines().skip(1))
        .filter(|(before, _)| *before == ".TP")
        .map(|(_, tag)| tag)
        .collect();
    lacks_none(name, &words(&tags.join("\n")), wanted);
}

fn lacks_none(name: &str, known: &BTreeSet<&str>, wanted: impl IntoIterator<Item = String>) {
    let missing: Vec<_> = wanted
        .into_iter()
        .filter(|word| !known.contains(word.as_str()))
        .collect();
    assert!(missing.is_empty(), "{name} lacks {missing:?}");
}

/// Texts between quotes that begin lines of `text` after `start`.
fn quoted(text: &str, start: impl Fn(&str) -> bool) -> Vec<String> {
    text.lines()
        .filter(|line| start(line))
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

#[derive(Default)]
struct Words {
    /// Commands and long options.
    names: Vec<String>,
    /// What an option or argument may be.
    values: Vec<String>,
}

impl Words {
    /// Adds all of `command` that is not hidden.
    fn add(&mut self, command: &clap::Command) {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            self.names
                .extend(arg.get_long().map(|long| format!("--{long}")));
            let values = arg.get_possible_values();
            let values = values.iter().map(|value| value.get_name().to_owned());
            self.values
                .extend(values.filter(|value| value != "true" && value != "false"));
        }
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            self.names.push(sub.get_name().to_owned());
            self.add(sub);
        }
    }
}

#[test]
fn every_command_option_value_and_exit_code_is_there() {
    let (mut client, mut daemon) = (Words::default(), Words::default());
    client.add(&Cli::command());
    daemon.add(&Args::command());
    assert!(client.names.len() > 20, "{:?}", client.names);
    assert!(client.values.len() > 10, "{:?}", client.values);
    assert!(daemon.names.len() > 4, "{:?}", daemon.names);
    describes("vfio-bindctl.1", client.names);
    says("vfio-bindctl.1", client.values);
    describes("vfio-bindd.8", daemon.names);
    says("vfio-bindd.8", daemon.values);
    let exit = file("src/cli/exit.rs");
    let codes: Vec<_> = exit
        .lines()
        .filter_map(|line| line.split_once(" = ")?.1.strip_suffix(','))
        .filter(|code| code.parse::<u8>().is_ok())
        .map(str::to_owned)
        .collect();
    assert!(codes.len() > 5, "{codes:?}");
    describes("vfio-bindctl.1", codes);
}

#[test]
fn every_key_value_class_and_guard_of_the_config_is_there() {
    // What the config's own messages list as known.
    let wrong = "x = 1\nmatch = [{ x = 1 }]\nexpect = { x = 1 }\n";
    let sriov = "[sriov.aa]\nx = 1\n[[sriov.aa.vf]]\nx = 1\nlink_state = \"?\"\nvlan = { x = 1 }\n\
                 [sriov.bb]\npf = { x = 1 }\nvfs = 1\n";
    let settings = ["functions", "placement", "driver", "detach", "group"];
    let settings: String = settings.map(|key| format!("{key} = \"?\"\n")).concat();
    let sources = [Source {
        name: "c".to_owned(),
        text: format!("[x]\n[protect]\nx = 1\n{sriov}[mapping.aa]\n{wrong}{settings}"),
    }];
    let told = parse(&sources).unwrap_err().to_string();
    let lists = |start: &'static str| -> Vec<String> {
        let lists = told
            .lines()
            .filter_map(move |line| Some(line.split_once(start)?.1));
        let words = lists.flat_map(|list| list.split(", "));
        words.map(|word| word.replace('"', "")).collect()
    };
    let mut keys = lists("expected one of: ");
    assert!(keys.len() > 25, "{keys:?} in {told}");
    let values = lists("is not one of ");
    assert!(values.len() > 7, "{values:?} in {told}");
    // Sections, and what is inside of a value.
    let inner = [
        "mapping", "sriov", "protect", "min", "max", "id", "qos", "protocol",
    ];
    keys.retain(|key| !inner.contains(&key.as_str()));
    let page = "vfio-bindd.toml.5";
    describes(page, keys);
    says(page, values);
    says(page, inner.map(str::to_owned));
    says(page, ClassPattern::names().map(str::to_owned));
    describes(page, Guard::ALL.iter().map(|guard| guard.name().to_owned()));
}

#[test]
fn every_check_of_the_doctor_is_there() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path("src/policy/doctor")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        let is_name = |line: &str| {
            let line = line.trim_start();
            line.starts_with("const ") && line.contains(": &str = ")
        };
        names.extend(quoted(&source, is_name));
    }
    // Not a check's: a module that is gone.
    names.remove("vfio_virqfd");
    assert!(names.len() > 20, "{names:?}");
    describes("vfio-bindctl.1", names);
}

#[test]
fn every_member_state_and_error_of_the_bus_is_there() {
    let page = "org.vfiobindd1.5";
    for kind in ["method", "signal", "property"] {
        describes(page, members(kind));
    }
    let errors = errors().into_iter();
    describes(
        page,
        errors.map(|error| format!("org.vfiobindd1.Error.{error}")),
    );
    let states = quoted(&file("src/engine/snapshot.rs"), |line| {
        line.starts_with("        ") && line.ends_with("\",")
    });
    assert!(states.len() > 14, "{states:?}");
    says(page, states);
}

#[test]
fn every_field_and_message_of_the_journal_is_there() {
    let source = ["mod", "functions", "vfs"];
    let source = source.map(|name| file(&format!("src/daemon/journal/{name}.rs")));
    let source = source.concat();
    let is_id = |id: &String| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
    let mut ids = quoted(&source, |line| line.starts_with("pub const "));
    ids.retain(is_id);
    assert!(ids.len() > 9, "{ids:?}");
    describes("vfio-bindd.8", ids);
    let fields = words(&source).into_iter().map(str::to_owned);
    let fields: Vec<_> = fields.filter(|word| word.starts_with("VFIO_")).collect();
    assert!(fields.len() > 3, "{fields:?}");
    describes("vfio-bindd.8", fields);
    describes("vfio-bindd.8", ["MESSAGE_ID".to_owned()]);
}

#[test]
fn pages_are_clean_and_of_this_version() {
    for entry in fs::read_dir(path("packaging/man")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let version = format!("vfio-bindd {}", env!("CARGO_PKG_VERSION"));
        let page = page(name);
        let title = page.lines().next().unwrap();
        assert!(title.contains(&version), "{name} is of another version");
        let mut mandoc = Command::new("mandoc");
        if let Some(lint) = checked(mandoc.args(["-Tlint", "-W", "warning"]).arg(&path)) {
            is_content(&lint, name);
        }
    }
}
