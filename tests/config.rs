//! What a config means, and what is said of a bad one, word for word.
//!
//! `BLESS=1 cargo test --test config` writes the expected texts anew; read
//! them before you commit them.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::prelude::*;
use vfio_bindd::policy::{
    config::{Config, ConfigErrors, Source, parse},
    guard::Guard,
    model::{Detach, DriverChoice, Expect, Extent, GroupRule, VFIO_DRIVERS},
};

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    parse(&[source("config.toml", text)])
}

fn errors(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn bad_files_are_told_word_for_word() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    names.sort();
    assert!(names.len() >= 5);
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let found = parse(&[source(name, &text)]).unwrap_err().to_string();
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&expected).unwrap(), "{name}");
    }
}

#[test]
fn a_whole_mapping_means_what_it_says() {
    let config = read(
        r#"
        [mapping.gpu]
        description = "GPUs"
        match = { id = "10de:2684", numa = [1, "none"] }
        exclude = [{ serial = "48-*" }, { kind = ["vf"] }]
        functions = "slot"
        expect = { min = 1, max = 4 }
        take = 2
        detach = "never"
        allow = ["console", "storage"]
        partial = true
        owner = "microvm"
        group = ["take", "kvm"]
        mode = "0640"
        reset_method = ["flr", "bus"]
        d3cold = false
        power = "on"
        resize_bar = { "0" = "8G", 2 = "256M" }
        [protect]
        match = { address = "00:1f.*" }
        "#,
    )
    .unwrap();
    let gpu = config.policy.mappings.get("gpu").unwrap();
    assert_eq!(gpu.description, "GPUs");
    let selector = gpu.matches.first().unwrap().to_string();
    assert_eq!(selector, "id=10de:2684 numa=1,none");
    assert_eq!(gpu.exclude.len(), 2);
    assert_eq!(gpu.extent, Extent::Slot);
    assert_eq!(
        gpu.expect,
        Expect {
            min: 1,
            max: Some(4)
        }
    );
    assert_eq!(gpu.take, Some(2));
    assert_eq!(gpu.driver, DriverChoice::VfioPci);
    assert_eq!(gpu.detach, Detach::Never);
    assert_eq!(gpu.allow, BTreeSet::from([Guard::Console, Guard::Storage]));
    assert!(gpu.partial);
    assert_eq!(gpu.group, GroupRule::Take);
    assert_eq!(
        gpu.ownership.to_string(),
        "owner microvm, group kvm, mode 0640"
    );
    assert_eq!(
        gpu.knobs.to_string(),
        "reset_method \"flr bus\", d3cold false, power on, BAR 0 8G, BAR 2 256M"
    );
    let one = read("[mapping.nic]\nmatch = { numa = 0 }\nreset_method = \"pm\"").unwrap();
    assert_eq!(
        one.policy.mappings["nic"].knobs.reset_words().as_deref(),
        Some("pm")
    );
    assert!(one.policy.asks_for_settings());
    assert_eq!(config.policy.protect.len(), 1);
}

#[test]
fn every_term_is_read() {
    let config = read(
        r#"[mapping.all]
        match = { id = ["8086:*"], subsystem = "*:0001", class = "0108*", address = "3b:00",
            path = "0000:00:*", slot = "5", serial = "*", numa = 0, iommu_group = [1, 2],
            vf_of = "enp*", vf = "0,2-7", kind = "vf" }"#,
    )
    .unwrap();
    let all = config.policy.mappings.get("all").unwrap();
    let terms = all.matches.first().unwrap().terms();
    let names: BTreeSet<_> = terms.iter().map(|term| term.name()).collect();
    assert_eq!(names.len(), 11);
}

#[test]
fn defaults_and_numbers() {
    let config = read(
        "mapping.nic.match = { numa = 0 }\nmapping.nic.expect = 2\nmapping.nic.take = \"all\"",
    );
    let policy = config.unwrap().policy;
    let nic = policy.mappings.get("nic").unwrap();
    assert_eq!(
        nic.expect,
        Expect {
            min: 2,
            max: Some(2)
        }
    );
    assert_eq!((nic.take, nic.group), (None, GroupRule::Refuse));
    assert_eq!(read("").unwrap().policy.mappings.len(), 0);
}

#[test]
fn files_add_up_and_a_name_in_two_is_told_with_both_places() {
    let one = source(
        "a.toml",
        "[mapping.gpu]\nmatch = { numa = 0 }\n[protect]\nmatch = { numa = 1 }",
    );
    let two = source(
        "b.toml",
        "[mapping.nic]\nmatch = { numa = 0 }\n[protect]\nmatch = { numa = 2 }",
    );
    let both = parse(&[one.clone(), two]).unwrap().policy;
    assert_eq!((both.mappings.len(), both.protect.len()), (2, 2));
    let again = source("c.toml", "\n[mapping.gpu]\nmatch = { numa = 0 }");
    let text = parse(&[one, again]).unwrap_err().to_string();
    assert!(
        text.starts_with("c.toml:2:10: mapping `gpu` is defined twice"),
        "{text}"
    );
    assert!(text.contains("it is defined at a.toml:1 already"), "{text}");
}

