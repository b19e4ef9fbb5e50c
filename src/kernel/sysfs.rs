//! The seam to sysfs: a few verbs over paths below `/sys`.
//!
//! Owns nothing but the root. Never interprets what it reads.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::pci::address::Address;

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
    /// The link of the function that it is near to, and where that leads.
    near: Option<(String, PathBuf)>,
}

impl HostSysfs {
    /// sysfs as mounted at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            near: None,
        }
    }

    /// The same, for a while, for whoever looks at the function at `address` often:
    /// to follow its link each time is two fifths of what a look costs.
    #[must_use]
    pub fn near(&self, address: Address) -> Self {
        let link = function_dir(address);
        // One that goes meanwhile is gone, and one that comes to another place is
        // not the same.
        let near = self.read_link(&link).ok().map(|to| {
            let place = self.root.join(target(&to));
            (link, place)
        });
        Self {
            root: self.root.clone(),
            near,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        if let Some((link, place)) = &self.near
            && let Some(below) = path.strip_prefix(link.as_str())
            && let Some(below) = below.strip_prefix('/')
        {
            return place.join(below);
        }
        self.root.join(path)
    }
}

impl Sysfs for HostSysfs {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut page = [0; PAGE];
        let mut file = fs::File::open(self.path(path))?;
        // The kernel shows all of an attribute at once (fs/seq_file.c, `seq_read_iter`,
        // v6.12), and a second read to find its end costs as much as the first.
        let length = file.read(&mut page)?;
        Ok(page.get(..length).unwrap_or_default().to_vec())
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        let target = fs::read_link(self.path(path))?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(self.path(path))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn directories(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
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
        let read = fs::File::open(self.path(path))?.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn node(&self, path: &str) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(fs::metadata(self.path(path))?.ino())
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        use io::Write as _;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).open(self.path(path))?;
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
pub(super) fn function_dir(address: Address) -> String {
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

    #[test]
    fn whoever_is_near_to_a_function_sees_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (devices, there) = ("bus/pci/devices", "devices/pci0000:00/0000:00:01.0");
        for dir in [devices, there, "devices/pci0000:00/0000:00:01.1"] {
            fs::create_dir_all(folder.path().join(dir)).unwrap();
        }
        for name in ["0000:00:01.0", "0000:00:01.1"] {
            let place = format!("devices/pci0000:00/{name}");
            fs::write(folder.path().join(&place).join("vendor"), name).unwrap();
            let link = folder.path().join(devices).join(name);
            std::os::unix::fs::symlink(format!("../../../{place}"), link).unwrap();
        }
        let address: Address = "0000:00:01.0".parse().unwrap();
        let sysfs = HostSysfs::new(folder.path());
        let near = sysfs.near(address);
        for other in ["0000:00:01.0", "0000:00:01.1"] {
            let place = format!("{devices}/{other}");
            assert_eq!(text(&near, &format!("{place}/vendor")).unwrap(), other);
            assert_eq!(near.read_link(&place).ok(), sysfs.read_link(&place).ok());
            assert_eq!(near.list(&place).unwrap(), ["vendor"]);
        }
        // It is what it was, and not what is at its address now.
        let link = folder.path().join(function_dir(address));
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("../../../devices/pci0000:00/0000:00:01.1", link).unwrap();
        let vendor = format!("{}/vendor", function_dir(address));
        assert_eq!(text(&near, &vendor).unwrap(), "0000:00:01.0");
        assert_eq!(text(&sysfs, &vendor).unwrap(), "0000:00:01.1");
        // Nobody is there, and nobody is seen.
        let none: Address = "0000:00:02.0".parse().unwrap();
        let vendor = format!("{}/vendor", function_dir(none));
        assert_eq!(text(&sysfs.near(none), &vendor), None);
    }
}
