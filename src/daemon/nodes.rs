//! What udev is left: whose nodes are to be, a file for each IOMMU group and each
//! function, below `nodes` in the runtime directory.
//!
//! Owns their text, which the package's rules import (99-vfio-bindd-nodes.rules).
//! A daemon that is gone leaves them behind: what is bound stays whose it is.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::runtime_file;
use crate::{engine::nodes::Rules, policy::ownership::Ownership};

/// The folder.
#[derive(Debug)]
pub(super) struct NodeFiles(Option<PathBuf>);

impl NodeFiles {
    /// `nodes` in `directory`; without one nothing is left.
    pub(super) fn new(directory: Option<&Path>) -> Self {
        Self(directory.map(|directory| directory.join("nodes")))
    }

    /// Leaves `rules`, and nothing else.
    pub(super) fn keep(&self, rules: &Rules) {
        let Some(folder) = &self.0 else {
            return;
        };
        if let Err(error) = keep(folder, rules) {
            tracing::warn!(
                "{}: {error}; udev does not know whose nodes are to be",
                folder.display()
            );
        }
    }
}

fn keep(folder: &Path, rules: &Rules) -> io::Result<()> {
    let groups = rules
        .groups
        .iter()
        .map(|(group, one)| (group.to_string(), one));
    let functions = rules.functions.iter();
    let functions = functions.map(|(address, one)| (address.to_string(), one));
    let wanted: BTreeMap<_, _> = groups.chain(functions).collect();
    let there = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && wanted.is_empty() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(folder)?;
            // Whatever the umask; nothing in it is secret.
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
            Vec::new()
        }
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    for entry in there {
        let name = entry.file_name();
        if !wanted
            .keys()
            .any(|wanted| name.as_os_str() == wanted.as_str())
        {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, ownership) in wanted {
        let (path, text) = (folder.join(name), properties(ownership));
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        runtime_file::write_text(&path, &text, 0o644)?;
    }
    Ok(())
}

/// What udev imports: a property a line (udev(7), `IMPORT{file}`).
fn properties(ownership: &Ownership) -> String {
    let mut text = String::new();
    if let Some(owner) = &ownership.owner {
        text += &format!("VFIO_BINDD_OWNER={owner}\n");
    }
    if let Some(group) = &ownership.group {
        text += &format!("VFIO_BINDD_GROUP={group}\n");
    }
    if let Some(mode) = ownership.effective_mode() {
        text += &format!("VFIO_BINDD_MODE={mode}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn there_is_a_file_for_each_group_and_each_function_and_none_besides() {
        let folder = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(Some(folder.path()));
        let nodes = folder.path().join("nodes");
        files.keep(&Rules::default());
        assert!(!nodes.exists());
        let ownership = Ownership {
            owner: Some("microvm".parse().unwrap()),
            group: Some("78".parse().unwrap()),
            mode: None,
        };
        let mut rules = Rules::default();
        rules.groups.insert(12, ownership.clone());
        let address = "0000:01:00.0".parse().unwrap();
        rules.functions.insert(address, ownership);
        files.keep(&rules);
        assert_eq!(names(&nodes), ["0000:01:00.0", "12"]);
        let text = "VFIO_BINDD_OWNER=microvm\nVFIO_BINDD_GROUP=78\nVFIO_BINDD_MODE=0660\n";
        assert_eq!(fs::read_to_string(nodes.join("12")).unwrap(), text);
        assert_eq!(
            fs::read_to_string(nodes.join("0000:01:00.0")).unwrap(),
            text
        );
        // What an earlier daemon left, in part.
        fs::write(nodes.join("7"), "").unwrap();
        fs::write(nodes.join("12.new"), "").unwrap();
        rules.functions.clear();
        rules.groups.get_mut(&12).unwrap().owner = None;
        files.keep(&rules);
        assert_eq!(names(&nodes), ["12"]);
        let text = "VFIO_BINDD_GROUP=78\nVFIO_BINDD_MODE=0660\n";
        assert_eq!(fs::read_to_string(nodes.join("12")).unwrap(), text);
        files.keep(&Rules::default());
        assert_eq!(names(&nodes), Vec::<String>::new());
        NodeFiles::new(None).keep(&rules);
    }
}
