//! Whether anybody opened a device since it was last seen what processes have
//! open: to ask that of inotify(7) takes a moment, to ask all processes does
//! not.
//!
//! What it cannot see is a node outside the kernel's own `/dev`, such as a
//! container may have.

use std::{
    fs, io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

/// Nodes that programs open all the time and that belong to no PCI function.
const OF_NO_FUNCTION: &[&[u8]] = &[
    b"full", b"null", b"ptmx", b"random", b"tty", b"urandom", b"zero",
];

/// Folders are nested no deeper: `bus/usb/001`.
const DEPTH: u32 = 4;

/// A watch over the nodes in a folder and in those below it.
#[derive(Debug)]
pub struct DevWatch(OwnedFd);

impl DevWatch {
    /// Watches the nodes below `folder` from now on. Other file systems that
    /// are mounted there are left out.
    ///
    /// # Errors
    /// If not all of them can be watched.
    pub fn below(folder: &Path) -> io::Result<Self> {
        let watch = Self(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
        watch.add(folder, fs::metadata(folder)?.dev(), DEPTH)?;
        Ok(watch)
    }

    fn add(&self, folder: &Path, device: u64, depth: u32) -> io::Result<()> {
        let what = WatchFlags::OPEN | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let how = WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        add_watch(&self.0, folder, what | how)?;
        // After the watch, or a folder made in between would be missed.
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() || entry.metadata()?.dev() != device {
                continue;
            }
            let Some(depth) = depth.checked_sub(1) else {
                return Err(io::Error::other("folders are nested too deep"));
            };
            self.add(&entry.path(), device, depth)?;
        }
        Ok(())
    }

    /// Whether no device was opened since the watch began or this was asked
    /// last. If that cannot be told for certain, the answer is no, and a new
    /// watch is needed.
    #[must_use]
    pub fn saw_nothing(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(error) => return error == rustix::io::Errno::WOULDBLOCK,
            };
            let what = event.events();
            let is_folder = what.contains(ReadFlags::ISDIR);
            let is_open = what.contains(ReadFlags::OPEN);
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            let is_harmless = match (is_open, is_folder) {
                // To list a folder opens it.
                (true, true) => true,
                (true, false) => name.is_some_and(|name| OF_NO_FUNCTION.contains(&name)),
                // A node that came is watched with its folder, a folder is not.
                // Events that were lost have none of these flags.
                (false, is_folder) => {
                    !is_folder && what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
                }
            };
            if !is_harmless {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("bus/usb/001")).unwrap();
        for name in ["null", "ptp0", "bus/usb/001/002"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    fn open(folder: &tempfile::TempDir, name: &str) {
        fs::File::open(folder.path().join(name)).unwrap();
    }

    #[test]
    fn a_device_that_is_opened_is_seen() {
        let folder = folder();
        for name in ["ptp0", "bus/usb/001/002"] {
            let watch = DevWatch::below(folder.path()).unwrap();
            assert!(watch.saw_nothing());
            open(&folder, name);
            assert!(!watch.saw_nothing(), "{name}");
            assert!(watch.saw_nothing(), "{name}");
        }
    }

    #[test]
    fn looking_round_is_nothing() {
        let folder = folder();
        let watch = DevWatch::below(folder.path()).unwrap();
        open(&folder, "null");
        fs::read_dir(folder.path().join("bus/usb")).unwrap().count();
        // A node that comes, by its name or by another one.
        std::os::unix::fs::symlink("ptp0", folder.path().join("clock")).unwrap();
        fs::rename(folder.path().join("ptp0"), folder.path().join("ptp1")).unwrap();
        assert!(watch.saw_nothing());
        // By another name it is the same node.
        std::os::unix::fs::symlink("ptp1", folder.path().join("clock1")).unwrap();
        open(&folder, "clock1");
        assert!(!watch.saw_nothing());
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        let folder = folder();
        let watch = DevWatch::below(folder.path()).unwrap();
        fs::create_dir(folder.path().join("snd")).unwrap();
        assert!(!watch.saw_nothing());
        // More than the kernel keeps (fs.inotify.max_queued_events).
        let watch = DevWatch::below(folder.path()).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        for at in 0..=most.trim().parse::<u32>().unwrap() {
            // Equal ones in a row are counted as one.
            let name = if at % 2 == 0 { "null" } else { "bus" };
            open(&folder, name);
        }
        assert!(!watch.saw_nothing());
        let deep = "1/2/3/4/5";
        fs::create_dir_all(folder.path().join(deep)).unwrap();
        DevWatch::below(folder.path()).unwrap_err();
    }
}
