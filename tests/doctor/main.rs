//! What the doctor finds: each check on a host where its subject is in order,
//! and on one where it is not.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

mod functions;
mod host;
mod iommu;
mod modules;
mod proxmox;
#[path = "../support/mod.rs"]
mod support;
mod survey;
#[path = "../support/tree.rs"]
mod tree;

use support::{FunctionExt as _, at, by_address, inventory, mapping, nic, policy, up};
use vfio_bindd::{
    pci::{function::Function, id::ClassCode, inventory::Inventory},
    policy::{
        doctor::{
            Case, Finding, Level, examine,
            facts::{Cpu, HostFacts, Image, Loader, Module, Node, Seen, Unit},
        },
        model::Policy,
        plan::plan,
        resolve::Held,
    },
};

/// A mapped display that is bound, and a NIC of the host's.
const GPU: &str = "0000:01:00.0";
const NIC: &str = "0000:02:00.0";

fn known<const N: usize>(texts: [&str; N]) -> Seen<Vec<String>> {
    Seen::Known(texts.map(str::to_owned).to_vec())
}

fn facts() -> HostFacts {
    let modules = ["vfio", "vfio_iommu_type1", "vfio_pci"];
    let node = |name: &str, mode| Node {
        name: name.to_owned(),
        mode,
    };
    HostFacts {
        kernel: "6.12.9".to_owned(),
        cpu: Cpu::Intel,
        loader: Loader::Grub,
        parameters: known(["iommu=pt"]),
        iommus: known(["dmar0"]),
        tables: known(["DMAR"]),
        remapping: Seen::Known(true),
        modules: modules
            .map(|name| (name.to_owned(), Module::Loaded))
            .into_iter()
            .chain([("vfio_virqfd".to_owned(), Module::Missing)])
            .collect(),
        listed: Seen::Known(Vec::new()),
        directives: Seen::Known(Vec::new()),
        driverctl: Seen::Known(Vec::new()),
        framebuffers: Seen::Known(Vec::new()),
        nodes: Seen::Known(vec![node("256", 0o600), node("vfio", 0o666)]),
        proxmox: Seen::Known(None),
        initramfs: Seen::Known(Some(Image {
            file: "/boot/initrd.img-6.12.9".to_owned(),
            older_than: Vec::new(),
            early: None,
        })),
        hung_task_panic: Seen::Known(false),
        memory_locks: Seen::Known(Vec::new()),
        lockdown: Seen::Known(None),
        unit: Seen::Known(Unit::Enabled),
        ..HostFacts::default()
    }
}

fn gpu() -> Function {
    nic(GPU).driver("vfio-pci").with(|one| {
        one.id = "10de:2684".parse().unwrap();
        one.class = ClassCode::new(0x03_0000);
        one.reset_methods = vec!["flr".to_owned()];
        let inspection = one.inspection.as_mut().unwrap();
        inspection.driver_override = Some("vfio-pci".to_owned());
    })
}

fn host() -> Inventory {
    inventory([
        gpu(),
        nic(NIC).driver("e1000e").in_use(up("eth0")).with(|one| {
            one.reset_methods = vec!["flr".to_owned()];
        }),
    ])
}

fn config() -> Policy {
    policy([("gpu", mapping(vec![by_address(GPU)]))])
}

fn examined(facts: Option<&HostFacts>, inventory: &Inventory, policy: &Policy) -> Vec<Finding> {
    examine(&Case {
        host: facts,
        inventory,
        plan: &plan(inventory, policy, &Held::new()),
        mistake: None,
    })
}

/// What is not well on a host whose facts are changed.
fn with_facts(change: impl FnOnce(&mut HostFacts)) -> Vec<Finding> {
    let mut facts = facts();
    change(&mut facts);
    unwell(examined(Some(&facts), &host(), &config()))
}

/// What is not well on a host whose mapped function is changed.
fn with_gpu(change: impl FnOnce(&mut Function)) -> Vec<Finding> {
    let mut host = host();
    change(host.get_mut(at(GPU)).unwrap());
    unwell(examined(Some(&facts()), &host, &config()))
}

