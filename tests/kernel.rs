//! Scan, inspect and apply against a kernel that answers like the real one.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/fake_kernel.rs"]
mod fake_kernel;

use std::collections::BTreeSet;

use fake_kernel::Fake;
use vfio_bindd::{
    kernel::{
        apply::apply,
        inspect::{Wanted, inspect},
        order::{Order, Outcome, Step},
        scan::{scan_all, scan_function, scan_some},
    },
    pci::{
        address::Address,
        function::{Header, Role},
    },
    policy::{guard::judge, knobs::Knobs},
};

const NIC: &str = "0000:01:00.0";

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn order(detach: Option<&str>) -> Order {
    Order {
        address: at(NIC),
        id: "8086:10d3".parse().unwrap(),
        driver: "vfio-pci".to_owned(),
        module: None,
        detach: detach.map(str::to_owned),
        allow: BTreeSet::new(),
        knobs: Knobs::default(),
        mappings: vec!["nic".to_owned()],
        undo: None,
    }
}

/// A host with a driverless NIC, a twin of it, and vfio-pci.
fn host() -> Fake {
    let fake = Fake::new(&["vfio-pci", "e1000e"]);
    fake.add("0000:00:01.0", NIC, &[]);
    fake.add("0000:00:02.0", "0000:02:00.0", &[]);
    fake
}

/// The NIC with its native driver and an interface that is down.
fn with_interface() -> Fake {
    let fake = host();
    fake.bind(NIC, "e1000e");
    let place = format!("../../devices/pci0000:00/0000:00:01.0/{NIC}/net/enp1s0");
    fake.link("class/net/enp1s0", &place);
    fake.file("class/net/enp1s0/flags", "0x1002\n");
    fake.file("class/net/enp1s0/ifindex", "2\n");
    fake
}

fn run(fake: &Fake, order: &Order) -> Outcome {
    fake.look(|look| apply(look, fake, order))
}

fn bound(from: Option<String>) -> Outcome {
    Outcome::Bound {
        from,
        driver: "vfio-pci".to_owned(),
        fallback: None,
    }
}

fn evidence(fake: &Fake) -> Vec<String> {
    let inspection = fake.look(|look| inspect(look, at(NIC), Wanted::ALL));
    let usage = inspection.unwrap().usage;
    usage
        .iter()
        .map(|fact| {
            let (guard, text) = judge(fact);
            format!("{}: {text}", guard.map_or("-", |guard| guard.name()))
        })
        .collect()
}

/// The early stages know a function by its serial number, and it has no driver yet.
#[test]
fn the_serial_number_is_read_in_all_states_but_the_one_that_would_end() {
    let config = format!("{:256}\u{3}\0\u{1}\0dcbahgfe", "");
    for (state, serial) in [
        ("D0", Some("65-66-67-68-61-62-63-64")),
        ("D3hot", Some("65-66-67-68-61-62-63-64")),
        ("unknown", Some("65-66-67-68-61-62-63-64")),
        ("D3cold", None),
    ] {
        let fake = with_interface();
        for (name, text) in [("power_state", state), ("config", &config)] {
            fake.file(&format!("bus/pci/devices/{NIC}/{name}"), text);
        }
        let inspection = fake.look(|look| inspect(look, at(NIC), Wanted::ALL));
        let found = inspection.unwrap().serial;
        assert_eq!(found.as_deref(), serial, "{state}");
    }
}

