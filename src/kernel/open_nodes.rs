//! Which devices processes have open, by what /proc shows of them.
//!
//! Source: proc_pid_fd(5). It takes CAP_SYS_PTRACE to look at the processes of
//! others, and CAP_DAC_READ_SEARCH to walk into their directories (fs/proc/fd.c,
//! `proc_fd_permission`, v6.12). Never asks the file system that a file is on,
//! nor the driver of an open device: either may not answer.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, open, readlinkat, statx};

use super::host::{Open, OpenNode, OpenVfioDevice};

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
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let who = format!("{} (pid {pid})", name.trim_end());
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
    let place = thread.join("fd");
    let table = open(
        &place,
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
        // Whoever may list the files may not always see what they are.
        let target = match readlinkat(&table, name, Vec::new()).map_err(io::Error::from) {
            Err(error) if is_gone(&error) => continue,
            target => target?,
        };
        let target = target.to_string_lossy();
        if target == VFIO_DEVICE {
            let name = OsStr::from_bytes(name.to_bytes());
            let info = fs::read_to_string(thread.join("fdinfo").join(name));
            found.vfio_devices.push(OpenVfioDevice {
                function: function(&info.unwrap_or_default()),
                process: String::new(),
            });
        } else if !is_no_file(&target) {
            let path = place.join(OsStr::from_bytes(name.to_bytes()));
            let Some((block, device)) = device(&path)? else {
                continue;
            };
            let link = fs::symlink_metadata(&path);
            found.nodes.push(OpenNode {
                block,
                device,
                // Not known is the worse of both.
                writing: link.map_or(true, |link| link.permissions().mode() & WRITING != 0),
                process: String::new(),
            });
        }
    }
    Ok(files)
}

/// A vfio device without a node (drivers/vfio/vfio_main.c and group.c,
/// `vfio_device_open_file`, v6.12).
const VFIO_DEVICE: &str = "anon_inode:[vfio-device]";

/// Sockets, pipes and the like, most of what is open.
fn is_no_file(target: &str) -> bool {
    let mut kinds = ["socket:[", "pipe:[", "anon_inode:"].into_iter();
    kinds.any(|kind| target.starts_with(kind))
}

/// The owner's right to write: the link of an open file has the rights that it
/// was opened with (fs/proc/fd.c, `tid_fd_update_inode`, v6.12).
const WRITING: u32 = 0o200;

/// Whether an open file is a block device, and its number; `None` if it is no
/// device or was closed. What the kernel knows of it is enough: the server of a
/// network file system may be away.
fn device(path: &Path) -> io::Result<Option<(bool, (u32, u32))>> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let status = match statx(CWD, path, flags, StatxFlags::TYPE).map_err(io::Error::from) {
        Err(error) if is_denied(&error) => return Err(error),
        // A file that its file system has lost is no device either.
        Err(_) => return Ok(None),
        Ok(status) => status,
    };
    let block = match FileType::from_raw_mode(status.stx_mode.into()) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Ok(None),
    };
    let number = (status.stx_rdev_major, status.stx_rdev_minor);
    Ok(Some((block, number)))
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
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
                .all(|node| node.process.ends_with(" (pid 1)"))
        );
        drop((null, zero));
    }

    #[test]
    fn what_is_open_and_cannot_be_seen_is_an_error() {
        let process = tempfile::tempdir().unwrap();
        let files = process.path().join("fd");
        let thread = process.path().join("task/7/fd");
        fs::create_dir_all(&thread).unwrap();
        fs::create_dir_all(process.path().join("task/8/fd")).unwrap();
        fs::create_dir(&files).unwrap();
        let mut open = Open::default();
        of_process(process.path(), "7", &mut open).unwrap();
        assert_eq!(open, Open::default());
        // Not a link, as little to be read as one that is somebody else's.
        fs::write(thread.join("3"), "").unwrap();
        of_process(process.path(), "7", &mut open).unwrap_err();
        fs::remove_file(thread.join("3")).unwrap();
        std::os::unix::fs::symlink("anon_inode:[vfio-device]", thread.join("4")).unwrap();
        of_process(process.path(), "7", &mut open).unwrap();
        let device = OpenVfioDevice {
            function: None,
            process: " (pid 7)".to_owned(),
        };
        assert_eq!(open.vfio_devices, [device]);
        fs::write(files.join("3"), "").unwrap();
        of_process(process.path(), "7", &mut open).unwrap_err();
    }

    #[test]
    fn fdinfo_names_the_function_of_a_vfio_device() {
        let info = "pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:e0/0000:e8:00.0\n";
        let place = "/sys/devices/pci0000:e0/0000:e8:00.0";
        assert_eq!(function(info).as_deref(), Some(place));
        assert_eq!(function("pos:\t0\nflags:\t02\n"), None);
    }
}
