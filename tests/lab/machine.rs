//! One emulated host as a process: starts QEMU, keeps its files, ends it.

mod emulator;
mod panics;
mod qemu;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use self::emulator::GUEST_INITRD;
use self::emulator::{command_line, overlay, spawn};
use self::panics::panics;
use crate::Result;
use crate::topology::{Release, Topology};

/// How each text begins that says that the emulator failed, not what was tested.
const EMULATOR: &str = "the emulator failed: ";

/// Whether an error says that the emulator failed.
pub(crate) fn is_of_the_emulator(error: &str) -> bool {
    error.starts_with(EMULATOR)
}

/// A running QEMU. Dropping it ends the guest; its disk's writes are forgotten.
pub(crate) struct Machine {
    child: Child,
    /// The folder with the kernel, the initrd and the disk as they were built.
    image: PathBuf,
    /// What they are of.
    release: Release,
    qemu_log: PathBuf,
    /// Sockets, the shared folder and scratch disks; gone with the machine.
    folder: TempDir,
    serial_log: PathBuf,
}

impl Machine {
    /// Starts the guest; `name` is that of its logs. Returns at once.
    pub(crate) fn start(name: &str, topology: &Topology) -> Result<Self> {
        let image = build_image(topology.release, topology.flavour)?;
        let folder = TempDir::with_prefix("vfio-bindd-lab-")
            .map_err(|error| format!("no folder for the guest's files: {error}"))?;
        let logs = log_folder()?;
        let serial_log = logs.join(format!("{name}-serial.log"));
        let qemu_log = logs.join(format!("{name}-qemu.log"));
        for log in [&serial_log, &qemu_log] {
            File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        }
        fs::create_dir(folder.path().join("share"))
            .map_err(|error| format!("no shared folder: {error}"))?;
        for (disk, size) in &topology.disks {
            File::create(folder.path().join(format!("{disk}.img")))
                .and_then(|file| file.set_len(size << 20))
                .map_err(|error| format!("no disk {disk}: {error}"))?;
        }
        if topology.keeps_root {
            overlay(&image, folder.path())?;
        }
        let words = command_line(topology, &image, &serial_log)?;
        let child = spawn(folder.path(), &words, topology.root_parameter, &qemu_log)?;
        Ok(Self {
            child,
            image,
            release: topology.release,
            qemu_log,
            folder,
            serial_log,
        })
    }

    /// Ends QEMU as a power cut would, where it still runs, and starts it again
    /// as this host, which is to have the same disks. The empty ones keep their
    /// content, and the image's does where the topology says so.
    pub(crate) fn start_again(&mut self, topology: &Topology) -> Result<()> {
        self.end();
        for socket in ["shell.sock", "qmp.sock", "console.sock"] {
            // QEMU makes them anew; an old one would be taken for its own.
            drop(fs::remove_file(self.file(socket)));
        }
        self.child = spawn(
            self.folder.path(),
            &command_line(topology, &self.image, &self.serial_log)?,
            topology.root_parameter,
            &self.qemu_log,
        )?;
        Ok(())
    }

    /// Waits until QEMU ended because the guest turned the power off.
    pub(crate) fn wait_off(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(None) if Instant::now() < end => sleep(Duration::from_millis(100)),
                Ok(None) => return Err(format!("the power is on after {} s", limit.as_secs())),
                _ => return self.check(),
            }
        }
    }

    fn end(&mut self) {
        // Both fail only where QEMU is gone already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Says why the guest is gone, or as good as gone, if it is.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.is_fit()?;
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let words = fs::read_to_string(&self.qemu_log).unwrap_or_default();
                Err(format!("QEMU ended ({status}): {}", words.trim()))
            }
            Err(error) => Err(format!("QEMU cannot be asked for its state: {error}")),
        }
    }

    /// Says why nothing more can run in the guest, if so. One that turned its power
    /// off can be started again.
    pub(crate) fn is_fit(&self) -> Result<()> {
        self.lost().map_or(Ok(()), Err)
    }

    /// What makes the guest unfit for anything more, if there is something: a
    /// processor without a timer, which happens to a starting guest on a busy
    /// machine (its kernel then says every 20 seconds that one does nothing), or
    /// a panic under running processes, which leaves a broken file system.
    fn lost(&self) -> Option<String> {
        let log = self.serial();
        if log.matches("rcu_preempt kthread starved").count() >= 3 {
            return Some(format!("{EMULATOR}a processor has lost its timer"));
        }
        let panic = panics(&log).into_iter().find(|panic| !panic.is_early)?;
        let whose = if panic.names_vfio { "" } else { EMULATOR };
        Some(format!(
            "{whose}the guest's kernel panicked\n{}",
            panic.text
        ))
    }

    /// How the emulator itself failed, if it did: by a signal, as QEMU 7.2 now
    /// and then gets one when a card is unplugged, or by what it did to the guest.
    pub(crate) fn crashed(&mut self) -> Option<String> {
        if let Some(words) = self.lost() {
            return Some(words).filter(|words| is_of_the_emulator(words));
        }
        // It takes a while to write its memory down.
        sleep(Duration::from_millis(500));
        let status = self.child.try_wait().ok().flatten()?;
        status.signal().map(|_| status.to_string())
    }

    /// The release that runs in it.
    pub(crate) fn release(&self) -> Release {
        self.release
    }

    /// A file in the machine's own folder (sockets by name).
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that the guest sees as `/mnt/share`.
    pub(crate) fn share(&self) -> PathBuf {
        self.file("share")
    }

    /// The panics of a kernel that no process ran on yet, after each of which it
    /// started again.
    pub(crate) fn early_panics(&self) -> Vec<String> {
        let all = panics(&self.serial()).into_iter();
        all.filter(|panic| panic.is_early)
            .map(|panic| panic.line)
            .collect()
    }

    fn serial(&self) -> String {
        let bytes = fs::read(&self.serial_log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines that the guest's kernel and services wrote to the console,
    /// without what would move a terminal's cursor.
    pub(crate) fn serial_tail(&self, lines: usize) -> String {
        let mut text = self.serial();
        text.retain(|letter| letter == '\n' || !letter.is_control());
        let all: Vec<&str> = text.lines().collect();
        let tail = all
            .get(all.len().saturating_sub(lines)..)
            .unwrap_or_default();
        tail.join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where logs stay after a run: beside the build, so that CI can collect them.
fn log_folder() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// The folder of an image, which is built where it does not exist yet.
fn build_image(release: Release, flavour: Option<&str>) -> Result<PathBuf> {
    let release = release.name();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/image.sh");
    let output = Command::new(&script)
        .arg(release)
        .args(flavour)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        return Err(format!(
            "no {release} image: image.sh ended with {}",
            output.status
        ));
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}
