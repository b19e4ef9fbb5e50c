//! The config's files: `config.toml`, then `config.d/*.toml` beside it.
//!
//! Owns which files are read and in what order. Does not know what they mean.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::usage::words;
use crate::policy::config::Source;

/// Where the config is unless somebody says otherwise.
pub const DEFAULT: &str = "/etc/vfio-bindd/config.toml";

/// A config file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), words(source))]
pub struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// Reads all files of the config at `file`, or at the default place, where a
/// missing one is an empty one.
///
/// # Errors
/// With the first file that cannot be read or is not UTF-8.
pub fn read(file: Option<&Path>) -> Result<Vec<Source>, ReadError> {
    let main = file.unwrap_or(Path::new(DEFAULT));
    let mut sources = Vec::new();
    match source(main) {
        Err(error) if file.is_none() && error.source.kind() == io::ErrorKind::NotFound => {}
        source => sources.push(source?),
    }
    let folder = main.with_file_name("config.d");
    for path in drop_ins(&folder).map_err(|source| ReadError {
        path: folder,
        source,
    })? {
        sources.push(source(&path)?);
    }
    Ok(sources)
}

fn source(path: &Path) -> Result<Source, ReadError> {
    let text = fs::read_to_string(path).map_err(|source| ReadError {
        path: path.to_owned(),
        source,
    })?;
    Ok(Source {
        name: path.display().to_string(),
        text,
    })
}

/// Whether a file of this name in `config.d` is a part of the config: `*.toml`,
/// and hidden ones are not meant.
pub(super) fn is_drop_in(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.')
}

/// The drop-ins in `folder` in the order of their names.
fn drop_ins(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if is_drop_in(&name.to_string_lossy()) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_follow_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("config.toml");
        assert!(read(Some(&main)).is_err(), "a named file must be there");
        fs::write(&main, "a").unwrap();
        assert_eq!(read(Some(&main)).unwrap().len(), 1);
        let drops = folder.path().join("config.d");
        fs::create_dir(&drops).unwrap();
        for name in ["20.toml", "10.toml", ".30.toml", "40.toml.dpkg-old"] {
            fs::write(drops.join(name), name).unwrap();
        }
        let sources = read(Some(&main)).unwrap();
        let texts: Vec<_> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a", "10.toml", "20.toml"]);
        fs::write(&main, [0xff]).unwrap();
        let error = read(Some(&main)).unwrap_err().to_string();
        assert!(
            error.contains("config.toml: ") && error.contains("utf-8"),
            "{error}"
        );
    }
}
