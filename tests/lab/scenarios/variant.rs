//! `driver = "auto"`, on kernels without a variant driver: Debian builds none.
//! What their aliases may name all the same ends on vfio-pci.

use super::faults::lines;
use super::{CONFIG, ensure, fresh, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::TWIN_NODE1;

/// Scenarios about the choice of a vfio driver.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("variant_none", none),
    Scenario::of_package("variant_of_no_use", of_no_use),
];

const AUTO: &str = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\ndriver = \"auto\"\n";
const ALIAS: &str = "vfio_pci:v00008086d000010D3sv*sd*bc*sc*i*";
/// What the journal has of a function that fell back.
const FELL_BACK: &str = "gets vfio-pci for nic, and no variant driver";

/// No alias but vfio-pci's own: nothing to fall back from, and nothing said. The
/// daemon, from whom its unit hides the modules, sees that too.
fn none(guest: &mut Guest) -> Result<()> {
    let before = lines(guest, FELL_BACK)?;
    fresh(guest, AUTO)?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    let explained = guest.ok(&format!("vfio-bindctl explain {nic}"))?;
    let wanted = "driver vfio-pci: it has the function already";
    ensure(explained.contains(wanted), || explained.clone())?;
    let told = lines(guest, FELL_BACK)? - before;
    ensure(told == 0, || format!("{told} warnings, wanted none"))
}

/// A module without a driver for PCI, and one that is not there.
fn of_no_use(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    let list = "/lib/modules/$(uname -r)/modules.alias";
    guest.ok(&format!("cp {list} /run/lab-aliases"))?;
    let ended = [
        ("vfio_pci_core", "has no vfio driver for PCI"),
        ("lab_vfio_pci", "was not loaded"),
    ]
    .into_iter()
    .try_for_each(|(module, why)| {
        guest.ok(&format!(
            "{{ echo 'alias {ALIAS} {module}'; cat /run/lab-aliases; }} > {list}"
        ))?;
        falls_back(guest, module, &format!("the module {module} {why}"))
    });
    guest.ok(&format!("cp /run/lab-aliases {list}"))?;
    ended
}

fn falls_back(guest: &mut Guest, module: &str, why: &str) -> Result<()> {
    fresh(guest, "")?;
    let nic = guest.behind(TWIN_NODE1, 0)?;
    guest.write_file(CONFIG, AUTO)?;
    let plan = guest.ok("vfio-bindctl plan")?;
    let wanted = format!("driver {module}: {ALIAS} names its module");
    ensure(plan.contains(&wanted), || plan.clone())?;
    let text = format!("{FELL_BACK}: {why}");
    let before = lines(guest, &text)?;
    guest.ok("vfio-bindctl reload")?;
    wait_resolved(guest, "nic", &[&nic])?;
    same("the driver", &guest.driver(&nic)?, "vfio-pci")?;
    guest.ok("vfio-bindctl rescan && sleep 2")?;
    let told = lines(guest, &text)? - before;
    ensure(told == 1, || format!("{told} warnings, wanted one"))?;
    let status = guest.ok("vfio-bindctl status")?;
    ensure(status.contains("1 without a variant driver"), || {
        status.clone()
    })?;
    let explained = guest.ok(&format!("vfio-bindctl explain {nic}"))?;
    ensure(
        explained.contains(&format!("although {ALIAS} names {module}")),
        || explained.clone(),
    )
}
