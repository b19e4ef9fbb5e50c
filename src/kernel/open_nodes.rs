//! Which devices processes have open, by what /proc shows of them.
//!
//! Source: proc_pid_fd(5). It takes CAP_SYS_PTRACE to look at the processes of
//! others, and CAP_DAC_READ_SEARCH to walk into their directories (fs/proc/fd.c,
//! `proc_fd_permission`, v6.12). Never asks the file system that a file is on,
//! nor the driver of an open device: either may not answer.

use std::{
    ffi::{CStr, OsStr},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags, open, readlinkat, statx,
};

use super::{
    host::{Open, OpenNode, OpenVfioDevice},
    process_name::process_name,
};

/// All open devices of all processes. One that ends meanwhile has none.
///
/// # Errors
/// If there is a process that does not let itself be looked at.
pub(super) fn open_nodes() -> io::Result<Open> {
    let mut found = Open::default();
    let mut is_whole = false;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| is_number(name)) else {
            continue;
        };
        is_whole |= pid == "1";
        match of_process(&entry.path(), pid, &mut found) {
            Ok(()) => {}
            // It ended meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if is_whole {
        Ok(found)
    } else {
        // Mounted with hidepid=, /proc leaves out the processes of others.
        Err(io::Error::other("/proc does not show all processes"))
    }
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn of_process(process: &Path, pid: &str, found: &mut Open) -> io::Result<()> {
    let (nodes, devices) = (found.nodes.len(), found.vfio_devices.len());
    let files = of_table(process, found)?;
    // Where the first thread has ended, the others still have theirs. Most of
    // those without any are threads of the kernel.
    if files == 0 && !is_alone(process) {
        for thread in fs::read_dir(process.join("task"))? {
            match of_table(&thread?.path(), found) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }
    let nodes = found.nodes.iter_mut().skip(nodes);
    let devices = found.vfio_devices.iter_mut().skip(devices);
    let unnamed = nodes.map(|node| &mut node.process);
    let mut unnamed = unnamed
        .chain(devices.map(|device| &mut device.process))
        .peekable();
    if unnamed.peek().is_some() {
        let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
        let who = process_name(&read("comm"), pid, &read("cgroup"));
        unnamed.for_each(|process| process.clone_from(&who));
    }
    Ok(())
}

/// Whether the process has one thread only (fs/proc/base.c,
/// `proc_task_getattr`, v6.12: a link of the directory for each, and two more).
fn is_alone(process: &Path) -> bool {
    let threads = fs::metadata(process.join("task"));
    threads.is_ok_and(|threads| threads.nlink() == 3)
}

/// Adds the devices among the open files of a thread; returns how many files it
/// has.
fn of_table(thread: &Path, found: &mut Open) -> io::Result<usize> {
    let mut files = 0;
    let table = open(
        thread.join("fd"),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    for fd in Dir::read_from(&table)? {
        let fd = fd?;
        let name = fd.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        files += 1;
        let Some(status) = opened(&table, name)? else {
            continue;
        };
        let block = match FileType::from_raw_mode(status.stx_mode.into()) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            FileType::Unknown => {
                found.vfio_devices.extend(vfio_device(thread, &table, name));
                continue;
            }
            _ => continue,
        };
        let link = statx(&table, name, LINK, StatxFlags::MODE);
        found.nodes.push(OpenNode {
            block,
            device: (status.stx_rdev_major, status.stx_rdev_minor),
            // Not known is the worse of both.
            writing: link.map_or(true, |link| link.stx_mode & WRITING != 0),
            process: String::new(),
        });
    }
    Ok(files)
}

/// What the kernel knows of an open file, which is enough: the server of a
/// network file system may be away. `None` if it was closed.
fn opened(table: &OwnedFd, name: &CStr) -> io::Result<Option<Statx>> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    seen(statx(table, name, flags, StatxFlags::TYPE).map_err(io::Error::from))
}

fn seen<T>(status: io::Result<T>) -> io::Result<Option<T>> {
    match status {
        // Whoever may list the files may not always see what they are.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // A file that its file system has lost is no device either.
        Err(_) => Ok(None),
        Ok(status) => Ok(Some(status)),
    }
}

/// The link of an open file itself.
const LINK: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// The owner's right to write: the link of an open file has the rights that it
/// was opened with (fs/proc/fd.c, `tid_fd_update_inode`, v6.12).
const WRITING: u16 = 0o200;

const VFIO_DEVICE: &[u8] = b"anon_inode:[vfio-device]";

