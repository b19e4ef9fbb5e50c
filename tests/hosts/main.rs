//! Plans for recorded hosts: each host below this folder with each of its
//! configs gives the plan beside it.
//!
//! `HOST.jsonl` is a recorded host, `HOST/CASE.toml` a config for it and
//! `HOST/CASE.plan` what is planned; `explain/` has what is said of some of it.
//! `BLESS=1 cargo test --test hosts` writes hosts, plans and
//! explanations anew; read them before you commit them. `tree/` has trees.
//! What the doctor says of some hosts is in `HOST/CASE.doctor` and
//! `HOST/CASE.doctor.json`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says no by a panic"
)]

mod doctor;
mod explanations;
mod make;
mod pins;
mod plans;
mod records;
mod render;
mod trees;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use make::{MADE, Made, beside};
use vfio_bindd::{
    kernel::record::{self, Record},
    pci::inventory::Inventory,
    policy::{
        config::{Source, parse},
        model::Policy,
    },
};

/// A config for a recorded host.
struct Case {
    /// `HOST/CASE`.
    name: String,
    host: Inventory,
    policy: Policy,
    golden: PathBuf,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

fn file(name: &str) -> PathBuf {
    folder().join(name).with_extension("jsonl")
}

/// The text of every recorded host by its name. Those that code makes are not
/// read from their files, which one test writes when blessing.
fn records() -> BTreeMap<String, String> {
    let files = fs::read_dir(folder()).unwrap();
    let mut records: BTreeMap<_, _> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    records.extend(MADE.iter().map(|made| (made.name.to_owned(), text(made))));
    records
}

fn made(made: &Made) -> Record {
    Record {
        kernel: made.kernel.to_owned(),
        facts: beside(made),
        inventory: (made.inventory)(),
    }
}

fn text(one: &Made) -> String {
    record::write(&made(one)).unwrap()
}

fn hosts() -> BTreeMap<String, Inventory> {
    let parse = |text: &str| record::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let records = records().into_iter();
    records
        .map(|(name, text)| (name, parse(&text).inventory))
        .collect()
}

/// Checks that the file holds `text`, or writes it when blessing.
fn check(path: &Path, text: &str) {
    if env::var_os("BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    if golden == text {
        return;
    }
    let line = golden
        .lines()
        .zip(text.lines())
        .take_while(|(golden, text)| golden == text)
        .count();
    panic!(
        "{} differs at line {}:\n  file: {}\n  now:  {}\n{text}",
        path.display(),
        line + 1,
        golden.lines().nth(line).unwrap_or("(its end)"),
        text.lines().nth(line).unwrap_or("(its end)"),
    );
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (host_name, host) in hosts() {
        let mut configs: Vec<_> = fs::read_dir(folder().join(&host_name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
            .collect();
        configs.sort();
        assert!(!configs.is_empty(), "{host_name} has no config");
        for path in configs {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let name = format!("{host_name}/{stem}");
            let source = Source {
                name: format!("{name}.toml"),
                text: fs::read_to_string(&path).unwrap(),
            };
            let config = parse(&[source]).unwrap_or_else(|errors| panic!("{errors}"));
            cases.push(Case {
                name,
                host: host.clone(),
                policy: config.policy,
                golden: path.with_extension("plan"),
            });
        }
    }
    cases
}