#[test]
fn a_driver_is_one_of_vfio_or_left_open() {
    let with = |driver: &str| {
        let text = format!("[mapping.gpu]\nmatch = {{ numa = 0 }}\ndriver = \"{driver}\"");
        let config = read(&text).map_err(|errors| errors.to_string())?;
        Ok::<_, String>(config.policy.mappings["gpu"].driver)
    };
    assert_eq!(with("auto"), Ok(DriverChoice::Auto));
    assert_eq!(with("vfio-pci"), Ok(DriverChoice::VfioPci));
    for name in VFIO_DRIVERS.into_iter().filter(|name| *name != "vfio-pci") {
        assert_eq!(with(name), Ok(DriverChoice::Variant(name)));
    }
    // A module's name is no driver's, and any other driver would ruin a device.
    for (wrong, near) in [
        ("xe_vfio_pci", "; did you mean \"xe-vfio-pci\"?"),
        ("e1000e", ""),
        ("pci-stub", ""),
        ("", ""),
    ] {
        let text = with(wrong).unwrap_err();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            format!(
                "config.toml:3:10: `driver` is not one of \"auto\", \"{}\"{near}",
                VFIO_DRIVERS.join("\", \"")
            )
        );
    }
}

#[test]
fn a_group_is_a_rule_or_of_users() {
    let with = |group: &str| {
        let text = format!("[mapping.gpu]\nmatch = {{ numa = 0 }}\ngroup = {group}");
        let config = read(&text).map_err(|errors| errors.to_string())?;
        let gpu = &config.policy.mappings["gpu"];
        Ok::<_, String>((gpu.group, gpu.ownership.to_string()))
    };
    let (refuse, take) = (GroupRule::Refuse, GroupRule::Take);
    for (text, rule, ownership) in [
        ("\"refuse\"", refuse, ""),
        ("\"take\"", take, ""),
        ("\"kvm\"", refuse, "group kvm, mode 0660"),
        ("78", refuse, "group 78, mode 0660"),
        ("\"78\"", refuse, "group 78, mode 0660"),
        ("[\"kvm\"]", refuse, "group kvm, mode 0660"),
        ("[\"kvm\", \"take\"]", take, "group kvm, mode 0660"),
        ("[\"take\", 78]", take, "group 78, mode 0660"),
    ] {
        assert_eq!(with(text), Ok((rule, ownership.to_owned())), "{text}");
    }
    // What is nearly a rule is a mistake, and never a group of users.
    for near in ["tak", "takes", "refuses", "Take"] {
        let text = with(&format!("\"{near}\"")).unwrap_err();
        assert!(text.contains("did you mean"), "{text}");
    }
}

#[test]
fn marks_stand_right_under_wide_text_and_with_other_line_ends() {
    let text =
        errors("[mapping.gpu]\r\ndescription = \"größe\"\r\nmatch = { numa = 0, größe = 1 }\r\n");
    assert!(text.contains("config.toml:3:21: "), "{text}");
    assert!(!text.contains('\r'), "{text:?}");
}

#[test]
fn the_example_is_right_as_it_is_and_uncommented() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(read(&text).unwrap().policy.mappings.len(), 0);
    // A line of an example starts with a key or a section.
    let examples: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.contains(" = ") && !line.contains("; "))
        .collect();
    let config = read(&examples.join("\n")).unwrap_or_else(|errors| unreachable!("{errors}"));
    assert_eq!(config.policy.mappings.len(), 11);
    assert!(config.policy.proxmox.sync);
    assert_eq!(config.policy.protect.len(), 1);
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        drop(read(&text));
    }

    #[test]
    fn no_broken_config_panics(at in 0usize..700, with in "[\\[\\]{}\"=,a-z0-9\n]{0,3}") {
        let good = "[mapping.gpu]\nmatch = [{ id = \"10de:2684\", numa = [1] }]\nexpect = { min = 1 }\n[protect]\nmatch = { vf_of = \"enp*\", vf = \"0-2\" }\n[sriov.nic]\npf = { netdev = \"*\" }\nvfs = \"50%\"\n[[sriov.nic.vf]]\nindex = \"0-2\"\nmac = { base = \"52:54:00:00:00:00\" }\nvlan = { id = 1, qos = 2 }\n";
        let at = at % good.len();
        let (before, after) = good.split_at(at);
        drop(read(&format!("{before}{with}{after}")));
        drop(read(&format!("{before}{with}")));
    }
}
