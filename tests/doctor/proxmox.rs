//! Resource mappings of Proxmox VE.

use vfio_bindd::policy::{
    doctor::{
        Level,
        facts::{MapEntry, Proxmox, RawDevice, Seen},
    },
    model::DriverChoice,
};

use crate::{GPU, config, examined, facts, host, only, unwell, with_facts};

/// The GPU as a resource mapping of Proxmox VE has it.
fn entry() -> MapEntry {
    MapEntry {
        place: "/etc/pve/mapping/pci.cfg:2".to_owned(),
        mapping: "gpu".to_owned(),
        path: "0000:01:00".to_owned(),
        id: "10de:2684".to_owned(),
        subsystem: Some("8086:0000".to_owned()),
        group: Some("256".to_owned()),
    }
}

#[test]
fn proxmox_mappings_that_drifted_stop_guests() {
    let entry = entry();
    let mapped = |change: &dyn Fn(&mut MapEntry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        with_facts(|facts| {
            facts.proxmox = Seen::Known(Some(Proxmox {
                entries: vec![entry],
                ..Proxmox::default()
            }));
        })
    };
    assert_eq!(mapped(&|_| ()), []);
    assert_eq!(mapped(&|entry| entry.path += ".0"), []);
    type Change = fn(&mut MapEntry);
    let changes: [(Change, &str); 7] = [
        (
            |entry| entry.path = "0000:09:00.0".to_owned(),
            "there is nothing at 0000:09:00.0",
        ),
        (
            |entry| entry.path = "nonsense".to_owned(),
            "nothing at nonsense",
        ),
        (
            |entry| entry.id = "10de:2685".to_owned(),
            "0000:01:00 is 10de:2684, not 10de:2685",
        ),
        // Compared to the letter.
        (
            |entry| entry.id = "10DE:2684".to_owned(),
            "is 10de:2684, not 10DE:2684",
        ),
        (
            |entry| entry.group = Some("12".to_owned()),
            "has iommugroup 256, not 12",
        ),
        (
            |entry| entry.subsystem = None,
            "has subsystem-id 8086:0000, which the mapping lacks",
        ),
        (
            |entry| entry.path += ".0;0000:02:00.0",
            "0000:02:00.0 is 8086:10d3, not 10de:2684",
        ),
    ];
    for (change, text) in changes {
        let findings = mapped(&change);
        only(
            &findings,
            Level::Fail,
            "proxmox",
            text,
            "pvesh set /cluster/mapping/pci/gpu",
        );
        only(
            &findings,
            Level::Fail,
            "proxmox",
            "pci.cfg:2: mapping gpu",
            "",
        );
    }
    let raw = |path: &str| {
        let raw = RawDevice {
            place: "/etc/pve/qemu-server/100.conf:9".to_owned(),
            path: path.to_owned(),
        };
        with_facts(|facts| {
            facts.proxmox = Seen::Known(Some(Proxmox {
                raw: vec![raw],
                ..Proxmox::default()
            }));
        })
    };
    for path in ["01:00", "0000:07:00;0000:01:00.0"] {
        only(
            &raw(path),
            Level::Warn,
            "proxmox",
            "100.conf:9 names 0000:01:00.0 by its address",
            "mapping=NAME",
        );
    }
    assert_eq!(raw("02:00"), []);
}

#[test]
fn a_guest_must_leave_a_variant_driver_alone() {
    let entry = entry();
    let on = |driver: &str, rebound: &str| {
        let mut host = host();
        let gpu = host.get_mut(GPU.parse().unwrap()).unwrap();
        gpu.driver = Some(driver.to_owned());
        gpu.inspection.as_mut().unwrap().driver_override = gpu.driver.clone();
        let mut facts = facts();
        facts.proxmox = Seen::Known(Some(Proxmox {
            entries: vec![entry.clone()],
            rebound: vec![RawDevice {
                place: "/etc/pve/qemu-server/100.conf:9".to_owned(),
                path: rebound.to_owned(),
            }],
            ..Proxmox::default()
        }));
        let mut policy = config();
        for mapping in policy.mappings.values_mut() {
            mapping.driver = DriverChoice::Auto;
        }
        examined(Some(&facts), &host, &policy)
    };
    for path in ["gpu", "01:00", "0000:07:00;0000:01:00.0"] {
        only(
            &unwell(on("nvgrace_gpu_vfio_pci", path)),
            Level::Fail,
            "proxmox",
            "100.conf:9 would take 0000:01:00.0 from nvgrace_gpu_vfio_pci",
            "add driver=keep",
        );
        assert_eq!(unwell(on("vfio-pci", path)), []);
    }
    for path in ["nic", "02:00"] {
        let findings = on("nvgrace_gpu_vfio_pci", path);
        let told = findings
            .iter()
            .any(|one| one.text.ends_with("needs driver=keep"));
        assert!(told, "{findings:#?}");
        assert_eq!(unwell(findings), []);
    }
}
