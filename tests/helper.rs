//! The pool against real helper processes, one of which hangs in a read.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{fs, io::Write as _, path::Path, time::Duration};

use tokio::time::timeout;
use vfio_bindd::{
    kernel::{
        helper::{
            pool::{Pool, PoolError},
            protocol::{Reply, Request},
        },
        usage::{Handle, Handles},
    },
    pci::{address::Address, usage::Fact},
};

const SOON: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

fn pool(root: &Path) -> Pool {
    let arguments = ["--helper", "--sysfs-root"].map(Into::into);
    let arguments = arguments.into_iter().chain([root.as_os_str().to_owned()]);
    Pool::new(env!("CARGO_BIN_EXE_vfio-bindd").into(), arguments.collect())
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
        serial_known: false,
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
    let missing = Pool::new("/nonexistent/helper".into(), Vec::new());
    let error = missing.call(&ask("0000:01:00.0")).await.unwrap_err();
    assert!(matches!(error, PoolError::Start(_)), "{error}");
    let ending = Pool::new("/bin/true".into(), Vec::new());
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
    const ADDRESS: &str = "0000:01:00.0";
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), ADDRESS);
    let dir = folder.path().join("bus/pci/devices").join(ADDRESS);
    fs::remove_file(dir.join("driver_override")).unwrap();
    // What takes the device lock.
    for name in ["driver_override", "uevent", "reset", "sriov_numvfs"] {
        blocking(&dir.join(name));
    }
    let pool = pool(folder.path());
    let mut late = pool.lease().unwrap();
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
    let ended = timeout(SOON, async {
        while late_process.lives() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn an_idle_helper_ends_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(folder.path());
    let mut lease = pool.lease().unwrap();
    let process = lease.process();
    let reply = timeout(SOON, lease.ask(&ask("0000:01:00.0"))).await;
    assert_eq!(reply.unwrap().unwrap(), Reply::Inspected(None));
    lease.done();
    assert_eq!(pool.lease().unwrap().process(), process);
    // The lease is dropped by now, as all of them are when the daemon ends.
    let ended = timeout(SOON, async {
        while process.lives() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.unwrap();
}
