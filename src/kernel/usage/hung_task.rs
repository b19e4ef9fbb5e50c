//! What an unbind that does not come back would do to the host.

use super::{Look, files::file};
use crate::pci::usage::Fact;

/// Without CONFIG_DETECT_HUNG_TASK there is no such file.
const SETTING: &str = "/proc/sys/kernel/hung_task_panic";

/// Whether the kernel panics when a task hangs (kernel/hung_task.c): a remove
/// that waits for an open device is one after two minutes. Since Linux 6.19 the
/// setting is a number of tasks.
pub(super) fn fact(look: Look<'_>) -> Option<Fact> {
    let mut unchecked = Vec::new();
    let value = file(look, SETTING, &mut unchecked);
    if let Some(text) = unchecked.pop() {
        return Some(Fact::Unchecked { text });
    }
    let value = value.trim();
    (!matches!(value, "" | "0")).then(|| Fact::HungTaskPanic {
        value: value.to_owned(),
    })
}
