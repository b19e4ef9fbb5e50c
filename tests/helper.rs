//! The pool against real helper processes, one of which hangs in a read; started
//! by it, and by somebody who listens, as systemd does.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;
use vfio_bindd::{
    kernel::{
        helper::{
            pool::{Pool, PoolError},
            process::Process,
            protocol::{Reply, Request},
        },
        inspect::Wanted,
        order::{Order, Outcome},
        usage::{Handle, Handles},
    },
    pci::{address::Address, usage::Fact},
    policy::knobs::Knobs,
};

const SOON: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

const ADDRESS: &str = "0000:01:00.0";

const PROGRAM: &str = env!("CARGO_BIN_EXE_vfio-bindd");

fn pool(root: &Path) -> Pool {
    let arguments = ["--helper", "--sysfs-root"].map(Into::into);
    let arguments = arguments.into_iter().chain([root.as_os_str().to_owned()]);
    Pool::of_program(PROGRAM.into(), arguments.collect())
}

/// A process that has a helper for each connection, as systemd starts it.
struct Listening(Child);

impl Listening {
    fn at(root: &Path) -> (Self, Pool) {
        let path = root.join("helper.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut unit = Command::new(PROGRAM);
        unit.args(["--helpers", "--sysfs-root"]).arg(root);
        let unit = unit.stdin(OwnedFd::from(listener)).spawn().unwrap();
        (Self(unit), Pool::of_socket(path))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn until_ended(process: Process) {
    let ended = timeout(SOON, async {
        while process.lives() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.unwrap();
}

fn add(root: &Path, address: &str) {
    let dir = root.join("bus/pci/devices").join(address);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("vendor"), "0x8086\n").unwrap();
    fs::write(dir.join("driver_override"), "(null)\n").unwrap();
}

fn ask(address: &str) -> Request {
    let address: Address = address.parse().unwrap();
    Request::Inspect {
        address,
        wanted: Wanted::ALL,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_helper_that_hangs_holds_nobody_up_and_its_late_answer_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for address in ["0000:01:00.0", "0000:02:00.0"] {
        add(root, address);
    }
    // A pipe that nobody writes to: reading it blocks, as behind a device lock.
    let stuck = root.join("bus/pci/devices/0000:01:00.0/driver_override");
    fs::remove_file(&stuck).unwrap();
    blocking(&stuck);
    let pool = pool(root);
    let late = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call(&ask("0000:01:00.0")).await }
    });
    for _ in 0..3 {
        let reply = timeout(SOON, pool.call(&ask("0000:02:00.0"))).await;
        let Reply::Inspected(Some(inspection)) = reply.unwrap().unwrap() else {
            unreachable!("an inspection is answered by one");
        };
        assert_eq!(inspection.driver_override, None);
    }
    tokio::time::sleep(SHORT).await;
    assert!(!late.is_finished());
    let mut pipe = fs::OpenOptions::new().write(true).open(&stuck).unwrap();
    pipe.write_all(b"none\n").unwrap();
    drop(pipe);
    let reply = timeout(SOON, late).await.unwrap().unwrap().unwrap();
    let Reply::Inspected(Some(inspection)) = reply else {
        unreachable!("an inspection is answered by one");
    };
    assert_eq!(inspection.driver_override.as_deref(), Some("none"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_function_that_is_not_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let reply = timeout(SOON, pool(folder.path()).call(&ask("0000:01:00.0"))).await;
    assert_eq!(reply.unwrap().unwrap(), Reply::Inspected(None));
}

#[tokio::test(flavor = "current_thread")]
async fn a_helper_that_cannot_start_or_ends_is_an_error() {
    let missing = Pool::of_program("/nonexistent/helper".into(), Vec::new());
    let error = missing.call(&ask("0000:01:00.0")).await.unwrap_err();
    assert!(matches!(error, PoolError::Start(_)), "{error}");
    let ending = Pool::of_program("/bin/true".into(), Vec::new());
    let error = timeout(SOON, ending.call(&ask("0000:01:00.0")))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error, PoolError::Ended | PoolError::Broken(_)),
        "{error}"
    );
}

fn blocking(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn who_holds_a_function_is_told_by_another_while_one_hangs_at_it() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), ADDRESS);
    let dir = folder.path().join("bus/pci/devices").join(ADDRESS);
    fs::remove_file(dir.join("driver_override")).unwrap();
    // What takes the device lock.
    for name in ["driver_override", "uevent", "reset", "sriov_numvfs"] {
        blocking(&dir.join(name));
    }
    let pool = pool(folder.path());
    let mut late = pool.lease().await.unwrap();
    let late_process = late.process();
    assert!(late_process.lives());
    let late = tokio::spawn(async move { late.ask(&ask(ADDRESS)).await });
    let null = Handle {
        subsystem: "mem".to_owned(),
        node: "null".to_owned(),
        device: (1, 3),
    };
    let request = Request::Holders {
        address: ADDRESS.parse().unwrap(),
        before: Handles {
            vfs: Vec::new(),
            vfs_only: false,
            driver: None,
            nodes: vec![null],
        },
    };
    let held = fs::File::open("/dev/null").unwrap();
    let reply = timeout(SOON, pool.call(&request)).await.unwrap().unwrap();
    let Reply::Holders(facts) = reply else {
        unreachable!("the question is answered by holders");
    };
    let own = format!("(pid {}", std::process::id());
    // Not everyone may look at the processes of others.
    let seen = facts.iter().any(|fact| match fact {
        Fact::NodeOpen { process, .. } => process.contains(&own),
        Fact::Unchecked { .. } => true,
        _ => false,
    });
    assert!(seen, "{facts:?}");
    drop(held);
    assert!(!late.is_finished());
    // Left behind, it ends when it comes back.
    late.abort();
    assert!(late_process.lives());
    let pipe = fs::OpenOptions::new()
        .write(true)
        .open(dir.join("driver_override"))
        .unwrap();
    drop(pipe);
    until_ended(late_process).await;
}

