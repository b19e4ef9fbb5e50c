//! The trap: the root is on one of two identical NVMe disks, a mapping wants
//! both, and what a former boot proved is in the initrd. And the race that the
//! initrd wins: a mapped NIC never meets the driver that its twin gets there.
//!
//! Whatever the initrd holds, the host comes up with its root, and the root's
//! twin ends on vfio-pci. Each scenario is a boot or more, from the initrd that
//! the guest made itself, and builds on those before.

use std::env;
use std::time::Duration;

use super::{SOON, ensure, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::Topology;
use crate::topology::twins::{LEFT, NIC, NIC_TWIN, ROOT_PARAMETER, Root};

/// Scenarios that restart the host.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("trap_with_verdicts", with_verdicts),
    Scenario::of_package("trap_with_the_disks_swapped", with_the_disks_swapped),
    Scenario::of_package("trap_with_an_older_config", with_an_older_config),
    Scenario::of_package("trap_after_a_failed_boot", after_a_failed_boot),
    Scenario::of_package("trap_turned_off", turned_off).in_full(),
];

/// Those of the older release: what its initramfs does otherwise.
pub(crate) const BOOKWORM: &[Scenario] = &[
    Scenario::of_package("trap_without_verdicts", without_verdicts),
    Scenario::of_package("trap_with_verdicts", with_verdicts),
    Scenario::of_package("trap_with_the_disks_swapped", with_the_disks_swapped),
];

/// The other kind of image.
pub(crate) const DRACUT: &[Scenario] = &[Scenario::of_package(
    "trap_with_an_image_of_dracut",
    with_an_image_of_dracut,
)];

/// Not the package's own file, which is there only once that is installed.
const CONFIG: &str = "/etc/vfio-bindd/config.d/lab.toml";
/// Whatever is like the disk that the root is on.
const DISKS: &str = "[mapping.disks]\nmatch = { id = \"1b36:0010\" }\npartial = true\n";
/// One of two identical NICs.
const NICS: &str = "[mapping.nic]\nmatch = { path = \"0000:00:12.0/00.0\" }\n";
const VERDICTS: &str = "/var/lib/vfio-bindd/verdicts.json";
/// How often the race is run. More is a figure for a report.
const BOOTS: &str = "VFIO_BINDD_LAB_BOOTS";

/// The identical functions of a boot.
struct Twins {
    /// The disk with the root file system.
    root: String,
    /// Its twin.
    disk: String,
    /// The NIC that a mapping names.
    nic: String,
    /// Its twin.
    nic_twin: String,
}

/// Cuts the power and boots from the guest's own initrd with the root's disk in
/// this slot and these words on the kernel's command line.
fn boot(guest: &mut Guest, root: Root, words: &'static str) -> Result<Twins> {
    let mut host = Topology::twins_with(guest.release(), root);
    host.own_initrd = true;
    host.root_parameter = words;
    guest.power_off()?;
    guest.boot_as(&host)?;
    let [mine, other] = root.slots();
    let twins = Twins {
        root: guest.behind(mine, 0)?,
        disk: guest.behind(other, 0)?,
        nic: guest.behind(NIC, 0)?,
        nic_twin: guest.behind(NIC_TWIN, 0)?,
    };
    has_its_root(guest, &twins)?;
    Ok(twins)
}

/// The function with the root's disk.
fn with_root(guest: &mut Guest) -> Result<String> {
    guest.ok("disk=$(findmnt -no SOURCE /) && \
         basename \"$(readlink -f /sys/class/block/${disk#/dev/}/device/device)\"")
}

/// The root is where it was put and can be written to, and the NIC that nothing
/// names is the host's as well.
fn has_its_root(guest: &mut Guest, twins: &Twins) -> Result<()> {
    let below = with_root(guest)?;
    same("the function with the root's disk", &below, &twins.root)?;
    same("its driver", &guest.driver(&twins.root)?, "nvme")?;
    guest.ok("date >/lab-proof && sync")?;
    wait_driver(guest, &twins.nic_twin, "e1000e")?;
    ensure(met(guest, &twins.nic_twin)?, || {
        format!("the twin {} never met e1000e", twins.nic_twin)
    })
}

/// The twin of the root's disk is bound and the root's is refused, by name.
fn splits_the_disks(guest: &mut Guest, twins: &Twins) -> Result<()> {
    wait_resolved(guest, "disks", &[&twins.disk])?;
    wait_driver(guest, &twins.disk, "vfio-pci")?;
    let why = guest.ok(&format!("vfio-bindctl explain {}", twins.root))?;
    ensure(why.contains("is mounted on /"), || {
        format!("{} is not refused for the root on it:\n{why}", twins.root)
    })
}

