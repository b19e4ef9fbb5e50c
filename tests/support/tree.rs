//! A directory that looks like `/sys` as far as a scan and an inspection read
//! it. It answers nothing by itself: what a write would change, the test does.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part; a test says no by a panic"
)]

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub(crate) struct Tree {
    folder: TempDir,
    pipes: RefCell<Vec<(PathBuf, Vec<u8>)>>,
}

impl Tree {
    /// A host with vfio-pci and no functions.
    pub(crate) fn new() -> Self {
        let tree = Self {
            folder: tempfile::tempdir().unwrap(),
            pipes: RefCell::default(),
        };
        for folder in [
            "bus/pci/devices",
            "bus/pci/drivers/vfio-pci",
            "class",
            "devices/pci0000:00",
            "kernel/iommu_groups",
        ] {
            fs::create_dir_all(tree.root().join(folder)).unwrap();
        }
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    fn dir(&self, address: &str) -> PathBuf {
        self.root().join("devices/pci0000:00").join(address)
    }

    /// A driverless e1000e at `address`, alone in IOMMU group `group`.
    pub(crate) fn add(&self, address: &str, group: u32) {
        let dir = self.dir(address);
        fs::create_dir(&dir).unwrap();
        for (name, value) in [
            ("vendor", "0x8086"),
            ("device", "0x10d3"),
            ("subsystem_vendor", "0x8086"),
            ("subsystem_device", "0x0000"),
            ("class", "0x020000"),
            ("revision", "0x00"),
            ("numa_node", "-1"),
            ("modalias", "pci:v00008086d000010D3"),
            ("reset_method", "flr bus"),
            ("power_state", "D0"),
            ("driver_override", "(null)"),
            ("uevent", "PCI_ID=8086:10D3"),
        ] {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        let members = format!("kernel/iommu_groups/{group}");
        let listed = self.root().join(&members).join("devices");
        fs::create_dir_all(&listed).unwrap();
        symlink(
            format!("../../../../devices/pci0000:00/{address}"),
            listed.join(address),
        )
        .unwrap();
        symlink(format!("../../../{members}"), dir.join("iommu_group")).unwrap();
        let listed = self.root().join("bus/pci/devices").join(address);
        symlink(format!("../../../devices/pci0000:00/{address}"), listed).unwrap();
    }

    /// What a kernel does when vfio-pci takes the function.
    pub(crate) fn bind(&self, address: &str) {
        let link = self.dir(address).join("driver");
        symlink("../../../bus/pci/drivers/vfio-pci", link).unwrap();
    }

    pub(crate) fn attribute(&self, address: &str, name: &str) -> PathBuf {
        self.dir(address).join(name)
    }

    /// The attribute becomes a pipe that nobody writes to: reading it blocks,
    /// as behind a device lock that is not given back, until it is released.
    pub(crate) fn hang(&self, address: &str, name: &str) -> PathBuf {
        let path = self.attribute(address, name);
        let value = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        pipe(&path);
        self.pipes.borrow_mut().push((path.clone(), value));
        path
    }

    /// Whoever hangs comes back with nothing; the next one reads as before.
    pub(crate) fn release(&self) {
        for (path, value) in self.pipes.borrow_mut().drain(..) {
            let aside = self.root().join("released");
            fs::rename(&path, &aside).unwrap();
            fs::write(path, value).unwrap();
            // Opened both ways it blocks nobody, and closed it ends the reads.
            let both = fs::File::options().read(true).write(true).open(aside);
            drop(both.unwrap());
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.release();
    }
}

pub(crate) fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// The other end of the pipe at `path`, once somebody reads it; whoever does
/// comes back when this is dropped.
pub(crate) fn reader_of(path: &Path) -> Option<fs::File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok().map(fs::File::from)
}
