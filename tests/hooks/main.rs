//! Whole domains of libvirt, read and updated.
//!
//! `BLESS=1 cargo test --test hooks` writes the expected texts anew; read them
//! before you commit them. They are valid by libvirt's schemas:
//! `virt-xml-validate tests/hooks/libvirt/more.expected domain`.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use vfio_bindd::{
    hooks::libvirt::{
        domain::{Kind, read},
        update::{Update, update},
    },
    pci::address::Address,
};

mod splice;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hooks/libvirt")
}

fn file(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// A mapping and its addresses a line.
fn wanted(text: &str) -> BTreeMap<String, Vec<Address>> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().to_owned();
        (name, words.map(|word| word.parse().unwrap()).collect())
    };
    text.lines().map(line).collect()
}

#[test]
fn whole_domains_get_their_addresses() {
    let bless = std::env::var_os("BLESS").is_some();
    for name in ["renumbered", "more", "fewer", "vf"] {
        let wanted = wanted(&file(&format!("{name}.wanted")));
        let before = file(&format!("{name}.xml"));
        let Update::Changed(after) = update(&before, &wanted).unwrap() else {
            panic!("{name} is unchanged");
        };
        let expected = format!("{name}.expected");
        if bless {
            fs::write(folder().join(&expected), &after).unwrap();
        }
        assert_eq!(after, file(&expected), "{name}");
        assert_eq!(update(&after, &wanted), Ok(Update::Unchanged), "{name}");
    }
}

#[test]
fn a_domain_that_is_right_stays() {
    let wanted = wanted(&file("unchanged.wanted"));
    assert_eq!(
        update(&file("unchanged.xml"), &wanted),
        Ok(Update::Unchanged)
    );
}

#[test]
fn a_whole_domain_is_read() {
    let domain = read(&file("renumbered.xml")).unwrap();
    assert_eq!(domain.name, "render");
    assert_eq!(
        domain.uuid.as_deref(),
        Some("4dea22b3-1d52-d8f3-2516-782e98ab3fa0")
    );
    let requests = domain.requests.iter();
    let requests: Vec<_> = requests
        .map(|request| (request.mapping.as_str(), request.count))
        .collect();
    assert_eq!(requests, [("gpu", Some(1)), ("nvme-pool", None)]);
    let devices = domain.devices.iter();
    let devices: Vec<_> = devices
        .map(|device| {
            assert_eq!(device.kind, Kind::Hostdev);
            let ours = device.ours.as_ref();
            let ours = ours.map(|alias| (alias.mapping(), alias.number()));
            (device.address.to_string(), device.managed, ours)
        })
        .collect();
    let expected = [
        ("0000:41:00.0", true, Some(("gpu", 0))),
        ("0000:41:00.1", false, Some(("gpu", 1))),
        ("0000:c1:00.0", false, Some(("nvme-pool", 0))),
        ("0000:00:14.3", true, None),
    ]
    .map(|(address, managed, ours)| (address.to_owned(), managed, ours));
    assert_eq!(devices, expected);
}
