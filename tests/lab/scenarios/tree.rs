//! How functions hang together, and choices by where they are.

use super::{READER, ensure, fresh, same, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{TWIN_A, TWIN_NODE1};

/// A scenario about the tree, the places of functions and preferred ones.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::of_package(
    "tree_shows_what_is_preferred",
    shows_what_is_preferred,
)];

/// Three twins, of which one is on node 1.
const ONE_OF_THREE: &str = "[mapping.one]\nmatch = { id = \"8086:10d3\", path = \
    [\"0000:00:10.0/00.0\", \"0000:00:11.0/00.0\", \"0000:40:00.0/00.0\"] }\ntake = 1\n";

fn shows_what_is_preferred(guest: &mut Guest) -> Result<()> {
    fresh(guest, ONE_OF_THREE)?;
    let (first, near) = (guest.behind(TWIN_A, 0)?, guest.behind(TWIN_NODE1, 0)?);
    let port = TWIN_NODE1.bridge();
    wait_resolved(guest, "one", &[&first])?;
    // What is bound would stay, whatever is preferred now.
    fresh(guest, &format!("{ONE_OF_THREE}prefer_numa = 1\n"))?;
    wait_resolved(guest, "one", &[&near])?;
    let plan = guest.ok("vfio-bindctl explain one")?;
    ensure(plan.contains("preferred: on node 1, as preferred"), || {
        plan.clone()
    })?;
    // Anybody may look, with the daemon's word on states.
    let shown = guest.ok(&format!("LANG=C.UTF-8 {READER} vfio-bindctl tree"))?;
    let line = shown
        .lines()
        .find(|line| line.contains(&near))
        .unwrap_or_default();
    ensure(
        line.contains("└─") && line.contains("one") && line.contains("bound"),
        || format!("{near} in\n{shown}"),
    )?;
    ensure(shown.lines().all(|line| line.chars().count() <= 80), || {
        shown.clone()
    })?;
    guest.ok(&format!(
        "{READER} vfio-bindctl tree --json >/run/lab-tree && jq -e '
             (map(select(.address == \"{near}\"))[0] |
                 .parent == \"{port}\" and .root_port == \"{port}\" and .numa_node == 1
                 and .state == \"bound\" and .mappings == [\"one\"])
             and (map(.address) | length == (unique | length))' /run/lab-tree &&
         [ \"$(jq length /run/lab-tree)\" = \"$(ls /sys/bus/pci/devices | wc -l)\" ]"
    ))?;
    let part = guest.ok(&format!(
        "{READER} vfio-bindctl tree one --json | jq -r '.[].address'"
    ))?;
    same("the part of the mapping", &part, &format!("{port}\n{near}"))?;
    guest.ok(&format!(
        "cd /sys/bus/pci/devices
         vfio-bindctl resolve one --json >/run/lab-place && jq -e \
             --arg cpus \"$(cat {near}/local_cpulist)\" \
             --arg speed \"$(cat {port}/current_link_speed)\" \
             --argjson width \"$(cat {port}/current_link_width)\" '.[0] |
                 .numa_node == 1 and .local_cpus == $cpus and .root_port == \"{port}\"
                 and (.node | startswith(\"/dev/vfio/\"))
                 and .link.width == $width
                 and (.link.speed as $told | $speed | startswith($told | tostring))' /run/lab-place || {{
             cat /run/lab-place; grep . {port}/*link* {port}/power_state >&2; false; }}"
    ))
    .map(drop)
}
