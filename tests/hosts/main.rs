//! Recorded hosts and what configs make of them, as golden plans.
//!
//! `NAME.jsonl` is a host, `NAME/CASE.toml` a config for it and
//! `NAME/CASE.plan` the plan. `lab.jsonl` was recorded in the lab; the others
//! are made by `make.rs`. `BLESS=1` writes hosts and plans anew.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says no by a panic"
)]

mod make;

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use vfio_bindd::{
    kernel::record,
    pci::inventory::Inventory,
    policy::{
        config::{Source, parse},
        plan::{Plan, plan},
        resolve::Held,
    },
};

const HOSTS: &[&str] = &["gpu-server", "nic-vfs", "lab"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

fn host(name: &str) -> Inventory {
    match name {
        "gpu-server" => make::gpu_server(),
        "nic-vfs" => make::nic_vfs(),
        _ => record::parse(&recorded(name)).unwrap(),
    }
}

fn recorded(name: &str) -> String {
    fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap()
}

/// Compares with a golden file, or writes it.
fn golden(path: &Path, now: &str) {
    if env::var_os("BLESS").is_some() {
        fs::write(path, now).unwrap();
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(now, wanted, "{} is of another opinion", path.display());
}

fn planned(inventory: &Inventory, config: &Path) -> Plan {
    let source = Source {
        name: config.display().to_string(),
        text: fs::read_to_string(config).unwrap(),
    };
    let config = parse(&[source]).unwrap();
    plan(inventory, &config.policy, &Held::new())
}

/// The plan in lines that a person can check against the host.
fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (name, mapping) in &plan.mappings {
        let verdict = format!("{:?}", mapping.verdict).to_lowercase();
        writeln!(text, "{name}: {verdict} {}", mapping.reason).unwrap();
        for chosen in &mapping.functions {
            writeln!(text, "    {} by {}", chosen.address, chosen.why).unwrap();
        }
        for refusal in &mapping.refusals {
            let guard = refusal.guard.unwrap_or("-");
            writeln!(
                text,
                "    {} refused ({guard}): {}",
                refusal.address, refusal.reason
            )
            .unwrap();
        }
        for lifted in &mapping.lifted {
            writeln!(text, "    {} allowed: {}", lifted.address, lifted.reason).unwrap();
        }
    }
    writeln!(text, "\nto be done:").unwrap();
    for action in &plan.actions {
        let from = action.detach.as_deref().unwrap_or("none");
        let (driver, mappings) = (action.driver, action.mappings.join(", "));
        writeln!(
            text,
            "    {} {from} -> {driver} for {mappings}",
            action.address
        )
        .unwrap();
    }
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[test]
fn the_made_up_hosts_are_as_they_are_made() {
    for name in ["gpu-server", "nic-vfs"] {
        let written = record::write(&host(name), "6.12.0-made-up").unwrap();
        golden(&folder().join(format!("{name}.jsonl")), &written);
    }
    let vfs = make::nic_vfs();
    let vfs = vfs
        .iter()
        .filter(|one| matches!(one.role, vfio_bindd::pci::function::Role::Vf { .. }));
    assert_eq!(vfs.count(), 512);
}

#[test]
fn every_config_has_its_plan() {
    let mut cases = 0;
    for name in HOSTS {
        let inventory = host(name);
        for entry in fs::read_dir(folder().join(name)).unwrap() {
            let config = entry.unwrap().path();
            if config
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                golden(
                    &config.with_extension("plan"),
                    &text(&planned(&inventory, &config)),
                );
                cases += 1;
            }
        }
    }
    assert!(cases >= 6, "{cases}");
}

#[test]
fn a_plan_does_not_hang_on_the_order_in_which_functions_were_found() {
    for name in HOSTS {
        let forward = host(name);
        let backward: Inventory = forward.iter().rev().cloned().collect();
        for entry in fs::read_dir(folder().join(name)).unwrap() {
            let config = entry.unwrap().path();
            if config
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                assert_eq!(planned(&forward, &config), planned(&backward, &config));
            }
        }
    }
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    for name in HOSTS {
        let text = recorded(name);
        let head: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let kernel = head["kernel"].as_str().unwrap();
        assert_eq!(
            record::write(&record::parse(&text).unwrap(), kernel).unwrap(),
            text
        );
    }
}

#[test]
fn a_redacted_record_keeps_what_is_equal_and_nothing_else_of_a_serial_number() {
    let serials = |inventory: &Inventory| -> Vec<Option<String>> {
        let inspections = inventory.iter().map(|one| one.inspection.clone());
        inspections
            .map(|one| one.and_then(|one| one.serial))
            .collect()
    };
    let mut inventory = host("gpu-server");
    let first = inventory
        .iter()
        .find(|one| one.id == "10de:2330".parse().unwrap());
    let address = first.unwrap().address;
    let same = inventory.get(address).unwrap().inspection.clone();
    let twin = inventory
        .iter()
        .filter(|one| one.id == "10de:2330".parse().unwrap())
        .nth(1);
    let twin = twin.unwrap().address;
    inventory.get_mut(twin).unwrap().inspection = same;
    let before = serials(&inventory);
    record::redact(&mut inventory);
    let after = serials(&inventory);
    for (index, (old, new)) in before.iter().zip(&after).enumerate() {
        assert_eq!(old.is_some(), new.is_some());
        for (other_old, other_new) in before.iter().zip(&after).skip(index) {
            assert_eq!(old == other_old, new == other_new);
        }
        assert!(old.is_none() || !before.contains(new), "{new:?}");
    }
    assert!(before.iter().flatten().count() > 12);
}

#[test]
fn what_is_no_record_is_told_with_its_line() {
    let head = "{\"vfio-bindd-host\":1,\"kernel\":\"6.1\"}\n";
    let function = "{\"address\":\"0000:01:00.0\",\"id\":\"8086:10d3\",\"class\":\"020000\",\"path\":\"0000:00:01.0/00.0\"}\n";
    assert_eq!(
        record::parse(&format!("{head}{function}")).unwrap().len(),
        1
    );
    for (text, wanted) in [
        (String::new(), "line 1: the text is empty"),
        ("# lspci\n".to_owned(), "line 1: this is no recorded host"),
        (
            head.replace(":1,", ":2,"),
            "line 1: format 2 is not known; expected 1",
        ),
        (
            format!("{head}{function}oops\n"),
            "line 3: this is no function",
        ),
        (
            format!("{head}{function}{function}"),
            "line 3: 0000:01:00.0 is there twice",
        ),
    ] {
        let told = record::parse(&text).unwrap_err().to_string();
        assert!(told.starts_with(wanted), "{told}");
    }
}
