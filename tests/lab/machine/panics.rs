//! Panics of the guest's kernel, read from its console.
//!
//! QEMU's multi-threaded emulation now and then gets an instruction wrong that
//! the kernel rewrites under the other processor. Most of that happens to a kernel
//! that is starting, which then starts again (`panic=1`); in a running system it
//! costs the guest.

/// When the guest's kernel hands over to its first process, in seconds; under
/// emulation that takes more than ten.
const KERNEL_ALONE: f64 = 8.0;

/// How much of the console belongs to a panic, in lines.
const TRACE: usize = 80;

/// A panic of the guest's kernel.
pub(super) struct Panic {
    /// Its line in the log.
    pub(super) line: String,
    /// What the kernel said before, and that line.
    pub(super) text: String,
    /// Whether no process had run yet: nothing that is tested has a part in it.
    pub(super) is_early: bool,
    /// Whether code of vfio, of sysfs or of the driver core was at work, which is
    /// what is tested: that counts against it.
    pub(super) names_vfio: bool,
}

/// All panics that a console shows.
pub(super) fn panics(console: &str) -> Vec<Panic> {
    let lines: Vec<&str> = console.lines().map(str::trim).collect();
    let mut all = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if !line.contains("Kernel panic - not syncing") {
            continue;
        }
        let before = lines.get(..=number).unwrap_or_default();
        let start = before
            .iter()
            .rposition(|line| line.contains("BUG: ") || line.contains("Oops: "))
            // The two come together.
            .map_or(number, |at| at.saturating_sub(3))
            .max(number.saturating_sub(TRACE));
        let trace = before.get(start..).unwrap_or_default();
        all.push(Panic {
            line: (*line).to_owned(),
            text: trace.join("\n"),
            is_early: seconds(line).is_some_and(|time| time < KERNEL_ALONE),
            names_vfio: trace
                .iter()
                // What comes then is what an interrupt came upon.
                .take_while(|line| !line.contains("</IRQ>"))
                .any(|line| is_tested(line)),
        });
    }
    all
}

/// Whether a line of a trace is about what the package has to do with.
fn is_tested(line: &str) -> bool {
    let names = [
        "vfio",
        "driver_override",
        "bind_store",
        "kernfs_fop",
        "sriov",
    ];
    line.contains("+0x") && names.iter().any(|name| line.contains(name))
}

/// The time since the kernel's start that a line of its log begins with.
fn seconds(line: &str) -> Option<f64> {
    let time = line.strip_prefix('[')?.split(']').next()?;
    time.trim().parse().ok()
}
