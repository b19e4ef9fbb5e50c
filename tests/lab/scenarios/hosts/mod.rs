//! The hosts that must lose nothing: whatever the config matches, what a host
//! uses stays with it, what is idle is bound, and each refusal says why.
//!
//! One guest is all these hosts at once, see [`crate::topology::hosts`]. Each
//! subject's file makes its devices used and says what has to become of them;
//! `verdict` compares that with what a config makes of the whole guest.

mod boot;
mod devices;
mod network;
mod storage;
mod verdict;

use std::time::Duration;

use self::verdict::judged;
use super::{CONFIG, SOON, ensure, give_back, same};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::hosts::OLD_BRIDGE;

/// Scenarios about the host's use of its devices.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_lab("hosts_use_their_devices", use_their_devices),
    Scenario::of_package("hosts_keep_what_they_use_from_all", from_all),
    Scenario::of_package("hosts_keep_what_they_use_from_class_01", from_storage),
    Scenario::of_package("hosts_keep_what_they_use_from_class_02", from_network),
    Scenario::of_package("hosts_keep_what_they_use_from_class_0c", from_serial),
    Scenario::of_package("hosts_keep_what_they_use_from_class_06", from_bridges),
    Scenario::of_package("hosts_keep_one_of_two_behind_a_bridge", one_of_two),
    Scenario::of_package("hosts_keep_what_is_not_mounted_yet", boot::before_mounts).in_full(),
];

/// One way in which a host uses functions, with idle ones beside them.
struct Case {
    name: &'static str,
    functions: Vec<(String, Fate)>,
    /// A command that succeeds while the use works, and whose output tells a
    /// device that was taken and given back from one that was never touched.
    proof: String,
}

/// What has to become of a function that a config wants.
enum Fate {
    /// It is bound: nothing uses it.
    Bound,
    /// It stays with its driver, and for each of these lists there is a reason
    /// that has all its words.
    Stays(Vec<Vec<String>>),
}

/// A function that stays, with the words of one reason for each list.
fn stays(reasons: &[&[&str]]) -> Fate {
    let owned = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Fate::Stays(reasons.iter().map(owned).collect())
}

/// All that this guest is.
fn cases(guest: &mut Guest) -> Result<Vec<Case>> {
    let mut cases = storage::cases(guest)?;
    cases.extend(network::cases(guest)?);
    cases.extend(devices::cases(guest)?);
    Ok(cases)
}

/// Has the host use its devices, where it does not yet.
fn used(guest: &mut Guest) -> Result<()> {
    const DONE: &str = "/run/lab-devices-are-used";
    if guest.run(&format!("[ -e {DONE} ]"))?.status == 0 {
        return Ok(());
    }
    storage::set_up(guest)?;
    network::set_up(guest)?;
    devices::set_up(guest)?;
    guest.ok(&format!("udevadm settle; touch {DONE}")).map(drop)
}

/// Without this, the scenarios about the package mean nothing.
fn use_their_devices(guest: &mut Guest) -> Result<()> {
    used(guest)?;
    let cases = cases(guest)?;
    verdict::proofs(guest, &cases)?
        .iter()
        .try_for_each(|proof| {
            ensure(proof.works, || {
                format!("{} does not work:\n{}", proof.name, proof.text)
            })
        })
}

fn from_all(guest: &mut Guest) -> Result<()> {
    keeps_from(guest, "id = \"*:*\"", "")
}

fn from_storage(guest: &mut Guest) -> Result<()> {
    keeps_from(guest, "class = \"01*\"", "01")
}

fn from_network(guest: &mut Guest) -> Result<()> {
    keeps_from(guest, "class = \"02*\"", "02")
}

fn from_serial(guest: &mut Guest) -> Result<()> {
    keeps_from(guest, "class = \"0c*\"", "0c")
}

fn from_bridges(guest: &mut Guest) -> Result<()> {
    keeps_from(guest, "class = \"06*\"", "06")
}

/// A mapping that takes what it can get of functions whose class starts so.
fn keeps_from(guest: &mut Guest, term: &str, class: &str) -> Result<()> {
    idle(guest)?;
    let config = format!("[mapping.all]\nmatch = {{ {term} }}\npartial = true\n");
    guest.write_file(CONFIG, &config)?;
    let cases = cases(guest)?;
    judged(guest, term, class, &cases, |guest| {
        guest.ok("systemctl start vfio-bindd").map(drop)
    })
}

/// A host on which the daemon does not run and has bound nothing.
fn idle(guest: &mut Guest) -> Result<()> {
    used(guest)?;
    guest.installed()?;
    guest.ok("systemctl stop vfio-bindd; systemctl reset-failed vfio-bindd; true")?;
    give_back(guest)?;
    // The kernel scans an NVMe disk after its driver's probe is done.
    let scanned = "udevadm settle; for disk in /sys/bus/pci/drivers/nvme/0000:*/nvme/nvme*; do \
                   [ \"$(cat $disk/state)\" = live ] || exit 1; done";
    guest.wait_until(SOON, scanned).map(drop)
}

/// vfio needs the whole of an IOMMU group, and the two functions behind a
/// PCIe-to-PCI bridge are one: a mapping of one of them gets nothing, and the
/// other keeps its driver, unless the mapping says to take it too.
fn one_of_two(guest: &mut Guest) -> Result<()> {
    idle(guest)?;
    let pair = devices::behind_old_bridge(guest)?;
    let [wanted, other] = &pair;
    let name = network::interface(guest, other)?;
    guest.ok(&format!(
        "ip addr flush dev {name}; ip link set {name} down"
    ))?;
    let mapping = format!("[mapping.one]\nmatch = {{ address = \"{wanted}\" }}\n");
    guest.write_file(CONFIG, &mapping)?;
    guest.ok("systemctl start vfio-bindd")?;
    let answer = guest.run("vfio-bindctl resolve --wait 60s one")?;
    ensure(
        answer.status == 5
            && ["group", other, "e1000"]
                .iter()
                .all(|word| answer.stderr.contains(word)),
        || format!("wanted a refusal that names {other}: {}", answer.words()),
    )?;
    for address in &pair {
        same(
            &format!("the driver of {address}"),
            &guest.driver(address)?,
            "e1000",
        )?;
    }

    guest.write_file(CONFIG, &format!("{mapping}group = \"take\"\n"))?;
    guest.ok("vfio-bindctl reload")?;
    let all = format!("vfio-bindctl resolve one && [ \"$(vfio-bindctl resolve one)\" = {wanted} ]");
    guest.wait_until(SOON, &all)?;
    for address in &pair {
        same(
            &format!("the driver of {address}"),
            &guest.driver(address)?,
            "vfio-pci",
        )?;
    }
    same("the bridge's driver", &guest.driver(OLD_BRIDGE)?, "")?;
    idle(guest)?;
    guest
        .wait_until(Duration::from_secs(5), &format!("ip link show {name}"))
        .map(drop)
}
