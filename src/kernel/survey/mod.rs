//! Survey: what the doctor wants to know of a host beside its functions.
//!
//! Reads files and attributes, and says why where one cannot be read. Nothing
//! here takes a device lock; `/etc/pve` is a file system of a daemon's that may
//! not answer, so [`proxmox()`] is a question of its own. Judges nothing.

mod boot;
mod functions;
mod limits;
mod modprobe;
mod modules;
mod proxmox;

use std::io;

use super::{host::Host, sysfs::Sysfs, usage::words};
use crate::{
    pci::inventory::Inventory,
    policy::doctor::facts::{HostFacts, Proxmox, Seen},
};

/// One look at a host.
#[derive(Clone, Copy)]
pub struct Survey<'a> {
    /// The host's sysfs.
    pub sysfs: &'a dyn Sysfs,
    /// The rest of it.
    pub host: &'a dyn Host,
    /// Its functions.
    pub inventory: &'a Inventory,
    /// The release of its kernel.
    pub kernel: &'a str,
}

/// All facts but those of Proxmox VE, which are left unseen.
#[must_use]
pub fn survey(survey: Survey<'_>) -> HostFacts {
    let directives = modprobe::directives(survey);
    HostFacts {
        modules: modules::modules(survey),
        listed: modules::listed(survey).into(),
        initramfs: boot::initramfs(survey, directives.as_deref().unwrap_or_default()).into(),
        directives: directives.into(),
        driverctl: functions::driverctl(survey).into(),
        framebuffers: functions::framebuffers(survey).into(),
        asleep: functions::asleep(survey),
        nodes: functions::nodes(survey).into(),
        proxmox: Seen::default(),
        hung_task_panic: limits::hung_task_panic(survey).into(),
        memory_locks: limits::memory_locks(survey).into(),
        lockdown: limits::lockdown(survey).into(),
        unit: limits::unit(survey).into(),
        ..iommu(survey)
    }
}

/// The facts about the IOMMU; the others are left unseen.
#[must_use]
pub fn iommu(survey: Survey<'_>) -> HostFacts {
    HostFacts {
        kernel: survey.kernel.to_owned(),
        cpu: boot::cpu(survey),
        loader: boot::loader(survey),
        parameters: boot::parameters(survey).into(),
        iommus: survey.attributes("class/iommu").into(),
        tables: boot::tables(survey).into(),
        remapping: boot::remapping(survey).into(),
        unsafe_interrupts: survey.is_set("vfio_iommu_type1", "allow_unsafe_interrupts"),
        no_iommu_mode: survey.is_set("vfio", "enable_unsafe_noiommu_mode"),
        ..HostFacts::default()
    }
}

/// What Proxmox VE has in its config for this node, `None` where it is not
/// installed. This can block for as long as its cluster file system does.
///
/// # Errors
/// With a clause that says which file cannot be read and why.
pub fn proxmox(host: &dyn Host) -> Result<Option<Proxmox>, String> {
    proxmox::proxmox(host)
}

/// A line of a file that says something.
struct Line {
    /// The file and the line's number, `/etc/modules:7`.
    place: String,
    text: String,
}

impl Survey<'_> {
    /// The text of the file at `path`, `None` if there is none.
    fn file(&self, path: &str) -> Result<Option<String>, String> {
        file(self.host, path)
    }

    /// The names in the directory at `path`, none if there is no such directory.
    fn names(&self, path: &str) -> Result<Vec<String>, String> {
        names(self.host, path)
    }

    fn exists(&self, path: &str) -> bool {
        self.host.stat(path).is_ok()
    }

    /// The names in the directory of sysfs at `path`.
    fn attributes(&self, path: &str) -> Result<Vec<String>, String> {
        let names = present(self.sysfs.list(path)).map_err(|error| {
            let error = words(&error);
            format!("/sys/{path}: {error}")
        })?;
        Ok(names.unwrap_or_default())
    }

    /// Whether the parameter of the loaded module is on.
    fn is_set(&self, module: &str, parameter: &str) -> bool {
        let path = format!("module/{module}/parameters/{parameter}");
        super::sysfs::text(self.sysfs, &path).as_deref() == Some("Y")
    }

    /// The lines of the file at `path` that say something, without what follows
    /// a `#`; a line that ends with a backslash goes on in the next one.
    fn lines(&self, path: &str) -> Result<Vec<Line>, String> {
        let text = self.file(path)?.unwrap_or_default();
        let mut lines: Vec<Line> = Vec::new();
        let mut goes_on = false;
        for (number, line) in (1..).zip(text.lines()) {
            let (line, more) = match line.strip_suffix('\\') {
                Some(line) => (line, true),
                None => (line, false),
            };
            match lines.last_mut() {
                Some(last) if goes_on => last.text += line,
                _ => lines.push(Line {
                    place: format!("{path}:{number}"),
                    text: line.to_owned(),
                }),
            }
            goes_on = more;
        }
        for line in &mut lines {
            let said = line.text.split('#').next().unwrap_or_default().trim();
            line.text = said.to_owned();
        }
        lines.retain(|line| !line.text.is_empty());
        Ok(lines)
    }

    /// The files in `folders` whose names end with `suffix`, in the order of
    /// their names; a file hides one of its name in a later folder.
    fn drop_ins(&self, folders: &[&str], suffix: &str) -> Result<Vec<String>, String> {
        let mut found = std::collections::BTreeMap::new();
        for folder in folders {
            for name in self.names(folder)? {
                if name.ends_with(suffix) {
                    let path = format!("{folder}/{name}");
                    found.entry(name).or_insert(path);
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

/// What is there, `None` where nothing is.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn file(host: &dyn Host, path: &str) -> Result<Option<String>, String> {
    let bytes = present(host.read(path)).map_err(|error| format!("{path}: {}", words(&error)))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn names(host: &dyn Host, path: &str) -> Result<Vec<String>, String> {
    let names = present(host.list(path)).map_err(|error| format!("{path}: {}", words(&error)))?;
    Ok(names.unwrap_or_default())
}
