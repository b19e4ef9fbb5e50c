//! Which QEMU emulates a host: this machine's own, or the newer one in an image.
//!
//! The latter runs out of a folder, by the image's own loader and libraries. So
//! nothing is mounted and no root is changed: its sockets, its share and its end are
//! those of any other QEMU.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::build_image;
use crate::Result;
use crate::topology::{Qemu, Release};

/// The name of the program.
const QEMU: &str = "qemu-system-x86_64";

/// The folder beside an image's disk with the image's QEMU.
const FOLDER: &str = "qemu";

/// What of the image is in it, each under its last name: the program, all
/// libraries with their loader, and the firmware.
const PARTS: [&str; 4] = [
    "/usr/bin/qemu-system-x86_64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/share/qemu",
    "/usr/share/seabios",
];

/// The first words of a command line that starts QEMU.
pub(super) fn command(wanted: Qemu) -> Result<Vec<String>> {
    let own = vec![QEMU.to_owned()];
    if wanted == Qemu::Installed || has_igb(&own) {
        return Ok(own);
    }
    // The ordinary image has one for guests within the guest.
    let image = build_image(Release::Trixie, None)?;
    let folder = image.join(FOLDER);
    if !folder.exists() {
        unpack(&image, &folder)?;
    }
    Ok(from(&folder))
}

/// Whether a QEMU emulates the NIC. Its answer is told from its words: the status
/// is 0 either way.
fn has_igb(qemu: &[String]) -> bool {
    let [program, args @ ..] = qemu else {
        return false;
    };
    Command::new(program)
        .args(args)
        .args(["-device", "igb,help"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("igb options"))
}

/// An image's QEMU, out of its folder.
fn from(folder: &Path) -> Vec<String> {
    let libraries = folder.join("x86_64-linux-gnu");
    let path = |path: &Path| path.display().to_string();
    vec![
        path(&libraries.join("ld-linux-x86-64.so.2")),
        // What this machine has under the same names is of another build.
        "--inhibit-cache".to_owned(),
        "--library-path".to_owned(),
        path(&libraries),
        path(&folder.join(QEMU)),
        "-L".to_owned(),
        path(&folder.join("qemu")),
        "-L".to_owned(),
        path(&folder.join("seabios")),
    ]
}

/// Takes it out of the image's disk, without a mount, which not every place that
/// tests run in allows.
fn unpack(image: &Path, folder: &Path) -> Result<()> {
    let failed = |what: &str| {
        format!(
            "no QEMU with igb (it came with QEMU 8) here and in {}: {what}",
            image.display()
        )
    };
    let work = TempDir::with_prefix_in(".qemu-", image).map_err(|e| failed(&e.to_string()))?;
    // It may live in sbin, which is not on everyone's path.
    let path = env::var("PATH").unwrap_or_default();
    let output = Command::new("debugfs")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(["-R", &format!("rdump {} .", PARTS.join(" "))])
        .arg(image.join("disk.img"))
        .current_dir(work.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            failed(&format!(
                "debugfs does not start ({error}); `make deps-lab` installs it"
            ))
        })?;
    // Its status is 0 whatever happens.
    if !has_igb(&from(work.path())) {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    // The rename is the last step, so that a folder with this name is complete.
    match fs::rename(work.path(), folder) {
        Ok(()) => {
            // It is there no more, under this name.
            drop(work.keep());
            Ok(())
        }
        // Another run was faster.
        Err(_) if folder.exists() => Ok(()),
        Err(error) => Err(failed(&error.to_string())),
    }
}
