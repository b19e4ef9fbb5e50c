//! The emulator's command line, and the file with a disk's writes.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::qemu;
use crate::Result;
use crate::topology::Topology;

/// Keeps the guest's kernel quiet, which makes an emulated boot notably faster,
/// and has it start again where it panics, see [`Machine::panics`].
const KERNEL_LINE: &str =
    "rw console=ttyS0 intel_iommu=on iommu=pt quiet systemd.show_status=0 panic=1";

/// What a guest hands out as the initrd that it made, in the shared folder.
pub(crate) const GUEST_INITRD: &str = "initrd.img";

/// The file in a machine's folder with the writes to the image's disk.
const OVERLAY: &str = "root.qcow2";

/// QEMU and its arguments for a boot, but for the kernel's command line. Files are
/// those of the machine's folder, in which QEMU runs, where no path is named.
pub(super) fn command_line(
    topology: &Topology,
    image: &Path,
    serial_log: &Path,
) -> Result<Vec<String>> {
    let initrd = if topology.own_initrd {
        Path::new("share").join(GUEST_INITRD)
    } else {
        image.join("initrd.img")
    };
    let root = if topology.keeps_root {
        format!("file={OVERLAY},format=qcow2,cache=unsafe")
    } else {
        format!("file={}/disk.img,format=raw,snapshot=on", image.display())
    };
    let mut words = qemu::command(topology.qemu)?;
    words.extend(topology.args().iter().cloned());
    words.extend(
        [
            "-kernel",
            &format!("{}/vmlinuz", image.display()),
            "-initrd",
            &initrd.display().to_string(),
            "-drive",
            &format!("{root},if=none,id=root"),
            "-device",
            topology.root_device,
            "-fsdev",
            "local,id=share,path=share,security_model=none",
            "-device",
            "virtio-9p-pci,fsdev=share,mount_tag=share,bus=pcie.0",
            "-chardev",
            &format!(
                "socket,id=console,path=console.sock,server=on,wait=off,logfile={},logappend=on",
                serial_log.display()
            ),
            "-serial",
            "chardev:console",
            "-chardev",
            "socket,id=shell,path=shell.sock,server=on,wait=off",
            "-serial",
            "chardev:shell",
            "-qmp",
            "unix:qmp.sock,server=on,wait=off",
        ]
        .map(str::to_owned),
    );
    Ok(words)
}

/// Makes the file that gets the writes to the image's disk.
pub(super) fn overlay(image: &Path, folder: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(image.join("disk.img"))
        .arg(folder.join(OVERLAY))
        .output()
        .map_err(|error| {
            format!("qemu-img does not start ({error}); `make deps-lab` installs it")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "no file for the root disk's writes: {}",
        words.trim()
    ))
}

/// Starts QEMU in `folder`. Returns at once.
pub(super) fn spawn(
    folder: &Path,
    command_line: &[String],
    root_parameter: &str,
    log: &Path,
) -> Result<Child> {
    let errors = OpenOptions::new()
        .append(true)
        .open(log)
        .map_err(|error| format!("{}: {error}", log.display()))?;
    // A guest must not outlive a driver that was killed, hence setpriv.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(command_line)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-append", &format!("{root_parameter} {KERNEL_LINE}")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|error| {
            format!("qemu-system-x86_64 does not start ({error}); `make deps-lab` installs it")
        })
}
