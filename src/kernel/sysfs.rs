//! The seam to sysfs: a few verbs over paths below `/sys`.
//!
//! Owns nothing but the root. Never interprets what it reads.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The most that is read of one attribute: a page, as the kernel shows it.
const PAGE: usize = 4096;

/// sysfs, or something that answers like it.
pub trait Sysfs {
    /// What the attribute at `path` says.
    ///
    /// # Errors
    /// As `read(2)` says.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// What the link at `path` points to, as it is written in it.
    ///
    /// # Errors
    /// As `readlink(2)` says.
    fn read_link(&self, path: &str) -> io::Result<String>;

    /// The names in the directory at `path`, sorted.
    ///
    /// # Errors
    /// As `getdents(2)` says.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// The names of the directories in the directory at `path`; a link to one
    /// is not meant.
    ///
    /// # Errors
    /// As `getdents(2)` says.
    fn directories(&self, path: &str) -> io::Result<Vec<String>>;

    /// `length` bytes of the binary attribute at `path` from `offset`, fewer
    /// at its end.
    ///
    /// # Errors
    /// As `pread(2)` says.
    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// The inode number of the directory at `path`, links followed. Within a
    /// boot sysfs gives each out once, so that it tells a function from the one
    /// that was at its address before (fs/kernfs/dir.c, `__kernfs_new_node`,
    /// v6.12: the number carries a generation). Takes no device lock.
    ///
    /// # Errors
    /// As `stat(2)` says.
    fn node(&self, path: &str) -> io::Result<u64>;

    /// Writes `value` to the attribute at `path` in one `write(2)`.
    ///
    /// # Errors
    /// As `write(2)` says.
    fn write(&self, path: &str, value: &str) -> io::Result<()>;
}

/// The host's sysfs, or a directory that looks like one.
#[derive(Clone, Debug)]
pub struct HostSysfs {
    root: PathBuf,
}

impl HostSysfs {
    /// sysfs as mounted at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }
}

impl Sysfs for HostSysfs {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut page = [0; PAGE];
        let mut file = fs::File::open(self.root.join(path))?;
        // The kernel shows all of an attribute at once (fs/seq_file.c, `seq_read_iter`,
        // v6.12), and a second read to find its end costs as much as the first.
        let length = file.read(&mut page)?;
        Ok(page.get(..length).unwrap_or_default().to_vec())
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        let target = fs::read_link(self.root.join(path))?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(self.root.join(path))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn directories(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(path))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; length];
        let read = fs::File::open(self.root.join(path))?.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn node(&self, path: &str) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(fs::metadata(self.root.join(path))?.ino())
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        use io::Write as _;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).open(self.root.join(path))?;
        // One write(2): an attribute takes its whole value at once.
        let written = file.write(value.as_bytes())?;
        if written < value.len() {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        Ok(())
    }
}

/// What the attribute says as text without its line end, `None` if it is not
/// there or cannot be read: a function may go at any time.
pub(super) fn text(sysfs: &(impl Sysfs + ?Sized), path: &str) -> Option<String> {
    let bytes = sysfs.read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The last part of what the link at `path` points to.
pub(super) fn link_name(sysfs: &(impl Sysfs + ?Sized), path: &str) -> Option<String> {
    let target = sysfs.read_link(path).ok()?;
    target.rsplit('/').next().map(str::to_owned)
}

/// The directory of a PCI function, for [`Sysfs`].
pub(super) fn function_dir(address: crate::pci::address::Address) -> String {
    format!("bus/pci/devices/{address}")
}

/// Where a link below `/sys` leads, from the root of sysfs: all such links are
/// relative and climb to the root first.
pub(super) fn target(link: &str) -> &str {
    link.trim_start_matches("../")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_stand_for_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = HostSysfs::new(folder.path());
        fs::write(folder.path().join("b"), "0x10d3\n").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink("../../x/e1000e", folder.path().join("driver")).unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        assert_eq!(sysfs.list(".").unwrap(), ["a", "b", "driver", "net"]);
        assert_eq!(sysfs.directories(".").unwrap(), ["net"]);
        assert_eq!(sysfs.read_at("b", 2, 2).unwrap(), *b"10");
        assert_eq!(sysfs.read_at("b", 5, 9).unwrap(), *b"3\n");
        assert_eq!(sysfs.read_at("b", 99, 1).unwrap(), *b"");
        let node = sysfs.node("net").unwrap();
        assert_eq!(sysfs.node("net").unwrap(), node);
        assert_ne!(sysfs.node(".").unwrap(), node);
        assert!(sysfs.node("none").is_err());
        assert_eq!(text(&sysfs, "b").unwrap(), "0x10d3");
        assert_eq!(link_name(&sysfs, "driver").unwrap(), "e1000e");
        sysfs.write("a", "vfio-pci").unwrap();
        assert_eq!(text(&sysfs, "a").unwrap(), "vfio-pci");
        assert_eq!(
            sysfs.write("none", "x").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(text(&sysfs, "none"), None);
    }
}
