//! The Debian package: installed, upgraded and purged.

use std::time::Duration;

use super::{CONFIG, READER, SOON, ensure, fresh, give_back, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{SPARE, TWIN_A, TWIN_NODE1};

/// What holds right after the installation; before all other scenarios.
pub(crate) const FIRST: &[Scenario] = &[Scenario::of_package(
    "package_install_binds_nothing",
    install_binds_nothing,
)];

/// What ends with the package gone; after all other scenarios.
pub(crate) const LAST: &[Scenario] = &[
    Scenario::of_package("package_units_are_clean", units_are_clean),
    Scenario::of_package("package_rights_are_few", rights_are_few),
    Scenario::of_package("package_upgrade_keeps_the_config", upgrade_keeps_the_config),
    Scenario::of_package("package_purge_leaves_nothing", purge_leaves_nothing),
];

/// The same and the main promise on the older release.
pub(crate) const BOOKWORM: &[Scenario] = &[
    Scenario::of_package("package_install_binds_nothing", install_binds_nothing),
    Scenario::of_package("package_units_are_clean", units_are_clean),
    Scenario::of_package("package_rights_are_few", rights_are_few),
    Scenario::of_package("package_boot_and_hotplug", boot_and_hotplug),
    Scenario::of_package("package_upgrade_keeps_the_config", upgrade_keeps_the_config),
    Scenario::of_package("package_purge_leaves_nothing", purge_leaves_nothing),
];

const POLICY: &str =
    "# kept over an upgrade\n[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";

fn install_binds_nothing(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    same(
        "the service",
        &guest.wait_until(SOON, "systemctl is-active vfio-bindd")?,
        "active",
    )?;
    same(
        "the enablement",
        &guest.ok("systemctl is-enabled vfio-bindd")?,
        "enabled",
    )?;
    guest.wait_until(SOON, "vfio-bindctl status")?;
    let bound = guest.ok("ls /sys/bus/pci/drivers/vfio-pci 2>/dev/null | grep ^0000: || true")?;
    same("the list of bound functions", &bound, "")?;
    guest.ok("systemctl restart vfio-bindd")?;
    same(
        "failed units",
        &guest.ok("systemctl --failed --no-legend --plain")?,
        "",
    )
}

fn units_are_clean(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let verified = guest.run(
        "systemd-analyze verify --man=no vfio-bindd.service vfio-bindd-early.service \
             vfio-bindd-helper.socket vfio-bindd-helper.service \
             vfio-bindd-pve-sync.service vfio-bindd-pve-sync.path",
    )?;
    let about_us: Vec<&str> = verified
        .stderr
        .lines()
        .filter(|line| line.contains("vfio-bindd"))
        .collect();
    ensure(about_us.is_empty(), || {
        format!("systemd-analyze verify says:\n{}", about_us.join("\n"))
    })?;
    // Tenths of a point.
    for (unit, most) in [("vfio-bindd", 20), ("vfio-bindd-helper", 25)] {
        let exposure = guest.ok_for(
            &format!(
                "set -o pipefail; \
                 systemd-analyze security --threshold={most} --no-pager {unit}.service | tail -n 1"
            ),
            Duration::from_secs(60),
        )?;
        guest.figure(exposure.trim_start_matches(['→', ' ']).to_owned());
    }
    // Every file of the package is where dpkg put it; nothing else was touched.
    let changed = guest.ok("dpkg --verify vfio-bindd | grep -v config.toml || true")?;
    same("the list of changed files", &changed, "")
}

/// Says who it is, as helpers do, or why it could not connect.
const CONNECT: &str = "perl -MSocket -e '
    socket(S, AF_UNIX, SOCK_STREAM, 0) or die;
    connect(S, pack_sockaddr_un(\"/run/vfio-bindd/helper.sock\")) or die \"$!\\n\";
    print scalar <S>;'";

/// The daemon can do nothing to the host, and only root has helpers.
fn rights_are_few(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let pid = guest.ok("systemctl show --value --property=MainPID vfio-bindd")?;
    let capabilities = guest.ok(&format!(
        "awk '/^Cap/ {{ print $2 }}' /proc/{pid}/status | sort -u"
    ))?;
    same("what the daemon may", &capabilities, "0000000000000000")?;
    for file in ["bus/pci/rescan", "module/vfio_pci/parameters/nointxmask"] {
        let wrote = guest.run(&format!(
            "nsenter --mount --target {pid} sh -c 'echo 0 >/sys/{file}'"
        ))?;
        ensure(wrote.stderr.contains("Read-only file system"), || {
            format!("the daemon's /sys/{file}: {}", wrote.words())
        })?;
    }
    let said = guest.ok(CONNECT)?;
    ensure(said.contains("\"pid\":"), || {
        format!("root gets {said:?} from a helper")
    })?;
    let refused = guest.run(&format!("{READER} {CONNECT}"))?;
    ensure(refused.stderr.contains("Permission denied"), || {
        format!("a helper for a reader: {}", refused.words())
    })
}

fn boot_and_hotplug(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.write_file(CONFIG, POLICY)?;
    guest.reboot()?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    let twin = guest.behind(TWIN_A, 0)?;
    same("the twin's driver", &guest.driver(&twin)?, "e1000e")?;
    guest.write_file(
        CONFIG,
        &format!("{POLICY}\n[mapping.late]\nmatch = {{ path = \"0000:00:18.0/00.0\" }}\n"),
    )?;
    guest.ok("systemctl reload vfio-bindd")?;
    let late = guest.plug(SPARE, "late")?;
    wait_driver(guest, &late, "vfio-pci")?;
    wait_resolved(guest, "late", &[&late])?;
    guest.unplug("late")?;
    guest
        .wait_until(SOON, "! vfio-bindctl resolve late")
        .map(drop)
}

fn upgrade_keeps_the_config(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    guest.install_again()?;
    same(
        "the config",
        &guest.ok(&format!("cat {CONFIG}"))?,
        POLICY.trim_end(),
    )?;
    same(
        "the service",
        &guest.wait_until(SOON, "systemctl is-active vfio-bindd")?,
        "active",
    )?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")
}

fn purge_leaves_nothing(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok_for(
        "DEBIAN_FRONTEND=noninteractive dpkg --purge vfio-bindd",
        Duration::from_secs(300),
    )?;
    guest.forget_installed();
    let left = guest.ok(
        "find /etc /usr /var/lib /run -iname '*vfio-bind*' -o -iname '*vfiobindd*' 2>/dev/null \
         | grep -v -e ^/run/systemd -e ^/var/lib/dpkg || true",
    )?;
    same("the list of files left", &left, "")?;
    same(
        "the processes left",
        &guest.ok("pgrep -a vfio-bind || true")?,
        "",
    )?;
    give_back(guest)?;
    same(
        "failed units",
        &guest.ok("systemctl --failed --no-legend --plain")?,
        "",
    )
}
