//! The early stage in an image: what `update-initramfs` makes of the package, and
//! what is told as the image grows old. The guest boots from an initrd of its own
//! elsewhere; here its new one is only looked at.

use std::time::Duration;

use super::{CONFIG, SOON, ensure, fresh, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;

/// In this order: the last one ends with the package gone.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("initramfs_has_the_early_stage", has_the_early_stage),
    Scenario::of_package("initramfs_that_is_older_is_told", that_is_older_is_told),
    Scenario::of_package("initramfs_is_clean_after_removal", is_clean_after_removal),
];

const POLICY: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
/// Of the running kernel.
const IMAGE: &str = "/boot/initrd.img-$(uname -r)";
/// An image is packed slowly under emulation.
const PACKED: Duration = Duration::from_secs(300);

/// The image's files.
fn files(guest: &mut Guest) -> Result<Vec<String>> {
    let list = guest.ok_for(&format!("lsinitramfs {IMAGE}"), PACKED)?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn has_the_early_stage(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.makes_images(true)?;
    // Another one than the next scenario's.
    guest.write_file(CONFIG, "")?;
    guest.install_again()?;
    let files = files(guest)?;
    for wanted in [
        "usr/lib/vfio-bindd/early",
        "etc/vfio-bindd/config.toml",
        "scripts/init-top/00-vfio-bindd",
        "scripts/local-block/00-vfio-bindd",
        "scripts/panic/vfio-bindd",
    ] {
        ensure(files.iter().any(|file| file == wanted), || {
            format!("the package's image lacks {wanted}")
        })?;
    }
    ensure(
        files.iter().any(|file| file.contains("/vfio-pci.ko")),
        || "the package's image lacks vfio-pci".to_owned(),
    )?;
    guest.ok_for(
        &format!("rm -rf /tmp/image; unmkinitramfs {IMAGE} /tmp/image"),
        PACKED,
    )?;
    // With microcode in front of it, it is in a folder of its own.
    let order = guest.ok("cd /tmp/image; [ ! -d main ] || cd main; cat scripts/init-top/ORDER")?;
    let scripts: Vec<_> = order
        .lines()
        .filter(|line| line.starts_with("/scripts"))
        .collect();
    let place = |name: &str| scripts.iter().position(|line| line.contains(name));
    ensure(
        place("00-vfio-bindd").is_some() && place("00-vfio-bindd") < place("udev"),
        || format!("the order of init-top is {scripts:?}"),
    )?;
    // All that it is linked with is there.
    guest.ok("cd /tmp/image; [ ! -d main ] || cd main
         chroot . /usr/lib/vfio-bindd/early --stamp / --kernel test --state /tmp
         cat tmp/images/test; rm -rf /tmp/image")?;
    let bytes = guest.ok("stat -c %s /usr/lib/vfio-bindd/early")?;
    guest.figure(format!("the early stage's program: {bytes} bytes"));
    Ok(())
}

fn that_is_older_is_told(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let words =
        "holds a config of vfio-bindd that is not the one of now: run update-initramfs -u -k";
    for command in ["check", "reload"] {
        let told = guest.run(&format!("vfio-bindctl {command}"))?.stderr;
        ensure(told.contains(words), || format!("{command} says {told:?}"))?;
    }
    let doctor = guest.run("vfio-bindctl doctor")?.stdout;
    ensure(doctor.contains("that is not the one of now"), || doctor)?;
    // As the words have it.
    let told = guest.run("vfio-bindctl check")?.stderr;
    let command = told
        .trim()
        .rsplit(": run ")
        .next()
        .unwrap_or_default()
        .to_owned();
    guest.ok_for(&command, PACKED)?;
    for command in ["check", "reload"] {
        same(
            &format!("what {command} says"),
            &guest.run(&format!("vfio-bindctl {command}"))?.stderr,
            "",
        )?;
    }
    // The next boot's daemon finds the NIC idle, and the image does not know.
    guest.wait_until(
        SOON,
        "grep -q '\"ready\": true' /var/lib/vfio-bindd/verdicts.json",
    )?;
    guest.ok(&format!("echo >>{CONFIG}"))?;
    let told = guest.run("vfio-bindctl check")?.stderr;
    ensure(told.contains(words), || format!("check says {told:?}"))
}

fn is_clean_after_removal(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let size = format!("stat -c %s {IMAGE}");
    let with = guest.ok(&size)?;
    guest.ok_for(
        "DEBIAN_FRONTEND=noninteractive dpkg --purge vfio-bindd",
        PACKED,
    )?;
    guest.forget_installed();
    let without = guest.ok(&size)?;
    guest.figure(format!(
        "the image: {with} bytes with the early stage, {without} without"
    ));
    let files = files(guest)?;
    let ours: Vec<_> = files
        .iter()
        .filter(|file| file.contains("vfio-bindd"))
        .collect();
    ensure(ours.is_empty(), || format!("the image has {ours:?}"))?;
    guest.makes_images(false)
}
