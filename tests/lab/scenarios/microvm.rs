//! Virtual machines that do not run as root: whose the nodes are, and a runner as
//! microvm.nix makes them.

use std::time::Duration;

use super::{CONFIG, NIC, READER, SOON, ensure, fresh, manager_property, same, wait_driver};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{PAIR, TWIN_A, TWIN_NODE1};

/// Scenarios about `owner`, `group` and `mode`.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("microvm_nodes_are_their_owners", are_their_owners),
    Scenario::of_package("microvm_nodes_of_nobody", of_nobody).in_full(),
    Scenario::of_package("microvm_nodes_of_a_shared_group", of_a_shared_group),
    Scenario::of_package("microvm_runner", runner),
];

/// Beside the host's own rules.
pub(crate) const MORE: &[Scenario] = &[Scenario::of_package(
    "microvm_nodes_and_other_rules",
    and_other_rules,
)];

const OWNED: &str = "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n\
                     owner = \"microvm\"\ngroup = \"kvm\"\nmode = \"0660\"\n";
const PLAIN: &str = "[mapping.nic]\nmatch = { path = \"0000:00:10.0/00.0\" }\n";

const RULES: &str = "/usr/lib/udev/rules.d/99-vfio-bindd-nodes.rules";

const WANTED: &str = "microvm:kvm 660";

/// The user that microvm.nix runs virtual machines as (nixos-modules/host).
const USER: &str = "id microvm >/dev/null 2>&1 || useradd --system --gid kvm \
                    --home-dir /var/lib/microvms --no-create-home microvm";

/// A shell expression for the node of the function's IOMMU group.
fn node_of(address: &str) -> String {
    format!("/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/{address}/iommu_group))")
}

/// Whose the node is.
fn whose(guest: &mut Guest, address: &str) -> Result<String> {
    guest.ok(&format!("stat -c '%U:%G %a' {}", node_of(address)))
}

/// Waits until the mapping can be had, and looks at once whose the node is.
fn at_once(guest: &mut Guest, when: &str) -> Result<()> {
    let both = guest.ok(&format!(
        "address=$(vfio-bindctl resolve nic --wait 30s); stat -c '%U:%G %a' {}",
        node_of("$address")
    ))?;
    same(&format!("whose the node is {when}"), &both, WANTED)
}

fn are_their_owners(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok(USER)?;
    let control = guest.ok("modprobe vfio; udevadm settle; stat -c '%U:%G %a' /dev/vfio/vfio")?;
    // Since systemd 254.
    if guest.run("udevadm verify --help")?.status == 0 {
        guest.ok(&format!("udevadm verify {RULES}"))?;
    }
    fresh(guest, OWNED)?;
    at_once(guest, "at first")?;
    let nic = guest.behind(TWIN_A, 0)?;
    for round in 0..5 {
        guest.ok("vfio-bindctl restore nic")?;
        wait_driver(guest, &nic, "e1000e")?;
        guest.ok("vfio-bindctl rescan --take")?;
        at_once(guest, &format!("after restore {round}"))?;
    }
    guest.ok("systemctl restart vfio-bindd")?;
    at_once(guest, "after a restart")?;
    for subsystem in ["vfio", "vfio-dev", "pci"] {
        for action in ["add", "change"] {
            guest.ok(&format!(
                "udevadm trigger --action={action} --subsystem-match={subsystem}; udevadm settle"
            ))?;
            at_once(guest, &format!("after {action} of {subsystem}"))?;
        }
    }
    // And with nobody there but udev.
    guest
        .ok("systemctl stop vfio-bindd; udevadm trigger --subsystem-match=vfio; udevadm settle")?;
    same(
        "whose it is without the daemon",
        &whose(guest, &nic)?,
        WANTED,
    )?;
    // Bound by somebody else meanwhile, and found so.
    guest.ok(&format!(
        "chown root:root {0}; chmod 600 {0}; systemctl start vfio-bindd",
        node_of(&nic)
    ))?;
    at_once(guest, "after a start that finds it bound")?;
    for round in 0..5 {
        guest.ok(&format!(
            "echo 1 >/sys/bus/pci/devices/{nic}/remove; sleep 1; echo 1 >/sys/bus/pci/rescan"
        ))?;
        wait_driver(guest, &nic, "vfio-pci")?;
        at_once(guest, &format!("after remove and rescan {round}"))?;
    }
    guest.ok(&format!("chown root:root {}", node_of(&nic)))?;
    guest.ok("vfio-bindctl rescan")?;
    guest.wait_until(
        SOON,
        &format!(
            "[ \"$(stat -c '%U:%G %a' {})\" = '{WANTED}' ]",
            node_of(&nic)
        ),
    )?;
    let told = guest.ok("vfio-bindctl explain nic")?;
    ensure(told.contains("owner microvm, group kvm, mode 0660"), || {
        format!("explain does not say whose nodes are:\n{told}")
    })?;
    // The nodes that kernels with VFIO_DEVICE_CDEV make for each function, which
    // this one does not: the rules are for them, too.
    let tested = guest.ok(&format!(
        "udevadm test --action=add $(readlink -f /sys/bus/pci/devices/{nic}/vfio-dev/vfio*) 2>&1"
    ))?;
    ensure(tested.contains("VFIO_BINDD_OWNER=microvm"), || {
        format!("udev knows nothing of vfio-dev: {tested}")
    })?;
    // What no mapping says anything of is left alone, whatever it is.
    guest.write_file(CONFIG, PLAIN)?;
    guest.ok(&format!(
        "vfio-bindctl reload; chown nobody:nogroup {0}; chmod 640 {0}
         udevadm trigger --action=add --subsystem-match=vfio; udevadm settle
         vfio-bindctl rescan; sleep 2",
        node_of(&nic)
    ))?;
    same(
        "whose it is now",
        &whose(guest, &nic)?,
        "nobody:nogroup 640",
    )?;
    same(
        "what udev was left",
        &guest.ok("ls /run/vfio-bindd/nodes")?,
        "",
    )?;
    let control_now = guest.ok("stat -c '%U:%G %a' /dev/vfio/vfio")?;
    same("whose /dev/vfio/vfio is", &control_now, &control)?;
    fresh(guest, "")
}