/// Whether the function's native driver ever had it in this boot.
fn met(guest: &mut Guest, address: &str) -> Result<bool> {
    let count = guest.ok(&format!(
        "dmesg | grep -cE '(e1000e|pci function) {address}' || true"
    ))?;
    Ok(count != "0")
}

/// Fails where a function's native driver had it, or had not.
fn ensure_met(guest: &mut Guest, address: &str, wanted: bool) -> Result<()> {
    ensure(met(guest, address)? == wanted, || {
        let never = if wanted { "never " } else { "" };
        format!("{address} {never}met its native driver in this boot")
    })
}

/// What says what an early stage did.
#[derive(Clone, Copy)]
enum Stage {
    /// The kernel's log, for the initramfs.
    Initramfs,
    /// The journal of the unit.
    Root,
}

/// Fails where an early stage did not say this in this boot.
fn ensure_told(guest: &mut Guest, stage: Stage, words: &str) -> Result<()> {
    let told = guest.ok(match stage {
        Stage::Initramfs => "dmesg | grep vfio-bindd:",
        Stage::Root => "journalctl -b -u vfio-bindd-early.service -o cat --no-pager",
    })?;
    ensure(told.contains(words), || {
        format!("nothing says {words:?}:\n{told}")
    })
}

/// Has the guest make its initrd anew, for the boots from here on.
fn make_initrd(guest: &mut Guest) -> Result<()> {
    guest.makes_images(true)?;
    guest.ok_for("update-initramfs -u", Duration::from_secs(180))?;
    guest.take_initrd("/boot/initrd.img-$(uname -r)")
}

/// The package is new, and nothing was ever proven.
fn without_verdicts(guest: &mut Guest) -> Result<()> {
    guest.write_file(CONFIG, &format!("{DISKS}{NICS}"))?;
    // It would prove what is idle before the package's trigger makes the initrd.
    guest.ok("systemctl mask vfio-bindd")?;
    guest.makes_images(true)?;
    guest.installed()?;
    guest.take_initrd("/boot/initrd.img-$(uname -r)")?;
    guest.ok(&format!(
        "systemctl unmask vfio-bindd && systemctl enable vfio-bindd && [ ! -e {VERDICTS} ]"
    ))?;
    let twins = boot(guest, Root::Left, ROOT_PARAMETER)?;
    both_are_bound(guest, &twins)?;
    for (address, kind) in [(&twins.disk, "storage"), (&twins.nic, "network")] {
        ensure_met(guest, address, true)?;
        let words = format!("{address} is left to vfio-bindd.service: it is a {kind} controller");
        ensure_told(guest, Stage::Initramfs, &words)?;
    }
    Ok(())
}

/// What this boot proves is in the initrd: its functions never meet a driver.
fn with_verdicts(guest: &mut Guest) -> Result<()> {
    let boots = boots()?;
    guest.write_file(CONFIG, &format!("{DISKS}{NICS}"))?;
    guest.installed()?;
    wait_proven(guest)?;
    make_initrd(guest)?;
    for number in 1..=boots {
        boot(guest, Root::Left, ROOT_PARAMETER)
            .and_then(|twins| both_are_taken(guest, &twins))
            .map_err(|error| format!("boot {number} of {boots}: {error}"))?;
    }
    guest.figure(format!(
        "{boots} boots: the mapped NIC and the root's twin never met their drivers, which are in \
         the initrd; the NIC's twin always did"
    ));
    Ok(())
}

/// What is bound is written down for the next boot a little later.
fn wait_proven(guest: &mut Guest) -> Result<()> {
    let both = format!("jq -e '.ready and (.functions | length == 2)' {VERDICTS}");
    guest.wait_until(SOON, &both).map(drop)
}

fn boots() -> Result<u32> {
    match env::var(BOOTS) {
        Err(_) => Ok(1),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{BOOTS}={text}: expected how many boots")),
    }
}

fn both_are_bound(guest: &mut Guest, twins: &Twins) -> Result<()> {
    splits_the_disks(guest, twins)?;
    wait_resolved(guest, "nic", &[&twins.nic])
}

