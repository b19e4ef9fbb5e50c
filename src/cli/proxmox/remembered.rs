//! What guests used when they started last: `pve/VMID.json` in the state
//! directory. A guest's config has addresses only; this tells of which mapping
//! they were when they were right.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::hooks::proxmox::verdict::{Before, Use};

/// systemd.exec(5), StateDirectory= of the daemon.
const FOLDER: &str = "var/lib/vfio-bindd/pve";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    value: String,
    mapping: String,
}

fn file(root: &Path, vm: u32) -> PathBuf {
    root.join(FOLDER).join(format!("{vm}.json"))
}

/// What is known of a guest; nothing where that cannot be read.
pub(super) fn recall(root: &Path, vm: u32) -> Before {
    let text = fs::read(file(root, vm)).unwrap_or_default();
    let entries: Vec<Entry> = serde_json::from_slice(&text).unwrap_or_default();
    let mut before = Before::new();
    for entry in entries {
        let mappings = before.entry((entry.key, entry.value)).or_default();
        mappings.insert(entry.mapping);
    }
    before
}

/// Writes down what a guest uses, if that is something new.
pub(super) fn keep(root: &Path, vm: u32, uses: &[Use]) -> io::Result<()> {
    let entries: Vec<_> = uses
        .iter()
        .map(|one| Entry {
            key: one.key.clone(),
            value: one.value.clone(),
            mapping: one.mapping.clone(),
        })
        .collect();
    let path = file(root, vm);
    let text = serde_json::to_vec_pretty(&entries)?;
    if fs::read(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(root.join(FOLDER))?;
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, &path)
}