/// Rules of the host's own, before the package's and after them.
fn and_other_rules(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok(USER)?;
    let rule = "SUBSYSTEM==\"vfio\", OWNER=\"root\", GROUP=\"disk\", MODE=\"0600\"\n";
    guest.write_file("/run/udev/rules.d/60-lab.rules", rule)?;
    guest.ok("udevadm control --reload")?;
    fresh(guest, PLAIN)?;
    guest.ok("vfio-bindctl resolve nic --wait 30s; udevadm settle")?;
    let nic = guest.behind(TWIN_A, 0)?;
    same(
        "whose it is by that rule",
        &whose(guest, &nic)?,
        "root:disk 600",
    )?;
    guest.write_file(CONFIG, OWNED)?;
    guest.ok("vfio-bindctl reload")?;
    at_once(guest, "with another rule")?;
    for round in 0..5 {
        guest.ok("vfio-bindctl restore nic; vfio-bindctl rescan --take")?;
        at_once(guest, &format!("with another rule, after restore {round}"))?;
        guest.ok("udevadm settle")?;
        same("whose it is in the end", &whose(guest, &nic)?, WANTED)?;
    }
    // One that has the last word is told of.
    guest.ok("cd /run/udev/rules.d; mv 60-lab.rules 99-zz-lab.rules; udevadm control --reload")?;
    guest.ok("vfio-bindctl restore nic; vfio-bindctl rescan --take")?;
    guest.wait_until(
        Duration::from_secs(40),
        "vfio-bindctl status | tee /dev/stderr | grep 'udev has not set it'",
    )?;
    guest.ok(
        "rm /run/udev/rules.d/99-zz-lab.rules; udevadm control --reload; vfio-bindctl rescan",
    )?;
    at_once(guest, "without the other rule")?;
    fresh(guest, "")
}

/// A user who comes later.
fn of_nobody(guest: &mut Guest) -> Result<()> {
    let config = OWNED.replace("\"microvm\"", "\"lab-later\"");
    guest.ok("userdel lab-later 2>/dev/null; true")?;
    fresh(guest, &config)?;
    let why = "there is no user \"lab-later\" in /etc/passwd";
    let refused = guest.run("vfio-bindctl resolve nic --wait 5s")?;
    ensure(
        refused.status == 3 && refused.stdout.is_empty() && refused.stderr.contains(why),
        || format!("nobody has the node, and it resolves: {}", refused.words()),
    )?;
    let state = manager_property(guest, "State")?;
    same("the daemon's state", &state, "s \"degraded\"")?;
    for command in ["status", "check", "doctor"] {
        let told = guest.run(&format!("vfio-bindctl {command} 2>&1"))?;
        ensure(told.stdout.contains(why), || {
            format!("{command} does not say so: {}", told.words())
        })?;
    }
    let nic = guest.behind(TWIN_A, 0)?;
    // udev does what it can.
    same(
        "whose it is meanwhile",
        &whose(guest, &nic)?,
        "root:kvm 660",
    )?;
    guest.ok("useradd --system lab-later")?;
    guest.ok_for(
        "vfio-bindctl resolve nic --wait 70s",
        Duration::from_secs(80),
    )?;
    same(
        "whose it is then",
        &whose(guest, &nic)?,
        "lab-later:kvm 660",
    )?;
    fresh(guest, "")?;
    guest.ok("userdel lab-later")?;
    Ok(())
}

