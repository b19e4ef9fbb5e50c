//! An emulated host that scenarios work with: its shell, its slots, its files.

mod power;
mod slots;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::Machine;
use crate::qmp::Qmp;
use crate::shell::{Output, Shell};
use crate::topology::{Port, Release};

/// Enough for any ordinary command under emulation.
const COMMAND: Duration = Duration::from_secs(60);
/// A guest asked to let a card go takes some five seconds.
const UNPLUG: Duration = Duration::from_secs(40);

/// A booted guest.
pub(crate) struct Guest {
    shell: Shell,
    qmp: Qmp,
    plugged: Vec<String>,
    figures: Vec<String>,
    package: Option<PathBuf>,
    installed: bool,
    /// Whether it was said if packages make images.
    images_set: bool,
    panics: usize,
    // Last, so that the sockets are closed before QEMU is ended.
    machine: Machine,
}

impl Guest {
    /// Runs a command; its failure is the caller's to judge.
    pub(crate) fn run(&mut self, command: &str) -> Result<Output> {
        self.run_for(command, COMMAND)
    }

    /// Runs a command that may take longer than usual.
    pub(crate) fn run_for(&mut self, command: &str, limit: Duration) -> Result<Output> {
        let machine = &mut self.machine;
        machine.check()?;
        self.shell.run(command, limit, || machine.check())
    }

    /// Runs a command that has to succeed; returns its output.
    pub(crate) fn ok(&mut self, command: &str) -> Result<String> {
        self.ok_for(command, COMMAND)
    }

    /// The same for a command that may take longer than usual.
    pub(crate) fn ok_for(&mut self, command: &str, limit: Duration) -> Result<String> {
        let output = self.run_for(command, limit)?;
        if output.status == 0 {
            return Ok(output.stdout);
        }
        Err(format!("`{command}` failed: {}", output.words()))
    }