fn unwell(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.retain(|finding| finding.level != Level::Ok);
    findings
}

/// Exactly one finding, of this level and check, whose text and advice have
/// these parts.
#[track_caller]
fn only(findings: &[Finding], level: Level, name: &str, text: &str, advice: &str) {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    has(findings, level, name, text, advice);
}

#[track_caller]
fn has(findings: &[Finding], level: Level, name: &str, text: &str, advice: &str) {
    let found = findings.iter().any(|finding| {
        finding.level == level
            && finding.name == name
            && finding.text.contains(text)
            && finding.advice.contains(advice)
    });
    assert!(
        found,
        "no {name} with {text:?} and {advice:?} in {findings:#?}"
    );
}

#[test]
fn a_host_in_order_has_a_good_line_for_each_check() {
    let findings = examined(Some(&facts()), &host(), &config());
    assert_eq!(unwell(findings.clone()), []);
    let names: Vec<_> = findings.iter().map(|finding| finding.name).collect();
    assert_eq!(
        names,
        [
            "config",
            "service",
            "iommu",
            "firmware",
            "interrupts",
            "isolation",
            "modules",
            "static-ids",
            "modprobe",
            "mapping",
            "groups",
            "unmapped",
            "reset",
            "reserved-memory",
            "display",
            "nodes",
            "initramfs",
            "hung-task",
            "memory-lock",
            "lockdown",
        ]
    );
    assert!(findings.iter().all(|finding| finding.advice.is_empty()));
    for finding in findings {
        let text = &finding.text;
        assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    }
}

/// What was not seen is never well, and never a failure of the host's.
#[test]
fn what_cannot_be_seen_is_said() {
    type Change = fn(&mut HostFacts, String);
    let changes: [(&str, Change); 12] = [
        ("iommu", |facts, why| facts.iommus = Seen::Unseen(why)),
        ("firmware", |facts, why| facts.tables = Seen::Unseen(why)),
        ("interrupts", |facts, why| {
            facts.remapping = Seen::Unseen(why)
        }),
        ("isolation", |facts, why| {
            facts.parameters = Seen::Unseen(why)
        }),
        ("retired-module", |facts, why| {
            facts.listed = Seen::Unseen(why)
        }),
        ("modprobe", |facts, why| {
            facts.directives = Seen::Unseen(why)
        }),
        ("driverctl", |facts, why| {
            facts.driverctl = Seen::Unseen(why)
        }),
        ("display", |facts, why| {
            facts.framebuffers = Seen::Unseen(why)
        }),
        ("nodes", |facts, why| facts.nodes = Seen::Unseen(why)),
        ("proxmox", |facts, why| facts.proxmox = Seen::Unseen(why)),
        ("initramfs", |facts, why| {
            facts.initramfs = Seen::Unseen(why)
        }),
        ("service", |facts, why| facts.unit = Seen::Unseen(why)),
    ];
    for (name, change) in changes {
        let findings = with_facts(|facts| change(facts, "/x: permission denied".to_owned()));
        let text = "cannot be judged: /x: permission denied";
        only(&findings, Level::Warn, name, text, "run it as root");
    }
}

#[test]
fn a_record_without_facts_is_judged_by_its_functions() {
    let findings = examined(None, &host(), &config());
    only(
        &unwell(findings.clone()),
        Level::Warn,
        "record",
        "nothing of the host beside its functions",
        "vfio-bindctl dump",
    );
    has(
        &findings,
        Level::Ok,
        "mapping",
        "gpu: bound: 0000:01:00.0",
        "",
    );
    // And facts that nobody gathered claim nothing.
    let blank = HostFacts::default();
    let findings = unwell(examined(Some(&blank), &host(), &config()));
    assert!(findings.len() > 10, "{findings:#?}");
    assert!(findings.iter().all(|finding| finding.level == Level::Warn));
}