#[test]
fn a_scan_finds_all_facts_and_reads_nothing_that_takes_a_lock() {
    let fake = with_interface();
    fake.add(
        "0000:00:03.0",
        "0000:03:00.0",
        &[("sriov_totalvfs", "4"), ("boot_vga", "1")],
    );
    fake.add("0000:00:03.0", "0000:03:00.1", &[("label", "LAN 2")]);
    fake.link("bus/pci/devices/0000:03:00.0/virtfn0", "../0000:03:00.1");
    fake.link("bus/pci/devices/0000:03:00.1/physfn", "../0000:03:00.0");
    fake.add(
        "x",
        "0000:00:01.0",
        &[("class", "0x060400"), ("secondary_bus_number", "1")],
    );
    fake.file("bus/pci/slots/5/address", "0000:01:00\n");
    let inventory = scan_all(&fake).unwrap();
    assert_eq!(inventory.len(), 5);
    let nic = inventory.get(at(NIC)).unwrap();
    assert_eq!(nic.id.to_string(), "8086:10d3");
    assert_eq!(nic.driver.as_deref(), Some("e1000e"));
    assert_eq!(nic.numa_node, None);
    assert_eq!(nic.iommu_group, Some(7));
    assert_eq!(nic.path, "0000:00:01.0/00.0");
    assert_eq!(nic.slot_name.as_deref(), Some("5"));
    assert_eq!(nic.netdevs, ["enp1s0"]);
    assert_eq!(nic.reset_methods, ["flr", "bus"]);
    assert_eq!(nic.inspection, None);
    let pf = inventory.get(at("0000:03:00.0")).unwrap();
    let vfs = vec![at("0000:03:00.1")];
    assert_eq!(pf.role, Role::Pf { total_vfs: 4, vfs });
    assert!(pf.boot_vga);
    let vf = inventory.get(at("0000:03:00.1")).unwrap();
    let role = Role::Vf {
        pf: at("0000:03:00.0"),
        index: Some(0),
    };
    assert_eq!(vf.role, role);
    assert_eq!(vf.slot_label.as_deref(), Some("LAN 2"));
    assert_eq!(scan_function(&fake, at("0000:03:00.1"), None).unwrap(), *vf);
    assert_eq!(
        inventory.get(at("0000:00:01.0")).unwrap().header,
        Header::Bridge
    );
    assert_eq!(scan_function(&fake, at("0000:09:00.0"), None), None);
    // What is in its IOMMU group comes along, and nothing else does.
    let devices = format!("bus/pci/devices/{NIC}/iommu_group/devices");
    let some = || scan_some(&fake, |address| address == at(NIC));
    some().unwrap_err();
    for member in [NIC, "0000:03:00.0"] {
        fake.link(&format!("{devices}/{member}"), "x");
    }
    let some = some().unwrap();
    let found: Vec<_> = some.iter().map(|one| one.address).collect();
    assert_eq!(found, [at(NIC), at("0000:03:00.0")]);
    assert_eq!(some.get(at(NIC)).unwrap().driver, nic.driver);
    let none = scan_some(&fake, |_| false).unwrap();
    assert_eq!(none.len(), 0);
}

#[test]
fn a_driverless_function_is_bound_and_its_twin_is_not() {
    let fake = host();
    assert_eq!(run(&fake, &order(None)), bound(None));
    assert_eq!(fake.driver(NIC).as_deref(), Some("vfio-pci"));
    assert_eq!(fake.driver("0000:02:00.0"), None);
    assert_eq!(
        fake.writes(),
        [
            "bus/pci/devices/0000:01:00.0/driver_override=vfio-pci",
            "bus/pci/drivers/vfio-pci/bind=0000:01:00.0",
        ]
    );
    assert_eq!(run(&fake, &order(None)), Outcome::AlreadyBound);
    assert_eq!(fake.writes().len(), 2, "a second time writes nothing");
}

#[test]
fn an_override_that_is_equal_is_not_rewritten() {
    let fake = host();
    fake.set_override(NIC, "vfio-pci");
    assert_eq!(run(&fake, &order(None)), bound(None));
    assert_eq!(
        fake.writes(),
        ["bus/pci/drivers/vfio-pci/bind=0000:01:00.0"]
    );
}

