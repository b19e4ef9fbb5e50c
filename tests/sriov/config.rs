//! What `[sriov]` in a config means. What is said of a bad one is in
//! tests/config/sriov.expected.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vfio_bindd::policy::{
    config::{Config, ConfigErrors, Source, parse},
    pattern::VfSet,
    sriov::{VfCount, VlanProtocol},
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

#[test]
fn a_whole_sriov_entry_means_what_it_says() {
    let config = read(
        r#"
        [sriov.nics]
        description = "the two uplinks"
        pf = [{ netdev = "enp59s0f*" }, { serial = "48-*" }]
        vfs = 6
        autoprobe = true
        [[sriov.nics.vf]]
        mac = { base = "52:54:00:AA:00:fe" }
        spoof_check = true
        [[sriov.nics.vf]]
        index = "1,3-4"
        vlan = { id = 100, qos = 3, protocol = "802.1ad" }
        rate = { min = 10, max = 1000 }
        [[sriov.nics.vf]]
        index = 0
        vlan = 0
        rate = 500
        link_state = "enable"
        trust = true
        [[sriov.nics.vf]]
        index = 5
        vlan = { id = 0, protocol = "802.1ad" }
        "#,
    );
    let policy = config.unwrap().policy;
    let nics = policy.sriov.get("nics").unwrap();
    assert_eq!(nics.description, "the two uplinks");
    let selectors: Vec<_> = nics.pf.iter().map(ToString::to_string).collect();
    assert_eq!(selectors, ["netdev=enp59s0f*", "serial=48-*"]);
    assert_eq!((nics.vfs, nics.autoprobe), (VfCount::Number(6), true));
    let told: Vec<_> = nics
        .settings(6)
        .iter()
        .map(|(index, settings)| format!("{index}: {settings}"))
        .collect();
    assert_eq!(
        told,
        [
            "0: mac 52:54:00:aa:00:fe, vlan none, rate 0 to 500 Mbit/s, spoof_check on, \
             link_state enable, trust on",
            "1: mac 52:54:00:aa:00:ff, vlan 100 qos 3 802.1ad, rate 10 to 1000 Mbit/s, \
             spoof_check on",
            "2: mac 52:54:00:aa:01:00, spoof_check on",
            "3: mac 52:54:00:aa:01:01, vlan 100 qos 3 802.1ad, rate 10 to 1000 Mbit/s, \
             spoof_check on",
            "4: mac 52:54:00:aa:01:02, vlan 100 qos 3 802.1ad, rate 10 to 1000 Mbit/s, \
             spoof_check on",
            "5: mac 52:54:00:aa:01:03, vlan none, spoof_check on",
        ]
    );
    // No tag is of no protocol: no driver could say that it has it.
    let none = nics.settings(6)[&5].vlan.unwrap();
    assert_eq!(none.protocol, VlanProtocol::Customer);
    assert_eq!(nics.settings(2).len(), 2, "of VFs that there are");
}

#[test]
fn what_an_sriov_entry_leaves_open_has_a_default() {
    let with = |vfs: &str| {
        let text = format!("[sriov.nics]\npf = {{ id = \"8086:1572\" }}\nvfs = {vfs}\n");
        read(&text).unwrap().policy.sriov["nics"].clone()
    };
    let plain = with("0");
    assert_eq!((plain.vfs, plain.autoprobe), (VfCount::Number(0), false));
    assert_eq!((plain.description.as_str(), plain.rules.len()), ("", 0));
    for (text, count) in [
        ("65535", VfCount::Number(65535)),
        ("0x10", VfCount::Number(16)),
        ("\"max\"", VfCount::Max),
        ("\"1%\"", VfCount::Percent(1)),
        ("\"100%\"", VfCount::Percent(100)),
    ] {
        assert_eq!(with(text).vfs, count, "{text}");
    }
    // A mapping and an entry may have the same name: these are two things.
    let text = "[sriov.nics]\npf = { id = \"8086:1572\" }\nvfs = 1\n[mapping.nics]\nmatch = { vf_of = \"*\" }\n";
    assert!(read(text).is_ok());
}

#[test]
fn sriov_entries_of_several_files_have_their_own_names_and_addresses() {
    let entry = |name: &str, mac: &str| {
        format!(
            "[sriov.{name}]\npf = {{ id = \"8086:1572\" }}\nvfs = 1\n[[sriov.{name}.vf]]\nindex = 0\nmac = \"{mac}\"\n"
        )
    };
    let both = |name: &str, mac: &str| {
        let one = source("a.toml", &entry("one", "52:54:00:00:00:01"));
        let two = source("b.toml", &entry(name, mac));
        parse(&[one, two]).map_err(|errors| errors.to_string())
    };
    let config = both("two", "52:54:00:00:00:02").unwrap();
    assert_eq!(config.policy.sriov.len(), 2);
    let text = both("one", "52:54:00:00:00:02").unwrap_err();
    assert!(
        text.starts_with("b.toml:1:8: sriov `one` is defined twice"),
        "{text}"
    );
    assert!(text.contains("it is defined at a.toml:1 already"), "{text}");
    let text = both("two", "52:54:00:00:00:01").unwrap_err();
    let wanted = "b.toml:1:8: VFs of sriov `two` and of sriov `one` get 52:54:00:00:00:01";
    assert!(text.starts_with(wanted), "{text}");
}

fn a_set() -> impl Strategy<Value = (VfSet, BTreeSet<u16>)> {
    let range = (0u16..20, 0u16..4).prop_map(|(first, more)| (first, first + more));
    prop::collection::vec(range, 1..5).prop_map(|ranges| {
        let texts = ranges.iter().map(|(first, last)| format!("{first}-{last}"));
        let set = texts.collect::<Vec<_>>().join(",").parse().unwrap();
        let all = ranges.iter().flat_map(|(first, last)| *first..=*last);
        (set, all.collect())
    })
}

proptest! {
    #[test]
    fn sets_of_vfs_meet_where_one_by_one_says_so((one, ones) in a_set(), (two, twos) in a_set()) {
        let common = ones.intersection(&twos).next().copied();
        prop_assert_eq!(one.common(&two), common);
        prop_assert_eq!(one.first(), ones.first().copied());
        prop_assert_eq!(one.last(), ones.last().copied());
        let only = ones.first().filter(|_| ones.len() == 1).copied();
        prop_assert_eq!(one.only(), only);
    }
}