#[tokio::test(flavor = "current_thread")]
async fn before_it_unbinds_it_says_by_what_the_function_can_be_held() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), ADDRESS);
    let dir = folder.path().join("bus/pci/devices").join(ADDRESS);
    fs::write(dir.join("device"), "0x10d3\n").unwrap();
    fs::create_dir_all(dir.join("ptp/ptp0")).unwrap();
    std::os::unix::fs::symlink("../../class/ptp", dir.join("ptp/ptp0/subsystem")).unwrap();
    fs::write(dir.join("ptp/ptp0/dev"), "247:0\n").unwrap();
    let order = |detach: Option<&str>| {
        Request::Apply(Order {
            address: ADDRESS.parse().unwrap(),
            // Another device than the one that is there.
            id: "8086:ffff".parse().unwrap(),
            driver: "vfio-pci".to_owned(),
            module: None,
            detach: detach.map(str::to_owned),
            allow: BTreeSet::new(),
            knobs: Knobs::default(),
            mappings: vec!["nic".to_owned()],
            undo: None,
        })
    };
    let refused = |reply: Reply| matches!(reply, Reply::Applied(Outcome::Refused { .. }));
    let mut lease = pool(folder.path()).lease().await.unwrap();
    let first = timeout(SOON, lease.ask(&order(Some("igb")))).await.unwrap();
    let Reply::Handles(handles) = first.unwrap() else {
        unreachable!("an order that may unbind is answered by the handles first");
    };
    let nodes = handles.nodes.iter().map(|one| one.node.as_str());
    assert_eq!(nodes.collect::<Vec<_>>(), ["ptp0"]);
    assert!(refused(timeout(SOON, lease.next()).await.unwrap().unwrap()));
    // Nothing is unbound here.
    let only = timeout(SOON, lease.ask(&order(None))).await.unwrap();
    assert!(refused(only.unwrap()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_idle_helper_ends_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let (_unit, listening) = Listening::at(folder.path());
    for pool in [pool(folder.path()), listening] {
        let mut lease = pool.lease().await.unwrap();
        let process = lease.process();
        assert!(process.lives());
        let reply = timeout(SOON, lease.ask(&ask("0000:01:00.0"))).await;
        assert_eq!(reply.unwrap().unwrap(), Reply::Inspected(None));
        lease.done();
        assert_eq!(pool.lease().await.unwrap().process(), process);
        // The lease is dropped by now, as all of them are when the daemon ends.
        until_ended(process).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn whoever_listens_starts_one_for_each_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let (unit, pool) = Listening::at(folder.path());
    let one = pool.lease().await.unwrap();
    let other = pool.lease().await.unwrap();
    assert_ne!(one.process(), other.process());
    let command = format!("/proc/{}/cmdline", other.process().pid);
    let command = fs::read_to_string(command).unwrap();
    assert!(command.contains("--helper"), "{command:?}");
    // Whoever starts them may end: they go on, and it is told of those to come.
    drop(unit);
    assert!(one.process().lives() && other.process().lives());
    let missing = folder.path().join("nobody.sock");
    let error = Pool::of_socket(missing.clone()).lease().await.unwrap_err();
    let wanted = format!("helper cannot be reached at {}: ", missing.display());
    assert!(error.to_string().starts_with(&wanted), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn who_does_not_say_who_it_is_is_no_helper() {
    for says in ["exec true", "echo hello >&0; read line"] {
        let pool = Pool::of_program("/bin/sh".into(), vec!["-c".into(), says.into()]);
        let error = timeout(SOON, pool.lease()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, PoolError::Ended | PoolError::Garbled(_)),
            "{says}: {error}"
        );
    }
}

#[test]
fn it_serves_nobody_but_its_own_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT PROVEN, since the test does not run as root: who a helper serves");
        return;
    }
    // Where somebody else can run it.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("vfio-bindd");
    fs::copy(PROGRAM, &program).unwrap();
    for (user, serves) in [(0, true), (65534, false)] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        ours.set_read_timeout(Some(SOON)).unwrap();
        let helper = Command::new(&program)
            .arg("--helper")
            .stdin(OwnedFd::from(theirs))
            .stderr(Stdio::piped())
            .uid(user)
            .spawn()
            .unwrap();
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        let ended = helper.wait_with_output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.success(), serves, "{told}");
        assert_eq!(said.contains("\"pid\""), serves, "{said}");
        let refusal = told.contains("serves user 65534 only, and not 0");
        assert_eq!(refusal, !serves, "{told}");
    }
}
