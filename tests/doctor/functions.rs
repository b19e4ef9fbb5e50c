//! Mappings and their functions.

use vfio_bindd::{
    pci::function::Function,
    policy::{
        doctor::{
            Level,
            facts::{Asleep, Framebuffer, HostFacts, Kept, Node, Seen},
        },
        model::Policy,
    },
};

use crate::{
    GPU, NIC, config, examined, facts, has, host, known, only,
    support::{FunctionExt as _, at, by_address, by_id, mapping, nic, policy},
    unwell, with_facts, with_gpu,
};

#[test]
fn mappings_are_what_the_plan_says() {
    let findings = |policy: &Policy| unwell(examined(Some(&facts()), &host(), policy));
    only(
        &findings(&policy([
            ("gpu", mapping(vec![by_address(GPU)])),
            ("nic", mapping(vec![by_id("8086:10d3")])),
        ])),
        Level::Fail,
        "mapping",
        "nic: refused: 0000:02:00.0 is in use: eth0 is up; allow = [\"network\"]",
        "change [mapping.nic]",
    );
    only(
        &findings(&policy([
            ("gpu", mapping(vec![by_address(GPU)])),
            ("gone", mapping(vec![by_id("1234:5678")])),
        ])),
        Level::Warn,
        "mapping",
        "gone: ",
        "compare [mapping.gone] with what vfio-bindctl functions shows",
    );
    let mut blank = host();
    let nic = blank.get_mut(at(NIC)).unwrap();
    nic.inspection = None;
    let both = policy([
        ("gpu", mapping(vec![by_address(GPU)])),
        ("nic", mapping(vec![by_id("8086:10d3")])),
    ]);
    let findings = unwell(examined(Some(&facts()), &blank, &both));
    has(
        &findings,
        Level::Warn,
        "mapping",
        "nic: not known: ",
        "as root",
    );
    has(
        &findings,
        Level::Warn,
        "reserved-memory",
        "0000:02:00.0 was not inspected",
        "root",
    );
    let none = unwell(examined(Some(&facts()), &host(), &Policy::default()));
    has(&none, Level::Warn, "config", "no mappings", "config.toml");
}

#[test]
fn a_group_is_taken_whole_or_not_at_all() {
    let shared = |driver: &str| {
        let mut host = host();
        host.insert(nic("0000:01:00.1").driver(driver).with(|one| {
            one.iommu_group = Some(256);
        }));
        unwell(examined(Some(&facts()), &host, &config()))
    };
    let findings = shared("snd_hda_intel");
    has(
        &findings,
        Level::Fail,
        "groups",
        "the host keeps 0000:01:00.1 (snd_hda_intel) of IOMMU group 256, so no virtual machine \
         can have 0000:01:00.0",
        "map all of the group",
    );
    has(&findings, Level::Fail, "mapping", "gpu: refused", "");
    // A bridge's driver that is not made for it is in the way too.
    let findings = shared("shpchp");
    has(
        &findings,
        Level::Fail,
        "groups",
        "0000:01:00.1 (shpchp)",
        "",
    );
    assert_eq!(shared("pcieport"), []);
    assert_eq!(shared("pci-stub"), []);
}

#[test]
fn functions_that_nobody_asked_for_are_told() {
    let twin = |set: Option<&str>, policy: &Policy| {
        let mut host = host();
        host.insert(nic("0000:05:00.0").driver("vfio-pci").with(|one| {
            let inspection = one.inspection.as_mut().unwrap();
            inspection.driver_override = set.map(str::to_owned);
        }));
        unwell(examined(Some(&facts()), &host, policy))
    };
    only(
        &twin(None, &config()),
        Level::Warn,
        "unmapped",
        "a vfio driver has 0000:05:00.0",
        "echo 8086 10d3 > /sys/bus/pci/drivers/vfio-pci/remove_id",
    );
    // Somebody meant it.
    assert_eq!(twin(Some("vfio-pci"), &config()), []);
    let mut unread = host();
    let other = nic("0000:05:00.0").driver("vfio-pci");
    unread.insert(other.with(|one| one.inspection = None));
    only(
        &unwell(examined(Some(&facts()), &unread, &config())),
        Level::Warn,
        "unmapped",
        "why a vfio driver has 0000:05:00.0 cannot be read",
        "root",
    );
}

