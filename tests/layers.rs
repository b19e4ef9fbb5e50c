//! The folders are layers: an import goes down only, and crates that do IO are
//! named only where IO is allowed.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each layer may import. Not transitive: what is not listed is refused.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("pci", &[]),
    ("policy", &["pci"]),
    ("engine", &["policy", "pci"]),
    ("hooks", &["pci"]),
    ("kernel", &["policy", "pci"]),
    ("bus", &["engine", "policy", "pci"]),
    ("daemon", &["bus", "engine", "kernel", "policy", "pci"]),
    (
        "cli",
        &["bus", "engine", "hooks", "kernel", "policy", "pci"],
    ),
    (
        "bin",
        &["bus", "cli", "daemon", "engine", "kernel", "policy", "pci"],
    ),
];

/// What only these layers (or files) may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("udev::", &["kernel/uevent.rs"]),
    ("zbus::", &["bus", "cli"]),
    ("tokio::", &["kernel", "bus", "daemon", "cli", "bin"]),
    ("rustix::", &["kernel", "bus", "daemon", "cli", "bin"]),
    ("std::fs", &["kernel", "daemon", "cli", "bin"]),
    ("std::process", &["kernel", "daemon", "cli", "bin"]),
    ("Instant::now", &["kernel", "bus", "daemon", "cli", "bin"]),
    ("SystemTime", &["kernel", "bus", "daemon", "cli", "bin"]),
    ("sd_notify", &["daemon"]),
    ("tracing_journald", &["daemon"]),
    ("clap::", &["cli", "bin", "daemon"]),
    ("unsafe_code", &["kernel/uevent.rs"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source below `src` by its path there, without comments.
fn tree() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let code = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            (name, code)
        })
        .collect()
}

fn layer(file: &str) -> Option<&str> {
    file.split_once('/').map(|(layer, _)| layer)
}

/// Names that follow `crate::` or `vfio_bindd::`, also in a braced list.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for prefix in ["crate::", "vfio_bindd::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = code.get(at + prefix.len()..).unwrap();
            match rest.strip_prefix('{') {
                None => names.extend(first_word(rest)),
                Some(list) => {
                    let mut depth = 0;
                    let mut start = true;
                    for (index, c) in list.char_indices() {
                        match c {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => start = true,
                            c if start && c.is_alphabetic() => {
                                names.extend(first_word(list.get(index..).unwrap()));
                                start = false;
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    names
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

#[test]
fn imports_go_down_only() {
    let rules: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, code) in tree() {
        let Some(from) = layer(&file) else { continue };
        let allowed = rules
            .get(from)
            .unwrap_or_else(|| panic!("{file}: the folder {from} is no layer"));
        for to in imports(&code) {
            if to != from && rules.contains_key(to.as_str()) && !allowed.contains(&to.as_str()) {
                wrong.push(format!("{file} imports {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports: {wrong:#?}");
}

#[test]
fn io_is_named_only_where_it_is_allowed() {
    let mut wrong = Vec::new();
    for (file, code) in tree() {
        for (name, places) in ONLY_IN {
            let allowed = places
                .iter()
                .any(|place| file == *place || layer(&file) == Some(place));
            if code.contains(name) && !allowed {
                wrong.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_sees_them() {
    let code = "use crate::pci::address::Address;\nuse crate::{\n  policy::{plan, model},\n  engine::state,\n};\nlet x = crate::bus::api::NAME;";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["bus", "engine", "pci", "policy"]);
}
