//! What the daemon holds when it has nothing to do, for whoever looks for a leak.

use std::time::Duration;

use super::ensure;
use crate::Result;
use crate::guest::Guest;

/// Memory of its own in KiB, files, helpers. A helper is kept for ten seconds; whoever
/// starts them (`--helpers`) for a minute. The memory is what the kernel counts page
/// by page: `VmRSS` of 6.1 lags by up to 64 pages a thread (`TASK_RSS_EVENTS_THRESH`
/// in `mm/memory.c`).
const HELD: &str = r#"
    pid=$(systemctl show --value --property=MainPID vfio-bindd)
    helpers() { pgrep -fc '[v]fio-bindd --helper '; }
    for i in $(seq 60); do [ $(helpers) = 0 ] && break; sleep 0.5; done
    echo $(awk '/^Anonymous/ { print $2 }' /proc/$pid/smaps_rollup) $(ls /proc/$pid/fd | wc -l) \
        $(helpers)"#;

/// What the daemon holds when idle.
pub(super) struct Held {
    /// In KiB.
    pub(super) memory: u32,
    pub(super) files: u32,
    pub(super) helpers: u32,
}

impl Held {
    /// Whether it holds no more than it did `half`-way through what is done many times.
    /// Allocators need some hundred rounds until they ask for nothing more.
    pub(super) fn ensure_no_leak(&self, half: &Self) -> Result<()> {
        ensure(self.memory <= half.memory + 128, || {
            "the daemon's memory still grows: by more than 128 KiB in the second half".to_owned()
        })?;
        ensure(self.files <= half.files && self.helpers == 0, || {
            "files or helpers are left".to_owned()
        })
    }
}

/// What it holds now.
pub(super) fn held(guest: &mut Guest) -> Result<Held> {
    let text = guest.ok_for(HELD, Duration::from_secs(60))?;
    let numbers: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
    match numbers[..] {
        [memory, files, helpers] => Ok(Held {
            memory,
            files,
            helpers,
        }),
        _ => Err(format!("no three numbers: {text:?}")),
    }
}
