//! The kernel's modules: where their lists are, and how one is loaded.
//!
//! Whether a module was loaded is for the caller to see in sysfs.

use std::{fs, io, process::Command};

use super::{host::Host, usage::words};

/// Where modules are, a folder for each kernel.
const MODULES: &str = "/lib/modules";

/// There while systemd is the service manager (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// How a module is loaded.
pub trait Modules {
    /// Loads the module, or does nothing if it is there.
    ///
    /// # Errors
    /// What went wrong, in words.
    fn load(&self, name: &str) -> Result<(), String>;
}

/// `modprobe`; where this process does not see the modules, as under
/// `ProtectKernelModules=` (systemd.exec(5)), systemd's.
#[derive(Clone, Copy, Debug)]
pub struct Modprobe;

impl Modules for Modprobe {
    fn load(&self, name: &str) -> Result<(), String> {
        let hidden = fs::read_dir(MODULES).map_or(true, |mut found| found.next().is_none());
        if hidden && fs::metadata(SYSTEMD_RUNS).is_ok() {
            return load_by_systemd(name);
        }
        let output = Command::new("/sbin/modprobe")
            .args(["--", name])
            .env_clear()
            .output()
            .map_err(|error| format!("modprobe cannot be run: {}", words(&error)))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("modprobe {name}: {}", on_one_line(&text)))
    }
}

/// Starts `modprobe@NAME.service`, which ends well whatever modprobe says.
fn load_by_systemd(name: &str) -> Result<(), String> {
    let unit = format!("modprobe@{}.service", name.replace('-', "_"));
    let output = Command::new("/bin/systemctl")
        .args(["--quiet", "--no-ask-password", "start", &unit])
        .env_clear()
        .output()
        .map_err(|error| format!("systemctl cannot be run: {}", words(&error)))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{unit}: {}", on_one_line(&text)))
}

/// What a program says, line by line, as one clause.
fn on_one_line(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim().trim_start_matches("modprobe: ");
        line.trim_start_matches("ERROR: ")
            .trim_start_matches("FATAL: ")
    });
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// One of the lists of modules of the Linux `release`, `None` where there is
/// none. `NixOS` has them elsewhere, and the units show them to whom they are
/// hidden otherwise.
pub(super) fn list(host: &dyn Host, release: &str, name: &str) -> Result<Option<String>, String> {
    let folders = [
        format!("{MODULES}/{release}"),
        format!("/run/booted-system/kernel-modules{MODULES}/{release}"),
        "/run/vfio-bindd/modules".to_owned(),
    ];
    for folder in folders {
        let path = format!("{folder}/{name}");
        match host.read(&path) {
            Ok(bytes) => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(format!("{path}: {}", words(&error))),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modprobe_is_quoted_on_one_line() {
        let text = "modprobe: ERROR: Error running install command '/bin/false' for module x: \
                    retcode 1\nmodprobe: ERROR: could not insert 'x': Invalid argument\n\n";
        let wanted = "Error running install command '/bin/false' for module x: retcode 1; \
                      could not insert 'x': Invalid argument";
        assert_eq!(on_one_line(text), wanted);
        let text = "modprobe: FATAL: Module x not found in directory /lib/modules/6.12\n";
        assert_eq!(
            on_one_line(text),
            "Module x not found in directory /lib/modules/6.12"
        );
    }
}
