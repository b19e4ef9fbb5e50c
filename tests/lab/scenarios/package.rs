//! The Debian package: installed, upgraded and purged.

use std::time::Duration;

use super::{CONFIG, SOON, ensure, fresh, give_back, same, wait_driver, wait_resolved};
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
    Scenario::of_package("package_upgrade_keeps_the_config", upgrade_keeps_the_config),
    Scenario::of_package("package_purge_leaves_nothing", purge_leaves_nothing),
];

/// The same and the main promise on the older release.
pub(crate) const BOOKWORM: &[Scenario] = &[
    Scenario::of_package("package_install_binds_nothing", install_binds_nothing),
    Scenario::of_package("package_units_are_clean", units_are_clean),
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
    let verified =
        guest.run("systemd-analyze verify --man=no vfio-bindd.service vfio-bindd-early.service")?;
    let about_us: Vec<&str> = verified
        .stderr
        .lines()
        .filter(|line| line.contains("vfio-bindd"))
        .collect();
    ensure(about_us.is_empty(), || {
        format!("systemd-analyze verify says:\n{}", about_us.join("\n"))
    })?;
    // Tenths of a point.
    let exposure = guest.ok_for(
        "set -o pipefail; \
         systemd-analyze security --threshold=23 --no-pager vfio-bindd.service | tail -n 1",
        Duration::from_secs(60),
    )?;
    guest.figure(exposure.trim_start_matches(['→', ' ']).to_owned());
    // Every file of the package is where dpkg put it; nothing else was touched.
    let changed = guest.ok("dpkg --verify vfio-bindd | grep -v config.toml || true")?;
    same("the list of changed files", &changed, "")
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
