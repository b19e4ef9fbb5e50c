//! Which devices processes have open, by what /proc shows of them.
//!
//! Source: proc_pid_fd(5), proc_pid_fdinfo(5). It takes CAP_SYS_PTRACE to look
//! at the processes of others, and CAP_DAC_READ_SEARCH to walk into their
//! directories (fs/proc/fd.c, `proc_fd_permission`, v6.12).

use std::{fs, io, path::Path};

use rustix::fs::{FileType, major, minor, stat};

use super::host::OpenNode;

/// `O_WRONLY` and `O_RDWR` (include/uapi/asm-generic/fcntl.h).
const WRITING: u32 = 0o3;

/// All open devices of all processes. One that ends meanwhile has none.
///
/// # Errors
/// If there is a process that does not let itself be looked at.
pub(super) fn open_nodes() -> io::Result<Vec<OpenNode>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| is_number(name)) else {
            continue;
        };
        match of_process(&entry.path(), pid) {
            Ok(nodes) => found.extend(nodes),
            // It ended meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn of_process(process: &Path, pid: &str) -> io::Result<Vec<OpenNode>> {
    let mut found = Vec::new();
    for fd in fs::read_dir(process.join("fd"))? {
        let fd = fd?;
        let Ok(status) = stat(fd.path()) else {
            continue;
        };
        let block = match FileType::from_raw_mode(status.st_mode) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            _ => continue,
        };
        let info = process.join("fdinfo").join(fd.file_name());
        // Not known is the worse of both.
        let info = fs::read_to_string(info).ok();
        let writing = info.and_then(|info| is_writing(&info)).unwrap_or(true);
        found.push(OpenNode {
            block,
            device: (major(status.st_rdev), minor(status.st_rdev)),
            writing,
            process: String::new(),
        });
    }
    if !found.is_empty() {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let who = format!("{} (pid {pid})", name.trim_end());
        for node in &mut found {
            node.process.clone_from(&who);
        }
    }
    Ok(found)
}

/// Whether the `flags` of a file's fdinfo, which are octal, say so.
fn is_writing(info: &str) -> Option<bool> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & WRITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_has_open_is_found() {
        let file = fs::File::options().write(true).open("/dev/null").unwrap();
        let own = Path::new("/proc/self");
        let nodes = of_process(own, "1").unwrap();
        let null = |node: &&OpenNode| !node.block && node.device == (1, 3);
        assert!(nodes.iter().filter(null).any(|node| node.writing));
        assert!(nodes.iter().all(|node| node.process.ends_with(" (pid 1)")));
        drop(file);
    }

    #[test]
    fn flags_are_octal() {
        assert_eq!(is_writing("pos:\t0\nflags:\t0100002\n"), Some(true));
        assert_eq!(is_writing("pos:\t0\nflags:\t0100000\n"), Some(false));
        assert_eq!(is_writing("pos:\t0\n"), None);
    }
}
