//! `libvirt enable`: puts the hook where libvirt looks for hooks.
//!
//! A copy and not a link: the AppArmor profile of libvirtd lets it run what is in
//! that folder and in /usr/bin, and follows links first.

use std::{
    fs,
    io::{self, Stdout, Write as _},
    path::Path,
};

use crate::cli::exit::Stop;

/// The hook (packaging/deb.sh).
const PROGRAM: &str = "usr/lib/vfio-bindd/libvirt-hook";
/// Hooks beside the administrator's own `qemu` (libvirt hooks, since 6.5.0).
const FOLDER: &str = "etc/libvirt/hooks/qemu.d";
const NAME: &str = "vfio-bindd";
/// What a hook of ours has in it, also of an older version.
const MARK: &str = "vfio-bindctl hook libvirt";

/// Copies the hook where it is not yet, and prints the command.
pub(super) fn enable(out: &mut Stdout, root: &Path) -> Result<(), Stop> {
    let failed =
        |path: &Path, error: io::Error| Stop::failure(format!("{}: {error}", path.display()));
    let program = root.join(PROGRAM);
    let text = fs::read_to_string(&program).map_err(|error| failed(&program, error))?;
    let folder = root.join(FOLDER);
    let hook = folder.join(NAME);
    match fs::read_to_string(&hook) {
        Ok(old) if old == text => {}
        Ok(old) if !old.contains(MARK) => {
            let text = format!("{} is not vfio-bindd's", hook.display());
            return Err(Stop::failure(text));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&hook, error)),
        _ => {
            fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
            // Not in the folder itself: libvirt runs whatever is executable in there.
            let new = root.join(FOLDER).with_file_name(".vfio-bindd.new");
            let copied = fs::copy(&program, &new).and_then(|_| fs::rename(&new, &hook));
            copied.map_err(|error| failed(&hook, error))?;
        }
    }
    // It looks for hooks when it starts, and where it found none not again.
    let modular = root.join("run/virtqemud.pid").exists();
    let daemon = if modular { "virtqemud" } else { "libvirtd" };
    Ok(writeln!(out, "systemctl restart {daemon}")?)
}
