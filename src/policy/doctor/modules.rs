//! The modules of vfio: whether they are there, and what asks for ones that
//! are not.

use super::{
    Finding,
    advice::renew_initramfs,
    facts::{HostFacts, Module, Seen},
};

/// What device assignment needs. The names are those of the kernel, with `_`.
const NEEDED: [&str; 3] = ["vfio", "vfio_iommu_type1", "vfio_pci"];
/// A module up to 6.1, a part of vfio from 6.2 on (drivers/vfio/Makefile).
const RETIRED: &str = "vfio_virqfd";

pub(super) fn all(facts: &HostFacts) -> Vec<Finding> {
    let mut findings = vec![needed(facts)];
    findings.extend(retired(facts));
    findings
}

fn is(facts: &HostFacts, name: &str, wanted: Module) -> bool {
    facts.modules.get(name).copied().unwrap_or(Module::Unknown) == wanted
}

/// Whether `vfio_pci` and what it needs are in the kernel now.
pub(super) fn are_loaded(facts: &HostFacts) -> bool {
    let mut needed = NEEDED.into_iter();
    needed.all(|name| is(facts, name, Module::Loaded) || is(facts, name, Module::BuiltIn))
}

fn needed(facts: &HostFacts) -> Finding {
    const NAME: &str = "modules";
    let all = |wanted| {
        let names = NEEDED.into_iter().filter(|name| is(facts, name, wanted));
        names.collect::<Vec<_>>()
    };
    let missing = all(Module::Missing);
    if !missing.is_empty() {
        return Finding::fail(
            NAME,
            format!("the kernel {} has no {}", facts.kernel, missing.join(", ")),
            "boot a kernel with CONFIG_VFIO_PCI and CONFIG_VFIO_IOMMU_TYPE1, or install the \
             package with the rest of its modules",
        );
    }
    let unknown = all(Module::Unknown);
    if !unknown.is_empty() {
        let text = format!(
            "{} not loaded, and the modules of the kernel {} cannot be listed",
            are(&unknown),
            facts.kernel
        );
        let advice = format!("modprobe -a {}", unknown.join(" "));
        return Finding::warn(NAME, text, advice);
    }
    let available = all(Module::Available);
    if !available.is_empty() {
        return Finding::warn(
            NAME,
            format!("{} not loaded", are(&available)),
            format!(
                "modprobe -a {}; at boot modules-load.d/vfio-bindd.conf of the package does it",
                available.join(" ")
            ),
        );
    }
    let how = match all(Module::BuiltIn).as_slice() {
        [] => "loaded".to_owned(),
        built_in if built_in.len() == NEEDED.len() => "built in".to_owned(),
        built_in => format!("loaded ({} built in)", built_in.join(", ")),
    };
    Finding::ok(NAME, format!("{} are {how}", NEEDED.join(", ")))
}

fn are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

fn retired(facts: &HostFacts) -> Vec<Finding> {
    const NAME: &str = "retired-module";
    let lines = match &facts.listed {
        Seen::Known(lines) => lines,
        Seen::Unseen(why) => return vec![Finding::unseen(NAME, why)],
    };
    if !is(facts, RETIRED, Module::Missing) {
        return Vec::new();
    }
    let lines = lines.iter().filter(|line| line.module == RETIRED);
    lines
        .map(|line| {
            Finding::warn(
                NAME,
                format!(
                    "{} asks for {RETIRED}, which this kernel has inside vfio",
                    line.place
                ),
                format!("remove the line, then {}", renew_initramfs(facts)),
            )
        })
        .collect()
}
