//! The early stage in an initramfs: a program of its own, without D-Bus and all
//! else that a small image should not have to carry.
//!
//! Owns its few options and where its words go: to the kernel's log, which is
//! there before any other and which the journal takes in. Never fails and never
//! holds the boot up.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use super::{local, worker};
use crate::kernel::{
    apply::Modprobe,
    early::{self, HANDED, Stage, Task, state_directory},
    host::ThisHost,
    image,
    sysfs::HostSysfs,
    usage::{Look, Tables},
};

/// How long taking takes at most, whatever hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// The same for giving back, which waits for udev.
const LIMIT_BACK: Duration = Duration::from_secs(15);

const USAGE: &str = "usage: early [--give-back WHY | --stamp TREE --kernel RELEASE] [--sysfs-root DIR] \
                     [--config FILE] [--state DIR] [--handed DIR] [--log FILE]";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verb {
    Take,
    /// Give back what was taken, and say why.
    GiveBack(String),
    /// Write down what the tree of an image holds.
    Stamp(String),
}

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    verb: Verb,
    /// Whether this is the process that may hang.
    worker: bool,
    /// The release of the image's kernel.
    kernel: String,
    config: Option<PathBuf>,
    root: PathBuf,
    state: PathBuf,
    handed: PathBuf,
    log: PathBuf,
}

impl Call {
    fn of(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut call = Self {
            verb: Verb::Take,
            worker: false,
            kernel: String::new(),
            config: None,
            root: "/sys".into(),
            state: "/var/lib/vfio-bindd".into(),
            handed: HANDED.into(),
            log: "/dev/kmsg".into(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            if option == "--worker" {
                call.worker = true;
                continue;
            }
            let value = arguments.next()?;
            match option.to_str()? {
                "--give-back" => call.verb = Verb::GiveBack(value.into_string().ok()?),
                "--stamp" => call.verb = Verb::Stamp(value.into_string().ok()?),
                "--kernel" => call.kernel = value.into_string().ok()?,
                "--config" => call.config = Some(value.into()),
                "--sysfs-root" => call.root = value.into(),
                "--state" => call.state = value.into(),
                "--handed" => call.handed = value.into(),
                "--log" => call.log = value.into(),
                _ => return None,
            }
        }
        // A stamp is of one kernel.
        let whole = matches!(call.verb, Verb::Stamp(_)) != call.kernel.is_empty();
        whole.then_some(call)
    }

    /// A line for the kernel's log. Each goes through an opening of its own: the
    /// kernel limits how many go through one (kernel/printk/printk.c,
    /// `devkmsg_write`, v6.12).
    fn log(&self, line: &str) {
        let written = OpenOptions::new()
            .append(true)
            .open(&self.log)
            .and_then(|mut log| log.write_all(format!("<6>vfio-bindd: {line}\n").as_bytes()));
        if written.is_err() {
            tell(line);
        }
    }
}

fn tell(line: &str) {
    // Without a stderr there is nobody to tell.
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

/// Does what the arguments, without the program's name, say. The exit code is 0
/// for all but wrong ones.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    let Some(call) = Call::of(arguments.iter().cloned()) else {
        tell(USAGE);
        return 2;
    };
    if let Verb::Stamp(tree) = &call.verb {
        let put = image::put_stamp(&ThisHost, tree, &call.state, &call.kernel);
        return put.map_or_else(
            |text| {
                tell(&format!(
                    "vfio-bindd: nobody will know what is in the image: {text}"
                ));
                1
            },
            |()| 0,
        );
    }
    if call.worker {
        work(&call);
        return 0;
    }
    let limit = match call.verb {
        Verb::GiveBack(_) => LIMIT_BACK,
        _ => LIMIT,
    };
    let mut again = vec!["--worker".into()];
    again.extend(arguments);
    if let Err(error) = worker::work(&again, limit, |line| call.log(line)) {
        call.log(&error.to_string());
    }
    0
}

fn work(call: &Call) {
    let sysfs = HostSysfs::new(&call.root);
    let tables = Tables::default();
    let look = Look {
        sysfs: &sysfs,
        host: &ThisHost,
        tables: &tables,
    };
    let mut tell = |line: String| tell(&line);
    let done = match &call.verb {
        Verb::GiveBack(why) => early::give_back(look, &Modprobe, &call.handed, why, &mut tell),
        _ => {
            let task = Task {
                stage: Stage::Initramfs,
                state: state_directory(&call.state),
                handed: &call.handed,
                dry_run: false,
            };
            let config = || local::policy(call.config.as_deref()).map_err(|stop| stop.text);
            early::run(look, &Modprobe, task, config, &mut tell)
        }
    };
    if let Err(text) = done {
        text.lines().map(str::to_owned).for_each(&mut tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Option<Call> {
        Call::of(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_few_options_are_read() {
        let plain = of(&[]).unwrap();
        assert_eq!((&plain.verb, plain.worker), (&Verb::Take, false));
        assert_eq!(plain.handed, PathBuf::from("/run/vfio-bindd/early"));
        let back = of(&["--worker", "--give-back", "no root", "--sysfs-root", "/x"]).unwrap();
        assert_eq!(back.verb, Verb::GiveBack("no root".to_owned()));
        assert_eq!((back.worker, back.root), (true, PathBuf::from("/x")));
        let stamp = of(&["--stamp", "/tmp/x", "--kernel", "6.12"]).unwrap();
        assert_eq!(stamp.verb, Verb::Stamp("/tmp/x".to_owned()));
        for wrong in [
            &["--give-back"][..],
            &["--stamp", "/tmp/x"],
            &["--kernel", "6.12"],
            &["--now", "x"],
            &["early"],
            &["-h"],
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