    /// Repeats a command until it succeeds; returns its output.
    pub(crate) fn wait_until(&mut self, limit: Duration, command: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let output = self.run(command)?;
            if output.status == 0 {
                return Ok(output.stdout);
            }
            if start.elapsed() >= limit {
                return Err(format!(
                    "not within {} s: `{command}`: {}",
                    limit.as_secs(),
                    output.words()
                ));
            }
            sleep(Duration::from_millis(200));
        }
    }

    /// Writes a file in the guest, with the folders above it.
    pub(crate) fn write_file(&mut self, path: &str, text: &str) -> Result<()> {
        fs::write(self.machine.share().join("file"), text)
            .map_err(|error| format!("the shared folder: {error}"))?;
        self.ok(&format!("install -D -m 0644 /mnt/share/file {path}"))
            .map(drop)
    }

    /// Copies a file of this machine into the shared folder; returns its path in the guest.
    pub(crate) fn hand_in(&mut self, file: &Path) -> Result<String> {
        let name = file.file_name().ok_or("a file without a name")?;
        fs::copy(file, self.machine.share().join(name))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(format!("/mnt/share/{}", name.to_string_lossy()))
    }

    /// Whether packages have images made anew from now on. That takes a minute under
    /// emulation, so that [`Guest::installed`] does without where nobody asks.
    pub(crate) fn makes_images(&mut self, wanted: bool) -> Result<()> {
        let word = if wanted { "yes" } else { "no" };
        self.ok(&format!(
            "echo update_initramfs={word} >/etc/initramfs-tools/update-initramfs.conf"
        ))?;
        self.images_set = true;
        Ok(())
    }

    /// Installs a Debian package that lies on this machine.
    pub(crate) fn install(&mut self, package: &Path) -> Result<()> {
        if !self.images_set {
            self.makes_images(false)?;
        }
        let inside = self.hand_in(package)?;
        let command = format!("DEBIAN_FRONTEND=noninteractive dpkg -i {inside}");
        self.ok_for(&command, Duration::from_secs(300)).map(drop)
    }

    /// Installs the package under test where it is not installed yet.
    pub(crate) fn installed(&mut self) -> Result<()> {
        if self.installed {
            return Ok(());
        }
        self.install_again()
    }

    /// Installs the package under test, over what may be there.
    pub(crate) fn install_again(&mut self) -> Result<()> {
        let package = self
            .package
            .clone()
            .ok_or("there is no package to install")?;
        self.install(&package)?;
        self.installed = true;
        Ok(())
    }

    /// Notes that the package under test is no longer there.
    pub(crate) fn forget_installed(&mut self) {
        self.installed = false;
    }

    /// The address of a function of the card behind a port, of which it is the one
    /// device; VFs have other device numbers.
    pub(crate) fn behind(&mut self, port: Port, function: u8) -> Result<String> {
        let bridge = port.bridge();
        self.ok(&format!(
            "cd /sys/bus/pci/devices/{bridge} && ls -d [0-9a-f]*:??:00.{function}"
        ))
    }

    /// The driver of a function; empty where there is none.
    pub(crate) fn driver(&mut self, address: &str) -> Result<String> {
        self.ok(&format!(
            "basename \"$(readlink /sys/bus/pci/devices/{address}/driver)\""
        ))
    }

    /// Plugs another of the identical NICs into an empty slot and waits until the guest has seen it.
    pub(crate) fn plug(&mut self, port: Port, id: &str) -> Result<String> {
        self.plug_kind("e1000e", port, id)
    }

    /// The same with a card of this kind.
    pub(crate) fn plug_kind(&mut self, kind: &str, port: Port, id: &str) -> Result<String> {
        self.qmp.device_add(kind, port, id)?;
        self.plugged.push(id.to_owned());
        let bridge = port.bridge();
        self.wait_until(
            Duration::from_secs(30),
            &format!("cd /sys/bus/pci/devices/{bridge} && ls -d [0-9a-f]*:??:??.0"),
        )
    }

    /// Takes a hotplugged card out again and waits until it is gone.
    pub(crate) fn unplug(&mut self, id: &str) -> Result<()> {
        self.qmp.device_del(id)?;
        self.qmp.wait_deleted(id, UNPLUG)?;
        self.plugged.retain(|plugged| plugged != id);
        Ok(())
    }

    /// Takes out what a scenario left plugged in.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        if self.is_lost() {
            self.plugged.clear();
        }
        for id in std::mem::take(&mut self.plugged) {
            self.unplug(&id)?;
        }
        Ok(())
    }

    /// Keeps a measured value for the report.
    pub(crate) fn figure(&mut self, text: String) {
        self.figures.push(text);
    }

    /// Hands the measured values over.
    pub(crate) fn take_figures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.figures)
    }

    /// Whether the guest is still one to work with. That a starting kernel
    /// panicked and started again is only told.
    pub(crate) fn panicked(&mut self) -> Result<()> {
        self.machine.is_fit()?;
        let all = self.machine.early_panics();
        let new = all.get(self.panics..).unwrap_or_default();
        self.figures.extend(
            new.iter()
                .map(|line| format!("the guest had to start again: {line}")),
        );
        self.panics = all.len();
        Ok(())
    }

    /// Whether nothing more can run in it.
    pub(crate) fn is_lost(&self) -> bool {
        self.machine.is_fit().is_err()
    }

    /// How the emulator itself ended, if it crashed.
    pub(crate) fn crashed(&mut self) -> Option<String> {
        self.machine.crashed()
    }

    /// What there is to say about the guest when a scenario failed.
    pub(crate) fn evidence(&mut self) -> String {
        if self.is_lost() {
            return String::new();
        }
        let journal = self
            .shell
            .run(
                "journalctl --no-pager -b -n 60 -u 'vfio-bindd*' 2>&1
                 dmesg | grep vfio-bindd:; dmesg | tail -n 15",
                Duration::from_secs(30),
                || Ok(()),
            )
            .map_or_else(|error| error, |output| output.stdout);
        let serial = self.machine.serial_tail(20);
        format!("--- journal and kernel log\n{journal}\n--- console\n{serial}")
    }

    /// The release of Debian that runs in it.
    pub(crate) fn release(&self) -> Release {
        self.machine.release()
    }

    /// QEMU's socket of the console that people log in on.
    pub(crate) fn console_socket(&self) -> PathBuf {
        self.machine.file("console.sock")
    }
}
