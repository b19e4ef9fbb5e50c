//! The seam to the rest of the host: what is not in sysfs and says who uses
//! what. Few questions, so that a test can answer them.
//!
//! Owns the root. Never interprets what it reads.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    net::IpAddr,
    path::Path,
};

use super::dev_watch::DevWatch;
use crate::policy::sriov::{Setting, VfSettings};

/// The host beside its sysfs, or something that answers like it.
pub trait Host {
    /// The file at `path`, which is absolute.
    ///
    /// # Errors
    /// As `open(2)` and `read(2)` say, and if it is larger than any such file
    /// is.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The names in the directory at `path`, sorted.
    ///
    /// # Errors
    /// As `getdents(2)` says.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// What the inode at `path` says of itself; a link is followed.
    ///
    /// # Errors
    /// As `stat(2)` says.
    fn stat(&self, path: &str) -> io::Result<Stat>;

    /// What is at `path`; a link is not followed.
    ///
    /// # Errors
    /// As `lstat(2)` says; and where there is no `/dev`.
    fn node(&self, path: &str) -> io::Result<Node> {
        Err(io::Error::other(format!("nobody looks at {path}")))
    }

    /// Opens the disk for reading only and for nobody else, and closes it: the
    /// kernel refuses that while a mount, swap, md, dm, bcache, btrfs or ZFS
    /// holds it or a part of it (block/bdev.c, `bd_may_claim`, v6.1).
    ///
    /// # Errors
    /// As `open(2)` says.
    fn open_exclusively(&self, disk: &str) -> io::Result<()>;

    /// The devices that processes have open.
    ///
    /// # Errors
    /// If not every process's can be seen.
    fn open_nodes(&self) -> io::Result<Open>;

    /// Sees from now on whether devices are opened; `None` where that cannot be
    /// seen.
    fn watch_nodes(&self) -> Option<DevWatch> {
        None
    }

    /// The addresses and routes of this network namespace.
    ///
    /// # Errors
    /// As the kernel says over netlink.
    fn network(&self) -> io::Result<Network>;

    /// What the VFs of the PF with this network interface are set to, by index;
    /// `None` of what its driver does not say.
    ///
    /// # Errors
    /// As the kernel says over netlink.
    fn vf_settings(&self, interface: u32) -> io::Result<BTreeMap<u16, VfSettings>> {
        Err(io::Error::other(format!(
            "nobody asks interface {interface}"
        )))
    }

    /// Sets one thing of one of these VFs.
    ///
    /// # Errors
    /// As the kernel says over netlink: `EOPNOTSUPP` where the driver has no such
    /// setting, `EPERM` without CAP_NET_ADMIN.
    fn set_vf(&self, interface: u32, index: u16, setting: Setting) -> io::Result<()> {
        let what = format!("nobody sets {setting} of VF {index} of interface {interface}");
        Err(io::Error::other(what))
    }
}

/// What an inode says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The permission bits.
    pub mode: u32,
    /// When the content was changed last, in seconds since 1970.
    pub modified: i64,
}

/// What an inode in `/dev` is, and whose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The major and minor number of a character device, `None` if it is none.
    pub character: Option<(u32, u32)>,
    /// The user that has it.
    pub uid: u32,
    /// The group that has it.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

/// What processes have open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Block and character devices.
    pub nodes: Vec<OpenNode>,
    /// Devices of vfio that have no node.
    pub vfio_devices: Vec<OpenVfioDevice>,
}

/// A vfio device that a process got from its IOMMU group, or from another
/// process. It stays open without the group's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenVfioDevice {
    /// The function's place in sysfs, `None` where the kernel does not say it:
    /// Linux 7.3 does, 6.12 does not.
    pub function: Option<String>,
    /// Who, `qemu-system-x86 (pid 812, 100.scope)`.
    pub process: String,
}

/// A device that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenNode {
    /// Whether it is a block device.
    pub block: bool,
    /// Its major and minor number.
    pub device: (u32, u32),
    /// Whether it is open for writing.
    pub writing: bool,
    /// Who, `qemu-system-x86 (pid 812, 100.scope)`.
    pub process: String,
}

/// Who has which address and which route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Interface index and address with its prefix length. Link-local ones,
    /// which an interface gives itself, are among them.
    pub addresses: Vec<(u32, IpAddr, u8)>,
    /// Interface index and destination; `None` is the default route. Local,
    /// broadcast and multicast ones, which the kernel makes of addresses, are
    /// left out.
    pub routes: Vec<(u32, Option<(IpAddr, u8)>)>,
}

/// The host that this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct ThisHost;

/// The most that is read of one file. A mount table of thousands of mounts has
/// some hundred kilobytes.
const MOST: u64 = 4 << 20;

impl Host for ThisHost {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
        // What is cut off could be what matters.
        if u64::try_from(read).is_ok_and(|read| read <= MOST) {
            Ok(bytes)
        } else {
            Err(io::ErrorKind::FileTooLarge.into())
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::metadata(path)?;
        Ok(Stat {
            mode: found.mode() & 0o7777,
            modified: found.mtime(),
        })
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
        let found = fs::symlink_metadata(path)?;
        let device = found.rdev();
        let number = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Node {
            character: found.file_type().is_char_device().then_some(number),
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode() & 0o7777,
        })
    }

    fn open_exclusively(&self, disk: &str) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags, open};
        // Names with a slash in /dev have a '!' in sysfs.
        let path = format!("/dev/{}", disk.replace('!', "/"));
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        open(path, flags, Mode::empty())?;
        Ok(())
    }

    fn open_nodes(&self) -> io::Result<Open> {
        super::open_nodes::open_nodes()
    }

    fn watch_nodes(&self) -> Option<DevWatch> {
        DevWatch::below(Path::new("/dev")).ok()
    }

    fn network(&self) -> io::Result<Network> {
        super::netlink::network()
    }

    fn vf_settings(&self, interface: u32) -> io::Result<BTreeMap<u16, VfSettings>> {
        super::netlink::vf_settings(interface)
    }

    fn set_vf(&self, interface: u32, index: u16, setting: Setting) -> io::Result<()> {
        super::netlink::set_vf(interface, index, setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_what_is_there_and_no_link_to_it() {
        let null = ThisHost.node("/dev/null").unwrap();
        assert_eq!((null.character, null.uid), (Some((1, 3)), 0));
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let link = ThisHost.node(link.to_str().unwrap()).unwrap();
        assert_eq!(link.character, None);
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fstab");
        let file = File::create(&path).unwrap();
        let path = path.to_str().unwrap();
        file.set_len(MOST).unwrap();
        assert_eq!(u64::try_from(ThisHost.read(path).unwrap().len()), Ok(MOST));
        file.set_len(MOST + 1).unwrap();
        let error = ThisHost.read(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
