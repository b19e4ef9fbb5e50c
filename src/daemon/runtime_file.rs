//! Files in the runtime directory, written whole or not at all. Nothing of them
//! survives a boot, so nothing is synced to a disk.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Where they are. A daemon that is started by hand has no such place.
pub(super) fn directory() -> Option<PathBuf> {
    // systemd.exec(5), RuntimeDirectory=.
    std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from)
}

/// Replaces the file by `value` as JSON.
///
/// # Errors
/// If it cannot be written; the old one is still there then.
pub(super) fn write(path: &Path, value: &impl Serialize, mode: u32) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write_text(path, &text, mode)
}

/// Replaces the file by `text`.
///
/// # Errors
/// As [`write`].
pub(super) fn write_text(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)?;
    // Whatever the umask.
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

/// What the file holds, `None` if there is none.
///
/// # Errors
/// If there is one and it cannot be read.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => Ok(Some(serde_json::from_slice(&text?)?)),
    }
}
