//! A dbus-daemon of the test's own, as strict as the system bus.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// What the system bus denies and allows where nothing else is said: the
/// default policy of dbus 1.14's `/usr/share/dbus-1/system.conf`.
const SYSTEM_POLICY: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus"
           send_interface="org.freedesktop.DBus.Properties"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"
          send_member="UpdateActivationEnvironment"/>
  </policy>
"#;

/// Lets everyone do everything, as where our policy file is wrong or missing.
const NO_POLICY: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
"#;

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether the test runs as root; what only root can prove is left out, aloud.
pub(crate) fn is_root(what: &str) -> bool {
    let root = uid() == 0;
    if !root {
        eprintln!("NOT PROVEN, since the test does not run as root: {what}");
    }
    root
}

/// A bus that ends with the test.
pub(crate) struct PrivateBus {
    /// Its socket and its config are here.
    folder: TempDir,
    daemon: Option<Child>,
}

impl PrivateBus {
    /// A running bus with the system bus's policy and ours.
    pub(crate) fn start() -> Self {
        let mut bus = Self::prepare();
        bus.up();
        bus
    }

    /// A running bus that forbids nothing.
    pub(crate) fn start_without_policy() -> Self {
        let mut bus = Self::new(NO_POLICY);
        bus.up();
        bus
    }

    /// A bus that is not running yet.
    pub(crate) fn prepare() -> Self {
        let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/org.vfiobindd1.conf");
        // Our policy is about root. Whoever else runs the test stands for it.
        let stand_in = match uid() {
            0 => String::new(),
            uid => format!(
                r#"<policy user="{uid}">
                     <allow own="org.vfiobindd1"/><allow send_destination="org.vfiobindd1"/>
                   </policy>"#
            ),
        };
        let ours = ours.display();
        Self::new(&format!(
            "{SYSTEM_POLICY}<include>{ours}</include>{stand_in}"
        ))
    }

    fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Others must reach the socket.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bus = Self {
            folder,
            daemon: None,
        };
        let head = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">"#;
        let config = format!(
            "{head}<busconfig><auth>EXTERNAL</auth>\
             <listen>{}</listen>{policy}</busconfig>",
            bus.address()
        );
        fs::write(bus.config(), config).unwrap();
        bus
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("bus.conf")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.folder.path().join("socket").display())
    }

    /// Starts it, and returns once it can be connected to.
    pub(crate) fn up(&mut self) {
        assert!(self.daemon.is_none(), "it runs already");
        let mut daemon = Command::new("dbus-daemon")
            .arg("--config-file")
            .arg(self.config())
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // What it refuses is no news here.
            .stderr(fs::File::create(self.log()).unwrap())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let stdout = daemon.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        self.daemon = Some(daemon);
        let log = fs::read_to_string(self.log()).unwrap();
        assert!(address.starts_with("unix:"), "it did not start: {log}");
    }

    /// Kills it; its socket stays behind, as after a crash.
    pub(crate) fn down(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        self.down();
    }
}
