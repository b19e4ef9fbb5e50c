//! The modules of vfio, and the files that ask to load them.

use std::collections::BTreeMap;

use super::Survey;
use crate::{
    kernel::modules,
    policy::doctor::facts::{Listed, Module},
};

/// Those that matter; the last one is a part of `vfio` from 6.2 on.
const NAMES: [&str; 4] = ["vfio", "vfio_iommu_type1", "vfio_pci", "vfio_virqfd"];

pub(super) fn modules(survey: Survey<'_>) -> BTreeMap<String, Module> {
    let list = |name| list(survey, name).ok().flatten();
    let (built_in, loadable) = (list("modules.builtin"), list("modules.dep"));
    let has = |list: &Option<String>, module: &str| {
        let mut lines = list.iter().flat_map(|list| list.lines());
        lines.any(|line| module_of(line) == module)
    };
    let state = |module: &str| {
        let loaded = survey.sysfs.list(&format!("module/{module}")).is_ok();
        if has(&built_in, module) {
            Module::BuiltIn
        } else if loaded {
            Module::Loaded
        } else if has(&loadable, module) {
            Module::Available
        } else if loadable.is_some() {
            Module::Missing
        } else {
            Module::Unknown
        }
    };
    let states = NAMES.iter().map(|name| ((*name).to_owned(), state(name)));
    states.collect()
}

/// One of the running kernel's lists of modules.
pub(super) fn list(survey: Survey<'_>, name: &str) -> Result<Option<String>, String> {
    modules::list(survey.host, survey.kernel, name)
}

/// The module in a line like `kernel/drivers/vfio/pci/vfio-pci.ko.xz: ...`.
fn module_of(line: &str) -> String {
    let path = line.split(':').next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    kernel_name(file.split(".ko").next().unwrap_or_default())
}

/// A module's name as the kernel has it: `-` is `_`.
pub(super) fn kernel_name(module: &str) -> String {
    module.replace('-', "_")
}

pub(super) fn listed(survey: Survey<'_>) -> Result<Vec<Listed>, String> {
    let mut files = vec!["/etc/modules".to_owned()];
    let folders = [
        "/etc/modules-load.d",
        "/run/modules-load.d",
        "/usr/local/lib/modules-load.d",
        "/usr/lib/modules-load.d",
    ];
    let drop_ins = survey.drop_ins(&folders, ".conf")?;
    // Debian's modules.conf there is a link to /etc/modules.
    let is_link = |path: &String| path == "/etc/modules-load.d/modules.conf";
    files.extend(drop_ins.into_iter().filter(|path| !is_link(path)));
    files.push("/etc/initramfs-tools/modules".to_owned());
    let mut listed = Vec::new();
    for file in files {
        for line in survey.lines(&file)? {
            // In /etc/modules options may follow.
            let word = line.text.split_whitespace().next().unwrap_or_default();
            let module = kernel_name(word);
            if module.starts_with("vfio") {
                let place = line.place;
                listed.push(Listed { place, module });
            }
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_their_files() {
        for (line, module) in [
            (
                "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/x.ko",
                "vfio_pci",
            ),
            ("kernel/drivers/vfio/vfio.ko", "vfio"),
            ("updates/dkms/nvidia.ko.zst:", "nvidia"),
            ("", ""),
        ] {
            assert_eq!(module_of(line), module);
        }
    }
}