/// Two functions with one node.
fn of_a_shared_group(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok(USER)?;
    let [first, second] = [guest.behind(PAIR, 0)?, guest.behind(PAIR, 1)?];
    let two = |owner: &str, other: &str| {
        format!(
            "[mapping.first]\nmatch = {{ address = \"{first}\" }}\n{owner}\n\
             [mapping.second]\nmatch = {{ address = \"{second}\" }}\n{other}\n"
        )
    };
    fresh(
        guest,
        &two("owner = \"microvm\"", "group = \"kvm\"\nmode = \"0640\""),
    )?;
    guest.ok("vfio-bindctl resolve first --wait 30s; vfio-bindctl resolve second --wait 30s")?;
    same("what they want", &whose(guest, &first)?, "microvm:kvm 640")?;
    fresh(guest, &two("owner = \"microvm\"", "owner = \"root\""))?;
    for (name, other) in [("first", "second"), ("second", "first")] {
        let refused = guest.run(&format!("vfio-bindctl resolve {name} --wait 20s"))?;
        let why = format!("with mapping '{other}', which wants another owner for it");
        ensure(refused.status == 5 && refused.stderr.contains(&why), || {
            format!("{name} is not refused: {}", refused.words())
        })?;
    }
    fresh(guest, "")
}

/// As microvm.nix makes them (lib/runner.nix): what the script says is split into
/// words, and its failure ends the runner.
const RUNNER: &str = "#!/bin/bash
set -eou pipefail
runtime_args=$(/opt/lab/extra-args)
exec -a microvm@lab qemu-system-x86_64 -name lab -M q35,accel=tcg -m 64 -smp 1 \\
    -nodefaults -no-user-config -no-reboot -display none -monitor stdio ${runtime_args:-}
";

/// As its nixos-modules/host has it, as far as that matters here.
const UNIT: &str = "[Unit]
Description=MicroVM '%i'
[Service]
Type=oneshot
User=microvm
Group=kvm
LimitMEMLOCK=infinity
TimeoutStartSec=120
ExecStart=/opt/lab/microvm-run
StandardInput=file:/run/lab-monitor
StandardOutput=truncate:/run/lab-microvm.out
StandardError=truncate:/run/lab-microvm.err
";

fn runner(guest: &mut Guest) -> Result<()> {
    guest.installed()?;
    guest.ok(USER)?;
    guest.write_file("/opt/lab/microvm-run", RUNNER)?;
    guest.write_file("/run/lab-monitor", "info pci\nquit\n")?;
    guest.write_file("/run/systemd/system/microvm@.service", UNIT)?;
    let script = |mapping: &str| {
        format!("#!/bin/sh\nexec vfio-bindctl resolve {mapping} --wait 20s --format qemu\n")
    };
    guest.write_file("/opt/lab/extra-args", &script("nic"))?;
    guest.ok("chmod 755 /opt/lab/microvm-run /opt/lab/extra-args; systemctl daemon-reload")?;
    let started = |guest: &mut Guest| {
        guest.run_for(
            "rm -f /run/lab-microvm.*; systemctl reset-failed microvm@lab 2>/dev/null
             systemctl start microvm@lab; status=$?
             cat /run/lab-microvm.out; cat /run/lab-microvm.err >&2; exit $status",
            Duration::from_secs(150),
        )
    };
    let config = "[mapping.nic]\nmatch = { id = \"8086:10d3\", numa = 1 }\n";
    // Nobody else's node can be opened.
    fresh(guest, config)?;
    let output = started(guest)?;
    ensure(
        output.status != 0 && output.stderr.contains("ermission denied"),
        || format!("a node of root's can be opened: {}", output.words()),
    )?;
    let owned = format!("{config}owner = \"microvm\"\ngroup = \"kvm\"\nmode = \"0660\"\n");
    guest.write_file(CONFIG, &owned)?;
    guest.ok("systemctl restart vfio-bindd")?;
    let output = started(guest)?;
    ensure(output.status == 0 && output.stdout.contains(NIC), || {
        format!("the microvm does not show {NIC}: {}", output.words())
    })?;
    // Others still have nothing of it.
    let nic = guest.behind(TWIN_NODE1, 0)?;
    let opened = guest.run(&format!("{READER} sh -c ': <{}'", node_of(&nic)))?;
    ensure(opened.status != 0, || {
        "everyone can open the node".to_owned()
    })?;
    // Without its function it does not start.
    guest.write_file("/opt/lab/extra-args", &script("none"))?;
    guest.ok("chmod 755 /opt/lab/extra-args")?;
    let output = started(guest)?;
    ensure(
        output.status != 0 && output.stdout.is_empty() && output.stderr.contains("none"),
        || format!("it starts without its function: {}", output.words()),
    )?;
    guest.ok(
        "rm -r /run/systemd/system/microvm@.service /run/lab-m* /opt/lab; systemctl daemon-reload
         systemctl reset-failed microvm@lab; true",
    )?;
    fresh(guest, "")
}
