//! `proxmox enable`: makes the hookscript a snippet, and says how a guest gets it.

use std::{
    fs,
    io::{self, Stdout, Write as _},
    os::unix::fs::symlink,
    path::Path,
};

use crate::cli::exit::{Exit, Stop};

/// The program behind the link (packaging/deb.sh).
const PROGRAM: &str = "/usr/lib/vfio-bindd/hookscript";
/// The snippets of the storage `local` (pve-storage, `PVE::Storage::DirPlugin`).
const SNIPPETS: &str = "var/lib/vz/snippets";
const NAME: &str = "vfio-bindd";

/// Links the snippet where it is not linked yet, and prints the command.
pub(super) fn enable(out: &mut Stdout, root: &Path, vm: u32) -> Result<(), Stop> {
    let folder = root.join(SNIPPETS);
    let link = folder.join(NAME);
    let failed = |error: io::Error| Stop::failure(format!("{}: {error}", link.display()));
    match fs::read_link(&link) {
        Ok(target) if target == Path::new(PROGRAM) => {}
        Ok(target) => {
            return Err(Stop::new(
                Exit::Failure,
                format!(
                    "{} is a link to {} already",
                    link.display(),
                    target.display()
                ),
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&folder).map_err(failed)?;
            symlink(PROGRAM, &link).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(writeln!(
        out,
        "qm set {vm} --hookscript local:snippets/{NAME}"
    )?)
}