/// A vfio device, which has no node, if this file without a type is one
/// (drivers/vfio/vfio_main.c and group.c, `vfio_device_open_file`, v6.12;
/// `stat` of such files, fs/anon_inodes.c, says no type, v6.1 and v6.17).
fn vfio_device(thread: &Path, table: &OwnedFd, name: &CStr) -> Option<OpenVfioDevice> {
    let target = readlinkat(table, name, Vec::new()).ok()?;
    if target.to_bytes() != VFIO_DEVICE {
        return None;
    }
    let name = OsStr::from_bytes(name.to_bytes());
    let info = fs::read_to_string(thread.join("fdinfo").join(name));
    Some(OpenVfioDevice {
        function: function(&info.unwrap_or_default()),
        process: String::new(),
    })
}

/// What fdinfo of a vfio device says of its function
/// (Documentation/filesystems/proc.rst, VFIO device files, v7.3; v6.12 has none).
fn function(info: &str) -> Option<String> {
    let mut lines = info.lines();
    let place = lines.find_map(|line| line.strip_prefix("vfio-device-syspath:"))?;
    Some(place.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Open {
        let mut open = Open::default();
        of_process(Path::new("/proc/self"), "1", &mut open).unwrap();
        open
    }

    #[test]
    fn what_this_process_has_open_is_found() {
        let is_null = |node: &&OpenNode| !node.block && node.device == (1, 3);
        let is_zero = |node: &&OpenNode| !node.block && node.device == (1, 5);
        let null = fs::File::options().write(true).open("/dev/null").unwrap();
        let zero = fs::File::open("/dev/zero").unwrap();
        let open = own();
        assert!(open.nodes.iter().filter(is_null).any(|node| node.writing));
        assert!(!open.nodes.iter().find(is_zero).unwrap().writing);
        assert!(
            open.nodes
                .iter()
                .all(|node| node.process.contains(" (pid 1"))
        );
        drop((null, zero));
    }

    #[test]
    fn files_are_those_of_a_thread_that_is_left() {
        let process = tempfile::tempdir().unwrap();
        let files = process.path().join("fd");
        let thread = process.path().join("task/7/fd");
        fs::create_dir_all(&thread).unwrap();
        fs::create_dir_all(process.path().join("task/8/fd")).unwrap();
        fs::create_dir(&files).unwrap();
        let mut open = Open::default();
        of_process(process.path(), "7", &mut open).unwrap();
        assert_eq!(open, Open::default());
        // Closed while it was looked at.
        std::os::unix::fs::symlink("gone", thread.join("3")).unwrap();
        std::os::unix::fs::symlink("/dev/null", thread.join("4")).unwrap();
        of_process(process.path(), "7", &mut open).unwrap();
        let null = OpenNode {
            block: false,
            device: (1, 3),
            writing: true,
            process: " (pid 7)".to_owned(),
        };
        assert_eq!(open.nodes, [null]);
        // No directory, as little to be listed as one that is somebody else's.
        fs::remove_dir(&files).unwrap();
        fs::write(&files, "").unwrap();
        of_process(process.path(), "7", &mut open).unwrap_err();
    }

    #[test]
    fn only_what_is_forbidden_to_see_is_an_error() {
        let failed = |errno: rustix::io::Errno| seen::<()>(Err(errno.into()));
        failed(rustix::io::Errno::ACCESS).unwrap_err();
        failed(rustix::io::Errno::PERM).unwrap_err();
        assert!(failed(rustix::io::Errno::STALE).unwrap().is_none());
        assert!(failed(rustix::io::Errno::NOENT).unwrap().is_none());
    }

    /// What a vfio device is, too.
    #[test]
    fn a_file_without_a_node_has_no_type() {
        use std::os::fd::AsRawFd as _;
        let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        let table = open("/proc/self/fd", OFlags::RDONLY, Mode::empty()).unwrap();
        let name = std::ffi::CString::new(watch.as_raw_fd().to_string()).unwrap();
        let mode = opened(&table, &name).unwrap().unwrap().stx_mode;
        assert_eq!(FileType::from_raw_mode(mode.into()), FileType::Unknown);
        assert!(vfio_device(Path::new("/proc/self"), &table, &name).is_none());
    }

    #[test]
    fn fdinfo_names_the_function_of_a_vfio_device() {
        let info = "pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:e0/0000:e8:00.0\n";
        let place = "/sys/devices/pci0000:e0/0000:e8:00.0";
        assert_eq!(function(info).as_deref(), Some(place));
        assert_eq!(function("pos:\t0\nflags:\t02\n"), None);
    }
}
