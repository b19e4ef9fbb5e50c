//! vfio-bindctl against the running daemon: what it prints and how it ends.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use crate::{
    client::until,
    private_bus::{PrivateBus, is_root},
    program::{Daemon, NIC, OTHER, host, mapping, settled},
};

fn command(address: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"));
    command
        .args(["--bus-address", address])
        .args(args)
        .env_clear();
    command
}

/// Runs it beside the test's own runtime, which serves nobody meanwhile.
pub(crate) async fn ctl(address: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = command(address, args);
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

fn two() -> String {
    mapping("nic", NIC) + &mapping("other", OTHER) + &mapping("none", "0000:0f:00.0")
}

#[tokio::test(flavor = "current_thread")]
async fn hooks_get_addresses_or_a_reason_and_a_code() {
    let (bus, tree) = (PrivateBus::start(), host());
    tree.add("0000:00:04.0", 4);
    let bridge = tree.attribute("0000:00:04.0", "class");
    std::fs::write(bridge, "0x060100\n").unwrap();
    let config = two() + &mapping("isa", "0000:00:04.0");
    let _daemon = Daemon::start(&tree, Some(&config), &bus.address());
    settled(&bus.address()).await;
    let bus = bus.address();
    let root = tree.root().to_str().unwrap();
    let bound = ctl(&bus, &["resolve", "nic"]).await;
    assert_eq!(bound, (0, format!("{NIC}\n"), String::new()));
    for (format, wanted) in [
        ("slot", "0000:00:02\n"),
        ("qemu", "-device vfio-pci,host=0000:00:02.0\n"),
        ("proxmox", "0000:00:02\n"),
    ] {
        let args = ["--sysfs-root", root, "resolve", "nic", "--format", format];
        let (code, out, err) = ctl(&bus, &args).await;
        assert_eq!((code, out.as_str()), (0, wanted), "{format}: {err}");
    }
    let (code, out, err) = ctl(&bus, &["resolve", "nic", "--json"]).await;
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0, "{err}");
    assert_eq!(facts[0]["address"], NIC);
    assert_eq!(facts[0]["id"], "8086:10d3");
    assert_eq!(facts[0]["iommu_group"], 2);
    assert_eq!(facts[0]["numa_node"], serde_json::Value::Null);
    assert_eq!(facts[0]["node"], "/dev/vfio/2");
    for (args, wanted, word) in [
        (["resolve", "nobody"].as_slice(), 4, "'nobody'"),
        (&["resolve", "isa"], 5, "ISA bridge"),
        (&["resolve", "none"], 3, "absent"),
        (&["resolve", "none", "--wait", "200ms"], 3, "absent"),
        (&["resolve", "nic", "--format", "vmware"], 2, "vmware"),
        (&["resolve", "nic", "--wait", "soon"], 2, "10s"),
    ] {
        let (code, out, err) = ctl(&bus, args).await;
        assert_eq!((code, out.as_str()), (wanted, ""), "{args:?}: {err}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_hook_that_waits_outlasts_a_bus_and_a_daemon_that_are_late() {
    let (mut bus, tree) = (PrivateBus::prepare(), host());
    let address = bus.address();
    let (code, _, err) = ctl(&address, &["resolve", "nic"]).await;
    assert_eq!(code, 1, "{err}");
    let (code, _, err) = ctl(&address, &["resolve", "nic", "--wait", "300ms"]).await;
    assert_eq!(code, 3, "{err}");
    let waiting = tokio::spawn({
        let address = address.clone();
        async move { ctl(&address, &["resolve", "nic", "--wait", "20s"]).await }
    });
    bus.up();
    let (code, _, err) = ctl(&address, &["status"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("is not running"), "{err}");
    let _daemon = Daemon::start(&tree, Some(&two()), &address);
    assert_eq!(
        waiting.await.unwrap(),
        (0, format!("{NIC}\n"), String::new())
    );
}

#[tokio::test(flavor = "current_thread")]
async fn status_tells_what_is_bound_and_what_keeps_the_rest() {
    let (bus, tree) = (PrivateBus::start(), host());
    let daemon = Daemon::start(&tree, Some(&two()), &bus.address());
    settled(&bus.address()).await;
    let bus = bus.address();
    let (code, out, err) = ctl(&bus, &["status"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("vfio-bindd "), "{out}");
    assert!(
        out.contains(": degraded: none is absent, other is pending\n"),
        "{out}"
    );
    let row = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("nic").ends_with(&format!("bound    {NIC}")), "{out}");
    assert!(row("none").contains("absent   -"), "{out}");
    assert!(!out.contains('\x1b'), "a pipe has no colours");
    let (code, out, _) = ctl(&bus, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(status["state"], "degraded");
    assert_eq!(status["mappings"]["nic"]["addresses"][0], NIC);
    if is_root("a reload by the client") {
        daemon.configure("[mapping.nic]\nmatch = { idd = \"8086:*\" }\n");
        let (code, out, err) = ctl(&bus, &["reload"]).await;
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains("config.toml:2:11: unknown key `idd`"), "{err}");
        daemon.configure("");
        assert_eq!(ctl(&bus, &["reload"]).await.0, 0);
        assert_eq!(ctl(&bus, &["rescan"]).await.0, 0);
        let (_, out, _) = ctl(&bus, &["status"]).await;
        assert!(out.contains(": ready\n"), "{out}");
        assert!(out.contains(&format!("any more: {NIC}\n")), "{out}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_watcher_sees_what_is_and_what_comes() {
    let (bus, tree) = (PrivateBus::start(), host());
    let daemon = Daemon::start(&tree, Some(&mapping("nic", NIC)), &bus.address());
    settled(&bus.address()).await;
    let mut child = command(&bus.address(), &["watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap());
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in printed.lines() {
            sender.send(line.unwrap()).unwrap();
        }
    });
    assert_eq!(lines.recv().await.unwrap(), format!("nic bound {NIC}"));
    daemon.configure(&(mapping("nic", NIC) + &mapping("none", "0000:0f:00.0")));
    daemon.signal(rustix::process::Signal::HUP);
    assert_eq!(lines.recv().await.unwrap(), "none absent");
    child.kill().unwrap();
    until("it ended", async || child.try_wait().unwrap().is_some()).await;
}
