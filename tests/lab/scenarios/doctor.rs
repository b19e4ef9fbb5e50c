//! The doctor on a host in order, and on one with what guides on the web tell
//! people to write.

use super::{ensure, fresh, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::shell::Output;
use crate::topology::{TWIN_A, TWIN_NODE1};

/// Scenarios about the doctor.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("doctor_finds_a_host_in_order", finds_a_host_in_order),
    Scenario::of_package("doctor_finds_what_guides_leave", finds_what_guides_leave),
    Scenario::of_package("doctor_examines_a_record", examines_a_record),
];

const POLICY: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
const GUIDE: &str = "/etc/modprobe.d/lab-guide.conf";

/// A doctor's report that ends as `status` says, with each of these lines'
/// beginnings in it.
fn report(guest: &mut Guest, command: &str, status: i32, lines: &[String]) -> Result<Output> {
    let report = guest.run(command)?;
    ensure(report.status == status, || {
        format!("wanted status {status}: {}", report.words())
    })?;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let found: Vec<_> = report.stdout.lines().map(words).collect();
    for wanted in lines {
        ensure(found.iter().any(|line| line.starts_with(wanted)), || {
            format!("no line {wanted:?}: {}", report.words())
        })?;
    }
    Ok(report)
}

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}

fn finds_a_host_in_order(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let bound = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&bound])?;
    let mut wanted = lines([
        "ok config valid, 1 mapping",
        "ok service vfio-bindd is started at boot",
        "ok iommu on: ",
        "ok firmware describes VT-d (DMAR)",
        "ok interrupts are remapped",
        "ok isolation",
        "ok modules vfio, vfio_iommu_type1, vfio_pci are loaded",
        "ok static-ids",
        "ok modprobe",
        "ok groups",
        "ok unmapped",
        "ok reset",
        "ok reserved-memory",
        "ok nodes",
        "ok hung-task",
        "ok lockdown",
    ]);
    wanted.push(format!("ok mapping nic: bound: {bound}"));
    let well = report(guest, "vfio-bindctl doctor", 0, &wanted)?;
    ensure(!well.stdout.contains("cannot be judged"), || {
        format!("root sees all: {}", well.words())
    })?;
    // Nobody's rights are enough for most of it, and what is not seen is said.
    let nobody = "setpriv --reuid=nobody --clear-groups vfio-bindctl doctor";
    report(
        guest,
        nobody,
        0,
        &lines(["ok iommu on: ", "ok mapping nic: bound: "]),
    )
    .map(drop)
}

/// The IDs take every twin of the card, and the blacklist keeps the host's own
/// NICs without their driver from the next boot on.
fn finds_what_guides_leave(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let bound = guest.behind(TWIN_NODE1, 0)?;
    let twin = guest.behind(TWIN_A, 0)?;
    wait_resolved(guest, "nic", &[&bound])?;
    guest.write_file(GUIDE, "options vfio-pci ids=8086:10d3\nblacklist e1000e\n")?;
    let wanted = [
        format!("warn static-ids {GUIDE}:1 gives vfio-pci the IDs 8086:10d3, and with them {twin}"),
        format!("-> remove it from {GUIDE}:1, run update-initramfs -u"),
        format!("warn modprobe {GUIDE}:2 keeps e1000e from loading, also for {twin}"),
        "warn initramfs /boot/initrd.img-".to_owned(),
    ];
    let told = report(guest, "vfio-bindctl doctor", 0, &wanted);
    let forbidden = guest.write_file(GUIDE, "install vfio-pci /bin/false\n");
    let installed = report(
        guest,
        "vfio-bindctl doctor",
        0,
        &[format!(
            "warn modprobe {GUIDE}:1 runs '/bin/false' instead of loading vfio_pci"
        )],
    );
    guest.ok(&format!("rm {GUIDE}"))?;
    told.and(forbidden).and(installed).map(drop)
}

fn examines_a_record(guest: &mut Guest) -> Result<()> {
    fresh(guest, POLICY)?;
    let bound = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&bound])?;
    guest.ok("vfio-bindctl doctor >/run/lab-here
         vfio-bindctl dump >/run/lab-host.jsonl
         vfio-bindctl doctor --host /run/lab-host.jsonl >/run/lab-there
         diff /run/lab-here /run/lab-there")?;
    // A host whose IOMMU is off has a failure, and the exit status says so.
    guest.ok("sed -i 's/\"iommus\":{\"known\":\\[[^]]*\\]}/\"iommus\":{\"known\":[]}/' /run/lab-host.jsonl")?;
    let command = "vfio-bindctl doctor --host /run/lab-host.jsonl";
    report(guest, command, 1, &lines(["fail iommu off"])).map(drop)
}
