//! `early`: takes functions at boot before their drivers come, without D-Bus.
//!
//! Owns that it never fails a boot and never holds it up; the work is that of a
//! process that may be left behind.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{commands::tell, local, worker};
use crate::kernel::{
    apply::Modprobe,
    early::{self, HANDED, Stage, Task, state_directory},
    host::ThisHost,
    sysfs::HostSysfs,
    usage::{Look, Tables},
};

/// How long it takes at most, whatever hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// Where systemd.exec(5) puts the daemon's `StateDirectory=`. The early unit has
/// none, which would make it wait for the file system that it is on.
const STATE: &str = "/var/lib/vfio-bindd";

/// Takes what may be taken early: as the `worker`, or by having one do it.
pub(super) fn run(config: Option<&Path>, root: &Path, dry_run: bool, worker: bool) {
    if worker {
        work(config, root, dry_run);
        return;
    }
    let mut arguments: Vec<OsString> = vec!["--sysfs-root".into(), root.into()];
    if let Some(config) = config {
        arguments.extend(["--config".into(), config.into()]);
    }
    arguments.extend(["early".into(), "--worker".into()]);
    if dry_run {
        arguments.push("--dry-run".into());
    }
    // As the worker words it: with the name before it, or none for the
    // diagnostics of a file. Without a stderr there is nobody to tell.
    let hand_on = |line: &str| writeln!(io::stderr(), "{line}").unwrap_or_default();
    if let Err(error) = worker::work(&arguments, LIMIT, hand_on) {
        tell(&format!("{error}; vfio-bindd.service does the rest"));
    }
}

/// Does it, in this process.
fn work(config: Option<&Path>, root: &Path, dry_run: bool) {
    let sysfs = HostSysfs::new(root);
    let tables = Tables::default();
    let look = Look {
        sysfs: &sysfs,
        host: &ThisHost,
        tables: &tables,
    };
    // Whoever runs it by hand can have other places.
    let place = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let state = place("STATE_DIRECTORY").unwrap_or_else(|| STATE.into());
    let handed = place("RUNTIME_DIRECTORY").map(|directory| directory.join("early"));
    let task = Task {
        stage: Stage::Root,
        state: state_directory(&state),
        handed: handed.as_deref().unwrap_or(Path::new(HANDED)),
        dry_run,
    };
    let config = || local::policy(config).map_err(|stop| stop.text);
    let done = early::run(look, &Modprobe, task, config, &mut |line| tell(&line));
    if let Err(text) = done {
        tell(&text);
        tell("nothing is taken early");
    }
}
