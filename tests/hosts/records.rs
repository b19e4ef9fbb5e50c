//! The recorded hosts themselves: they are what the code makes, they hang
//! together, and they read and write as records must.

use std::collections::{BTreeMap, BTreeSet};

use vfio_bindd::{
    kernel::record::{self, Record},
    pci::function::{Function, Role},
};

use crate::{check, file, hosts, made, make::MADE, records, text};

#[test]
fn made_hosts_are_what_their_code_makes() {
    for made in MADE {
        check(&file(made.name), &text(made));
    }
}

#[test]
fn hosts_hang_together() {
    for (name, host) in hosts() {
        let mut places = BTreeMap::new();
        for function in host.iter() {
            let at = function.address;
            match &function.role {
                Role::Plain => {}
                Role::Pf { total_vfs, vfs } => {
                    assert!(vfs.len() <= usize::from(*total_vfs), "{name}: VFs of {at}");
                    for (place, vf) in (0_u16..).zip(vfs) {
                        let role = &host.get(*vf).unwrap().role;
                        let index = Some(place);
                        assert_eq!(*role, Role::Vf { pf: at, index }, "{name}: {vf}");
                    }
                }
                Role::Vf { pf, index } => {
                    let place = usize::from(index.unwrap());
                    let role = &host.get(*pf).unwrap().role;
                    let Role::Pf { vfs, .. } = role else {
                        panic!("{name}: {pf} is no PF");
                    };
                    assert_eq!(vfs.get(place), Some(&at), "{name}: VF {place} of {pf}");
                }
            }
            if let Some(slot) = &function.slot_name {
                let first = places.entry(slot.clone()).or_insert(at.slot());
                assert_eq!(*first, at.slot(), "{name}: hotplug slot {slot}");
            }
        }
    }
}

#[test]
fn the_nic_host_has_512_vfs_and_wide_domains() {
    let hosts = hosts();
    let host = hosts.get("nic-vfs").unwrap();
    let is_vf = |one: &&Function| matches!(one.role, Role::Vf { .. });
    assert_eq!(host.iter().filter(is_vf).count(), 512);
    assert!(host.iter().any(|one| one.address.domain() > 0xffff));
    // Index 119 of the second port is the last on the card's bus.
    for (index, address) in [
        (0, "17:11.0"),
        (119, "17:1f.7"),
        (120, "18:00.0"),
        (127, "18:00.7"),
    ] {
        let one = host.get(address.parse().unwrap()).unwrap();
        let pf = "17:00.1".parse().unwrap();
        let index = Some(index);
        assert_eq!(one.role, Role::Vf { pf, index }, "{address}");
    }
}

#[test]
fn a_record_reads_back_to_the_byte() {
    for (name, text) in records() {
        let again = record::write(&record::parse(&text).unwrap()).unwrap();
        // Not assert_eq: nobody can read a difference in half a megabyte.
        assert!(again == text, "{name}");
    }
    for one in MADE {
        let read = record::parse(&text(one)).unwrap();
        assert!(read == made(one), "{}", one.name);
    }
}

#[test]
fn redacted_serials_say_nothing_and_stay_equal_where_they_were() {
    let serial = |function: &Function| function.inspection.clone()?.serial;
    for (name, host) in hosts() {
        let mut redacted = host.clone();
        record::redact(&mut redacted);
        let text = record::write(&Record {
            kernel: "6.12".to_owned(),
            facts: None,
            inventory: redacted.clone(),
        });
        let text = text.unwrap();
        let mut pairs = BTreeSet::new();
        for (before, after) in host.iter().zip(redacted.iter()) {
            assert_eq!(before.address, after.address);
            assert_eq!(serial(before).is_some(), serial(after).is_some());
            if let (Some(before), Some(after)) = (serial(before), serial(after)) {
                assert!(!text.contains(&before), "{name}: {before}");
                pairs.insert((before, after));
            }
        }
        let before: BTreeSet<_> = pairs.iter().map(|(before, _)| before).collect();
        let after: BTreeSet<_> = pairs.iter().map(|(_, after)| after).collect();
        assert!(!pairs.is_empty());
        assert_eq!((before.len(), after.len()), (pairs.len(), pairs.len()));
        // Nothing else changes, and a second time changes nothing.
        let mut again = redacted.clone();
        record::redact(&mut again);
        assert_eq!(again, redacted, "{name}");
        for (before, after) in host.iter().zip(redacted.iter()) {
            let mut back = after.clone();
            if let Some(inspection) = &mut back.inspection {
                inspection.serial = serial(before);
            }
            assert_eq!(back, *before, "{name}");
        }
    }
}

#[test]
fn a_broken_record_names_the_line() {
    let records = records();
    let text = records.get("gpu-server").unwrap();
    let lines: Vec<_> = text.lines().collect();
    let broken = |at: usize, with: &str| {
        let mut lines = lines.clone();
        lines[at - 1] = with;
        record::parse(&lines.join("\n")).unwrap_err().to_string()
    };
    for (at, with, wanted) in [
        (1, lines[1], "line 1: this is no recorded host: "),
        (1, "", "line 1: this is no recorded host: "),
        (
            1,
            r#"{"vfio-bindd-host":2,"kernel":"7.0"}"#,
            "line 1: format 2 is not known; expected 1",
        ),
        (7, "nonsense", "line 7: this is no function: "),
        (7, lines[0], "line 7: this is no function: "),
        (
            2,
            &lines[1].replace("\"cpu\"", "\"cpv\""),
            "line 2: these are no facts of a host: unknown field `cpv`",
        ),
        (8, lines[1], "line 8: the host's facts are there twice"),
        (40, &lines[39][..60], "line 40: this is no function: "),
        (
            41,
            &lines[40].replace("\"class\"", "\"klass\""),
            "line 41: this is no function: unknown field `klass`",
        ),
        (
            42,
            &lines[41].replace("\"0000:", "\"0000-"),
            "line 42: this is no function: ",
        ),
        (9, lines[5], "line 9: 0000:"),
    ] {
        let error = broken(at, with);
        assert!(error.starts_with(wanted), "{error}");
    }
    assert!(broken(9, lines[5]).ends_with("is there twice"));
}

#[test]
fn the_order_of_the_lines_does_not_matter() {
    for (name, text) in records() {
        let (head, functions) = text.split_once('\n').unwrap();
        let mut lines: Vec<_> = functions.lines().collect();
        lines.reverse();
        let turned = format!("{head}\n{}\n", lines.join("\n"));
        let host = record::parse(&turned).unwrap();
        assert!(record::write(&host).unwrap() == text, "{name}");
    }
}
