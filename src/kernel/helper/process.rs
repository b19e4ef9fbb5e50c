//! Which process a helper is, so that one that outlives its daemon is known
//! again by the next.
//!
//! Reads nothing of a process but `/proc/PID/stat`, which waits for nobody.

use std::{fs, io};

use serde::{Deserialize, Serialize};

/// A process. The number alone is given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot (proc_pid_stat(5),
    /// field 22).
    pub started: u64,
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// If there is none, or `/proc` does not show it.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(stat(pid))?;
        let (_, started) = state_and_start(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, started })
    }

    /// Whether it has not ended. One that cannot be looked at has not.
    #[must_use]
    pub fn lives(self) -> bool {
        match fs::read_to_string(stat(self.pid)) {
            Ok(stat) => state_and_start(&stat).is_none_or(|(state, started)| {
                // Dead, and nobody has asked yet how it ended.
                started == self.started && !matches!(state, "Z" | "X")
            }),
            Err(error) => {
                let gone = rustix::io::Errno::SRCH.raw_os_error();
                error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(gone)
            }
        }
    }
}

fn stat(pid: u32) -> String {
    format!("/proc/{pid}/stat")
}

/// A process's state and when it was started. Its name, which comes before, may
/// have anything in it.
fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // Fields 4 to 21 are between them.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_of_its_number() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.lives());
        let earlier = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!earlier.lives());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let of_child = Process::of(child.id()).unwrap();
        // Its parent asks how it ended only now, and it has no life until then.
        while of_child.lives() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!of_child.lives());
        Process::of(child.id()).unwrap_err();
    }

    #[test]
    fn a_name_may_have_anything_in_it() {
        let rest = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 812345 9 10";
        let stat = format!("812 (a) Z (b) D {rest}");
        assert_eq!(state_and_start(&stat), Some(("D", 812_345)));
        assert_eq!(state_and_start("812 (a) D 1 1"), None);
        assert_eq!(state_and_start(""), None);
    }
}
