//! The pool against real helper processes, one of which hangs in a read.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::{fs, io::Write as _, path::Path, time::Duration};

use tokio::time::timeout;
use vfio_bindd::{
    kernel::helper::{
        pool::{Pool, PoolError},
        protocol::{Reply, Request},
    },
    pci::address::Address,
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
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &stuck, rustix::fs::FileType::Fifo, mode, 0).unwrap();
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
