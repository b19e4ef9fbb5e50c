//! libvirt: the hook against a daemon, and definitions against a stand-in for
//! `virsh`.

mod hook;
mod update;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use vfio_bindd::engine::snapshot::Snapshot;

use crate::{
    client::soon,
    private_bus::PrivateBus,
    service::{bound, snapshot},
    support::at,
    tree::Tree,
};

const NIC: &str = "0000:00:02.0";
const OTHER: &str = "0000:00:03.0";
const POOL: [&str; 3] = ["0000:00:04.0", "0000:00:05.0", "0000:00:06.0"];

/// A host with libvirt.
struct Host {
    root: TempDir,
    tree: Tree,
    bus: PrivateBus,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            root: tempfile::tempdir().unwrap(),
            tree: Tree::new(),
            bus: PrivateBus::start(),
        };
        for (group, address) in (2..).zip([NIC, OTHER].iter().chain(&POOL)) {
            host.tree.add(address, group);
            host.tree.bind(address);
        }
        host.file(
            "config.toml",
            "[mapping.pool]\nmatch = { class = \"network\" }\n",
        );
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    async fn ctl(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"));
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        command
            .args(["--bus-address", &self.bus.address(), "--sysfs-root"])
            .arg(self.tree.root())
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(args)
            .env_clear()
            .env("VIRSH_ROOT", self.path("virsh"))
            .env("PATH", format!("{}:/usr/bin:/bin", tools.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // Not all who are called read it.
            let written = child.stdin.take().unwrap().write_all(input.as_bytes());
            written.unwrap_or_default();
            child.wait_with_output().unwrap()
        });
        let output = soon(run).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }

    async fn hook(&self, moment: &str, domain: &str) -> (i32, String) {
        let root = self.root.path().to_str().unwrap();
        let mut args = vec![
            "hook",
            "libvirt",
            "--root",
            root,
            "--timeout",
            "2s",
            "--",
            "web",
        ];
        args.extend(moment.split(' '));
        let (code, out, err) = self.ctl(&args, domain).await;
        assert_eq!(out, "", "{moment}");
        assert!(err.lines().count() <= 1, "{err}");
        (code, err)
    }

    /// A start that is to be refused in such words; nothing is claimed.
    async fn refuses(&self, domain: &str, words: &[&str]) {
        let (code, err) = self.hook("prepare begin -", domain).await;
        assert_eq!(code, 1, "{domain}: {err}");
        for word in words {
            assert!(err.contains(word), "{word} is not in {err}");
        }
    }

    async fn update(&self, domain: &str, more: &[&str]) -> (i32, String, String) {
        let args = [&["libvirt", "update", domain], more].concat();
        self.ctl(&args, "").await
    }

    fn define(&self, name: &str, metadata: &str, devices: &[(&str, &str)]) -> String {
        let text = domain(name, metadata, devices);
        self.file(&format!("virsh/{name}.xml"), &text);
        text
    }
}

/// A domain with hostdevs, each with an address and an alias.
fn domain(name: &str, metadata: &str, devices: &[(&str, &str)]) -> String {
    let hostdev = |(address, alias): &(&str, &str)| {
        let address = at(address);
        format!(
            "    <hostdev mode='subsystem' type='pci' managed='no'>\n      <driver name='vfio'/>\n      \
             <source>\n        <address domain='0x{:04x}' bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'/>\n      \
             </source>\n      <alias name='{alias}'/>\n    </hostdev>\n",
            address.domain(),
            address.bus(),
            address.device(),
            address.function()
        )
    };
    let devices: String = devices.iter().map(hostdev).collect();
    format!(
        "<domain type='kvm'>\n  <name>{name}</name>\n  <metadata>\n    <v:devices \
         xmlns:v='https://vfio-bindd.org/libvirt/1'>{metadata}</v:devices>\n  </metadata>\n  \
         <devices>\n{devices}  </devices>\n</domain>\n"
    )
}

fn both() -> Snapshot {
    snapshot(1, [("nic", bound(&[NIC])), ("other", bound(&[OTHER]))])
}

const NIC_0: (&str, &str) = (NIC, "ua-vfio-bindd-nic-0");