#[test]
fn overrides_of_others_are_told() {
    only(
        &with_gpu(|gpu| gpu.inspection.as_mut().unwrap().driver_override = None),
        Level::Warn,
        "overrides",
        "0000:01:00.0 is bound without an override",
        "remove ids=",
    );
    only(
        &with_gpu(|gpu| {
            gpu.inspection.as_mut().unwrap().driver_override = Some("none".to_owned());
        }),
        Level::Warn,
        "overrides",
        "has an override for another driver",
        "driverctl, libvirt",
    );
    let kept = |address: &str, driver: &str| {
        let (address, driver) = (at(address), driver.to_owned());
        with_facts(|facts| {
            facts.driverctl = Seen::Known(vec![Kept {
                file: format!("/etc/driverctl.d/pci-{address}"),
                address,
                driver,
            }]);
        })
    };
    only(
        &kept(GPU, "vfio-pci"),
        Level::Warn,
        "driverctl",
        "/etc/driverctl.d/pci-0000:01:00.0 sets the override of 0000:01:00.0",
        "driverctl unset-override 0000:01:00.0",
    );
    only(
        &kept(GPU, "nouveau"),
        Level::Fail,
        "driverctl",
        "to nouveau at each boot, so it is refused",
        "driverctl unset-override",
    );
    assert_eq!(kept(NIC, "e1000e"), []);
}

#[test]
fn functions_that_cannot_be_used_twice_or_at_all_are_told() {
    only(
        &with_gpu(|gpu| gpu.reset_methods.clear()),
        Level::Warn,
        "reset",
        "no way to reset 0000:01:00.0",
        "functions = \"slot\"",
    );
    let reserve = |gpu: &mut Function| {
        let regions = &mut gpu.inspection.as_mut().unwrap().direct_regions;
        regions.push("0xbdf6f000-0xbdf8dfff".to_owned());
    };
    let kept = with_gpu(reserve);
    has(
        &kept,
        Level::Fail,
        "reserved-memory",
        "the firmware keeps memory for 0000:01:00.0 (0xbdf6f000-0xbdf8dfff), so",
        "kernels of Proxmox VE also know intel_iommu=relax_rmrr",
    );
    let relaxed = HostFacts {
        parameters: known(["intel_iommu=on,relax_rmrr"]),
        ..facts()
    };
    // On a kernel that knows it no region of the kind is left.
    only(
        &unwell(examined(Some(&relaxed), &host(), &config())),
        Level::Warn,
        "reserved-memory",
        "what the firmware may still use",
        "the BMC",
    );
    let mut unknown = host();
    reserve(unknown.get_mut(at(GPU)).unwrap());
    has(
        &unwell(examined(Some(&relaxed), &unknown, &config())),
        Level::Fail,
        "reserved-memory",
        "keeps memory for 0000:01:00.0",
        "this kernel does not know intel_iommu=relax_rmrr",
    );
    let asleep = |address: &str, allowed| {
        let address = at(address);
        with_facts(|facts| facts.asleep = vec![Asleep { address, allowed }])
    };
    only(
        &asleep(GPU, true),
        Level::Warn,
        "power",
        "0000:01:00.0 is in D3cold",
        "d3cold = false in the mapping of 0000:01:00.0",
    );
    only(
        &asleep(GPU, false),
        Level::Warn,
        "power",
        "D3cold",
        "reboot",
    );
    assert_eq!(asleep(NIC, true), []);
}

#[test]
fn the_boot_display_is_told_where_it_is_mapped() {
    let framebuffer = |address: &str| {
        let address = at(address);
        with_facts(|facts| {
            let name = "BOOTFB".to_owned();
            facts.framebuffers = Seen::Known(vec![Framebuffer { name, address }]);
        })
    };
    only(
        &framebuffer(GPU),
        Level::Warn,
        "display",
        "(BOOTFB) is in the memory of 0000:01:00.0",
        "make another display the first one",
    );
    assert_eq!(framebuffer("0000:07:00.0"), []);
    only(
        &with_gpu(|gpu| gpu.boot_vga = true),
        Level::Warn,
        "display",
        "(boot_vga)",
        "make another display the first one",
    );
}

#[test]
fn nodes_are_there_and_not_for_everybody() {
    let node = |name: &str, mode| Node {
        name: name.to_owned(),
        mode,
    };
    let nodes = |nodes| with_facts(|facts| facts.nodes = Seen::Known(nodes));
    only(
        &nodes(vec![node("vfio", 0o666), node("7", 0o600)]),
        Level::Fail,
        "nodes",
        "there is no /dev/vfio/256",
        "devtmpfs",
    );
    only(
        &nodes(vec![]),
        Level::Fail,
        "nodes",
        "no /dev/vfio,",
        "devtmpfs",
    );
    only(
        &nodes(vec![node("256", 0o666)]),
        Level::Warn,
        "nodes",
        "every user may open /dev/vfio/256",
        "MODE=\"0660\"",
    );
    assert_eq!(nodes(vec![node("256", 0o660)]), []);
}