#[test]
fn an_override_of_somebody_else_is_left_alone() {
    let fake = host();
    fake.set_override(NIC, "none");
    let Outcome::Refused { text } = run(&fake, &order(None)) else {
        panic!("it was not refused");
    };
    assert_eq!(text, "has the driver override 'none' by now");
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn an_idle_native_driver_is_unbound_first() {
    let fake = with_interface();
    assert_eq!(evidence(&fake), Vec::<String>::new());
    let from = Some("e1000e".to_owned());
    assert_eq!(run(&fake, &order(Some("e1000e"))), bound(from));
    assert_eq!(fake.driver(NIC).as_deref(), Some("vfio-pci"));
}

#[test]
fn what_came_into_use_since_the_plan_is_refused() {
    let fake = with_interface();
    fake.file("class/net/enp1s0/flags", "0x1003\n");
    assert_eq!(evidence(&fake), ["network: enp1s0 is up"]);
    let text = "is in use by now: enp1s0 is up".to_owned();
    assert_eq!(
        run(&fake, &order(Some("e1000e"))),
        Outcome::Refused { text }
    );
    assert_eq!(fake.writes(), Vec::<String>::new());
    let mut allowed = order(Some("e1000e"));
    allowed.allow.insert("network".to_owned());
    let from = Some("e1000e".to_owned());
    assert_eq!(run(&fake, &allowed), bound(from));
}

#[test]
fn a_display_without_a_driver_that_the_console_is_drawn_on_is_refused() {
    let fake = Fake::new(&["vfio-pci"]);
    let resource = "0x00000000e0000000 0x00000000efffffff 0x000000000014220c";
    let attributes = [("class", "0x030000"), ("resource", resource)];
    fake.add("0000:00:01.0", NIC, &attributes);
    let memory = "  e0000000-e07e8fff : BOOTFB\n".to_owned();
    fake.with(|kernel| kernel.host_files.insert("/proc/iomem".to_owned(), memory));
    let text = "is in use by now: the console is drawn on BOOTFB".to_owned();
    assert_eq!(run(&fake, &order(None)), Outcome::Refused { text });
    assert_eq!(fake.writes(), Vec::<String>::new());
    let mut allowed = order(None);
    allowed.allow.insert("console".to_owned());
    assert_eq!(run(&fake, &allowed), bound(None));
}

#[test]
fn a_driver_that_nobody_planned_to_detach_stays() {
    let fake = with_interface();
    let text = "is held by e1000e by now".to_owned();
    assert_eq!(run(&fake, &order(None)), Outcome::Refused { text });
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_listed_is_in_use() {
    let fake = Fake::new(&["nvme"]);
    fake.add("0000:00:01.0", NIC, &[("class", "0x010802")]);
    fake.bind(NIC, "nvme");
    assert_eq!(evidence(&fake), Vec::<String>::new());
    let place = format!("bus/pci/devices/{NIC}");
    fake.with(|kernel| kernel.unreadable.insert(place));
    assert_eq!(
        evidence(&fake),
        ["unchecked: what hangs below it cannot be listed: input/output error"]
    );
}

#[test]
fn an_interface_that_is_renamed_meanwhile_is_looked_at_again() {
    let named = |names: &[&str]| {
        let fake = with_interface();
        let names = names.iter().map(|name| format!("class/net/{name}"));
        let place = "class/net/enp1s0".to_owned();
        fake.with(|kernel| kernel.renames.insert(place, names.collect()));
        evidence(&fake)
    };
    assert_eq!(named(&["lan0"]), Vec::<String>::new());
    assert_eq!(
        named(&["f", "e", "d", "c", "b", "a"]),
        ["unchecked: what hangs below it changes all the time"]
    );
}

#[test]
fn other_classes_with_a_native_driver_are_in_use() {
    let fake = Fake::new(&["ccp"]);
    fake.add("0000:00:01.0", NIC, &[("class", "0x108000")]);
    fake.bind(NIC, "ccp");
    assert_eq!(
        evidence(&fake),
        ["unchecked: ccp holds it, and nobody can tell whether the host needs it"]
    );
}

#[test]
fn a_missing_driver_is_loaded_before_anything_is_unbound() {
    let without = Fake::new(&["e1000e"]);
    without.add("0000:00:01.0", NIC, &[]);
    let Outcome::Failed { step, text } = run(&without, &order(None)) else {
        panic!("it did not fail");
    };
    assert_eq!(step, Step::LoadModule);
    assert!(text.contains("vfio_pci not found"), "{text}");
    assert_eq!(without.writes(), Vec::<String>::new());
    without.has_module("vfio-pci");
    assert_eq!(run(&without, &order(None)), bound(None));
}

#[test]
fn when_vfio_says_no_the_host_gets_its_function_back() {
    let fake = with_interface();
    fake.with(|kernel| kernel.bad_probe.insert(NIC.to_owned()));
    let Outcome::Failed { step, text } = run(&fake, &order(Some("e1000e"))) else {
        panic!("it did not fail");
    };
    assert_eq!(step, Step::Bind);
    assert!(
        text.contains("denylist") && text.ends_with("e1000e has it back"),
        "{text}"
    );
    assert_eq!(fake.driver(NIC).as_deref(), Some("e1000e"));
    assert_eq!(fake.override_of(NIC), None);
}

#[test]
fn a_function_that_is_not_ready_yet_is_tried_again() {
    let fake = host();
    fake.with(|kernel| kernel.not_yet = 2);
    assert_eq!(run(&fake, &order(None)), bound(None));
}

#[test]
fn a_function_that_goes_half_way_is_gone() {
    let fake = with_interface();
    fake.with(|kernel| kernel.gone_after_unbind.insert(NIC.to_owned()));
    assert_eq!(run(&fake, &order(Some("e1000e"))), Outcome::Gone);
    assert_eq!(run(&fake, &order(None)), Outcome::Gone);
}

#[test]
fn an_unbind_that_returns_and_did_nothing_is_a_failure() {
    let fake = with_interface();
    fake.with(|kernel| kernel.clinging.insert("e1000e".to_owned()));
    let Outcome::Failed { step, .. } = run(&fake, &order(Some("e1000e"))) else {
        panic!("it did not fail");
    };
    assert_eq!(step, Step::Unbind);
}

#[test]
fn another_device_at_the_address_is_refused() {
    let fake = host();
    let mut order = order(None);
    order.id = "10de:2684".parse().unwrap();
    let text = "is another device by now: 8086:10d3, not 10de:2684".to_owned();
    assert_eq!(run(&fake, &order), Outcome::Refused { text });
}