/// By the initramfs, and left so by the real root.
fn both_are_taken(guest: &mut Guest, twins: &Twins) -> Result<()> {
    both_are_bound(guest, twins)?;
    for (address, mapping) in [(&twins.disk, "disks"), (&twins.nic, "nic")] {
        let taken = format!("{address} is taken for {mapping}: vfio-pci has it");
        ensure_told(guest, Stage::Initramfs, &taken)?;
        let stays = format!("{address} was taken in the initramfs and stays");
        ensure_told(guest, Stage::Root, &stays)?;
        ensure_met(guest, address, false)?;
    }
    // The real root's stage of the next boot goes by it.
    wait_proven(guest)
}

/// The root's disk is where its twin was, of which the initrd knows that it was
/// idle: the initramfs takes it, and does not find the root.
fn with_the_disks_swapped(guest: &mut Guest) -> Result<()> {
    let twins = boot(guest, Root::Right, ROOT_PARAMETER)?;
    both_are_bound(guest, &twins)?;
    let Twins { root, .. } = &twins;
    let taken = format!("{root} is taken for disks: vfio-pci has it");
    ensure_told(guest, Stage::Initramfs, &taken)?;
    let waited = guest.ok("dmesg | grep 'vfio-bindd: .* has not shown up: '")?;
    guest.figure(format!(
        "the root's disk was taken and given back: {waited}"
    ));
    let told = format!("{root} was taken in the initramfs and had to be given back there");
    ensure_told(guest, Stage::Root, &told)
}

/// The initrd holds a mapping that the config has no more. The daemon does not
/// run in this boot.
fn with_an_older_config(guest: &mut Guest) -> Result<()> {
    guest.write_file(CONFIG, DISKS)?;
    let twins = boot(
        guest,
        Root::Left,
        "root=LABEL=lab-root systemd.mask=vfio-bindd.service",
    )?;
    wait_driver(guest, &twins.nic, "e1000e")?;
    let told = format!(
        "{} was taken in the initramfs and is given back: it is in no mapping",
        twins.nic
    );
    ensure_told(guest, Stage::Root, &told)
}

/// The boot before did not get ready, of which the initrd knows nothing.
fn after_a_failed_boot(guest: &mut Guest) -> Result<()> {
    let twins = boot(guest, Root::Left, ROOT_PARAMETER)?;
    splits_the_disks(guest, &twins)?;
    wait_driver(guest, &twins.nic, "e1000e")?;
    let told = format!(
        "{} was taken in the initramfs and is given back: it is a storage controller, and \
         vfio-bindd did not get ready in the former boot",
        twins.disk
    );
    ensure_told(guest, Stage::Root, &told)
}

/// The way out for whoever is at the boot loader.
fn turned_off(guest: &mut Guest) -> Result<()> {
    guest.write_file(CONFIG, &format!("{DISKS}{NICS}"))?;
    let twins = boot(guest, Root::Left, "root=LABEL=lab-root vfio_bindd=off")?;
    both_are_bound(guest, &twins)?;
    for address in [&twins.nic, &twins.disk] {
        ensure_met(guest, address, true)?;
    }
    let words = "vfio_bindd=off is on the kernel's command line";
    ensure_told(guest, Stage::Initramfs, words)?;
    // There systemd asks, before there is a journal.
    let asked = "systemctl show --value --property=ConditionResult vfio-bindd-early";
    same("whether the early unit ran", &guest.ok(asked)?, "no")
}

/// The same as with an image of initramfs-tools: what is proven is in it, and its
/// functions never meet a driver. And it gives back the root's disk.
fn with_an_image_of_dracut(guest: &mut Guest) -> Result<()> {
    guest.write_file(CONFIG, &format!("{DISKS}{NICS}"))?;
    guest.installed()?;
    guest.ok("vfio-bindctl reload")?;
    wait_proven(guest)?;
    guest.ok_for(
        "dracut --quiet --force --compress 'gzip -1' --add-drivers 'nvme e1000e' \
             --kernel-cmdline root=LABEL=lab-root /boot/dracut.img",
        Duration::from_secs(300),
    )?;
    guest.take_initrd("/boot/dracut.img")?;
    let (here, there) = if with_root(guest)? == guest.behind(LEFT, 0)? {
        (Root::Left, Root::Right)
    } else {
        (Root::Right, Root::Left)
    };
    let twins = boot(guest, here, ROOT_PARAMETER)?;
    both_are_taken(guest, &twins)?;
    // Its own command line says where the root is, too, and nobody else does.
    let twins = boot(guest, there, "")?;
    both_are_bound(guest, &twins)?;
    let taken = format!("{} is taken for disks: vfio-pci has it", twins.root);
    ensure_told(guest, Stage::Initramfs, &taken)?;
    let words = "a device that the boot waits for has not shown up";
    ensure_told(guest, Stage::Initramfs, words)
}
