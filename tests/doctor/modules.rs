//! Modules of vfio, and settings that get in their way.

use vfio_bindd::policy::doctor::{
    Finding, Level,
    facts::{Directive, HostFacts, Listed, Module, Order, Seen},
};

use crate::{GPU, NIC, has, only, support::at, with_facts};

#[test]
fn modules_are_there_or_it_is_said_how_to_get_them() {
    let module = |name: &'static str, state| {
        with_facts(|facts| {
            facts.modules.insert(name.to_owned(), state);
        })
    };
    assert_eq!(module("vfio_pci", Module::BuiltIn), []);
    only(
        &module("vfio_pci", Module::Missing),
        Level::Fail,
        "modules",
        "the kernel 6.12.9 has no vfio_pci",
        "CONFIG_VFIO_PCI",
    );
    only(
        &module("vfio_pci", Module::Available),
        Level::Warn,
        "modules",
        "vfio_pci is not loaded",
        "modprobe -a vfio_pci",
    );
    only(
        &module("vfio_iommu_type1", Module::Unknown),
        Level::Warn,
        "modules",
        "cannot be listed",
        "modprobe -a vfio_iommu_type1",
    );
    let listed = |facts: &mut HostFacts| {
        facts.listed = Seen::Known(vec![Listed {
            place: "/etc/modules:7".to_owned(),
            module: "vfio_virqfd".to_owned(),
        }]);
    };
    only(
        &with_facts(listed),
        Level::Warn,
        "retired-module",
        "/etc/modules:7 asks for vfio_virqfd",
        "remove the line, then run update-initramfs -u",
    );
    // Up to 6.1 it is right there.
    assert_eq!(
        with_facts(|facts| {
            listed(facts);
            facts
                .modules
                .insert("vfio_virqfd".to_owned(), Module::Loaded);
        }),
        []
    );
}

fn directive(module: &str, order: Order, serves: &[&str]) -> Directive {
    Directive {
        place: "/etc/modprobe.d/gpu.conf:3".to_owned(),
        parameter: false,
        module: module.to_owned(),
        order,
        serves: serves.iter().map(|one| at(one)).collect(),
    }
}

fn directed(directive: Directive) -> Vec<Finding> {
    with_facts(|facts| facts.directives = Seen::Known(vec![directive]))
}

#[test]
fn ids_of_a_driver_take_twins_too() {
    let ids = |ids: &str| directed(directive("vfio_pci", Order::Ids(ids.to_owned()), &[]));
    let advice = "remove it from /etc/modprobe.d/gpu.conf:3, run update-initramfs -u";
    for (text, effect) in [
        ("10de:2684", "with them 0000:01:00.0 before any guard"),
        (
            "10de:2684,8086:10D3",
            "with them 0000:02:00.0, which no mapping wants",
        ),
        ("8086:10d3:8086:0000", "0000:02:00.0, which no mapping"),
        ("8086:10d3:ffffffff:ffffffff:020000:ff0000", "0000:02:00.0,"),
        ("8086:10d3:8086:0001", "which no function here has"),
        (
            "8086:10d3:8086:0000:030000:ff0000",
            "which no function here has",
        ),
        ("8086", "which no function here has"),
        ("8086:10dx", "which no function here has"),
    ] {
        let text = format!("gives vfio-pci the IDs {text}, ");
        let found = ids(text
            .trim_start_matches("gives vfio-pci the IDs ")
            .trim_end_matches(", "));
        only(&found, Level::Warn, "static-ids", &text, advice);
        only(&found, Level::Warn, "static-ids", effect, advice);
    }
    let parameter = Directive {
        place: "pci-stub.ids=8086:10d3".to_owned(),
        parameter: true,
        ..directive("pci_stub", Order::Ids("8086:10d3".to_owned()), &[])
    };
    only(
        &directed(parameter),
        Level::Warn,
        "static-ids",
        "pci-stub.ids=8086:10d3 gives pci-stub the IDs",
        "remove pci-stub.ids=8086:10d3 from GRUB_CMDLINE_LINUX_DEFAULT",
    );
}

#[test]
fn what_keeps_modules_from_loading_is_told_where_it_matters() {
    let name = "modprobe";
    only(
        &directed(directive("vfio_pci", Order::Blacklist, &[])),
        Level::Warn,
        name,
        "keeps vfio_pci from loading, and something else loaded it",
        "remove it from /etc/modprobe.d/gpu.conf:3",
    );
    let install = Order::Install("/bin/false".to_owned());
    let not_loaded = with_facts(|facts| {
        facts.directives = Seen::Known(vec![directive("vfio_pci", install.clone(), &[])]);
        facts
            .modules
            .insert("vfio_pci".to_owned(), Module::Available);
    });
    let text = "runs '/bin/false' instead of loading vfio_pci";
    has(&not_loaded, Level::Fail, name, text, "remove it from");
    only(
        &directed(directive(
            "vfio_pci",
            Order::After(vec!["nouveau".to_owned()]),
            &[],
        )),
        Level::Warn,
        name,
        "loads nouveau before vfio_pci",
        "remove it from",
    );
    only(
        &directed(directive("nouveau", Order::Blacklist, &[GPU])),
        Level::Warn,
        name,
        "keeps nouveau from loading; 0000:01:00.0 does not need that",
        "unless the host must never have that driver",
    );
    only(
        &directed(directive("both", install, &[GPU, NIC])),
        Level::Warn,
        name,
        "also for 0000:02:00.0, which no mapping wants",
        "remove it from",
    );
    // The host's own business.
    for order in [Order::Blacklist, Order::Forbid] {
        assert_eq!(directed(directive("e1000e", order, &[NIC])), []);
    }
    let first = Order::After(vec!["vfio_pci".to_owned()]);
    assert_eq!(directed(directive("nouveau", first, &[GPU])), []);
}
