//! The udev rule: a mapped function that is plugged in never meets its native
//! driver, and udev is held up by nothing else.

use super::{SOON, ensure, fresh, same, wait_driver, wait_resolved};
use crate::Result;
use crate::guest::Guest;
use crate::scenario::Scenario;
use crate::topology::{SPARE, SPARE_B, TWIN_A};

/// Scenarios about functions that come before their driver does.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_package("arrival_rule_is_clean", rule_is_clean),
    Scenario::of_package("arrival_before_the_driver", before_the_driver),
    Scenario::of_package("arrival_waits_for_the_daemon", waits_for_the_daemon),
    Scenario::of_package("arrival_without_the_daemon", without_the_daemon),
];

/// What it costs to be asked.
pub(crate) const MORE: &[Scenario] = &[Scenario::of_package("arrival_costs", costs)];

const RULES: &str = "/usr/lib/udev/rules.d/60-vfio-bindd.rules";
/// A file of the same name here takes the package's place.
const OTHER_RULES: &str = "/run/udev/rules.d/60-vfio-bindd.rules";

/// The card in one of the empty slots.
const SLOT: &str = "[mapping.late]\nmatch = { path = \"0000:00:18.0/00.0\" }\n";

/// No driver of the NICs is there, and nothing was said of them yet.
const UNLOAD: &str = "udevadm settle; modprobe -r e1000e; dmesg --clear";

/// How often a card is plugged in.
const ROUNDS: usize = 5;

fn rule_is_clean(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    // Since systemd 254.
    let old = guest.run("udevadm verify --help")?.status != 0;
    if !old {
        guest.ok(&format!("udevadm verify {RULES}"))?;
    }
    let twin = guest.behind(TWIN_A, 0)?;
    let tested = guest.ok(&format!(
        "udevadm test --action=add /sys/bus/pci/devices/{twin} 2>&1"
    ))?;
    let about: Vec<_> = tested.lines().filter(|l| l.contains("vfio-bind")).collect();
    ensure(
        about
            .iter()
            .any(|line| line.contains("vfio-bindctl hotplug"))
            && !about.iter().any(|line| line.contains("ail")),
        || format!("udevadm test says of the rule: {about:?}"),
    )?;
    // A trigger is no hotplug.
    guest.ok(&format!(
        "udevadm control --log-level=debug; journalctl --sync; from=$(date +%s)
         udevadm trigger --action=add /sys/bus/pci/devices/{twin}; udevadm settle
         udevadm control --log-level=info; journalctl --sync
         ! journalctl --unit=systemd-udevd --since=@$from | grep 'vfio-bindctl hotplug'"
    ))?;
    same("the twin's driver", &guest.driver(&twin)?, "e1000e")
}

fn before_the_driver(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    for round in 0..ROUNDS {
        guest.ok(UNLOAD)?;
        let mapped = guest.plug(SPARE, "mapped")?;
        let twin = guest.plug(SPARE_B, "twin")?;
        wait_driver(guest, &mapped, "vfio-pci")?;
        wait_driver(guest, &twin, "e1000e")?;
        wait_resolved(guest, "late", &[&mapped])?;
        guest.ok(&format!("udevadm settle; dmesg | grep -q 'e1000e {twin}'"))?;
        let met = guest.run(&format!("dmesg | grep 'e1000e {mapped}'"))?;
        ensure(met.stdout.is_empty(), || {
            format!("in round {round} it met its driver: {}", met.stdout)
        })?;
        guest.tidy()?;
    }
    Ok(())
}

/// The daemon sleeps when the card comes, and wakes up once udev waits for it.
fn waits_for_the_daemon(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    guest.ok(UNLOAD)?;
    guest.ok(
        "pid=$(systemctl show --value --property=MainPID vfio-bindd); kill -STOP $pid
         cat >/run/lab-wake <<END
         for i in \\$(seq 600); do pgrep -f '[v]fio-bindctl hotplug' && break; sleep 0.05; done
         kill -CONT $pid
END
         systemd-run --quiet --collect --unit=lab-wake sh /run/lab-wake",
    )?;
    let mapped = guest.plug(SPARE, "mapped")?;
    wait_driver(guest, &mapped, "vfio-pci")?;
    let met = guest.run(&format!("udevadm settle; dmesg | grep 'e1000e {mapped}'"))?;
    same("what its driver said of it", &met.stdout, "")
}

fn without_the_daemon(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    // It is there and says nothing: udev goes on after a second.
    let pid = guest.ok("systemctl show --value --property=MainPID vfio-bindd")?;
    guest.ok(&format!("{UNLOAD}; kill -STOP {pid}"))?;
    let held = plugged(guest)?;
    guest.ok(&format!("kill -CONT {pid}"))?;
    wait_driver(guest, &held.address, "vfio-pci")?;
    guest.tidy()?;
    // It is not there: udev knows at once, and the next start converges.
    guest.ok("systemctl stop vfio-bindd; [ ! -e /run/vfio-bindd/hotplug.sock ]")?;
    guest.ok(UNLOAD)?;
    let free = plugged(guest)?;
    guest.ok("systemctl start vfio-bindd")?;
    wait_driver(guest, &free.address, "vfio-pci")?;
    guest.figure(format!(
        "udev's event of a NIC that is plugged in: {:.2} s without the daemon, {:.2} s with one \
         that is stopped",
        free.seconds, held.seconds
    ));
    ensure(held.seconds - free.seconds < 4.0, || {
        "udev waits longer than a second".to_owned()
    })
}

struct Plugged {
    address: String,
    /// From the kernel's event to udev's, with the load of the driver.
    seconds: f64,
}

/// Plugs in the mapped card, which gets its native driver.
fn plugged(guest: &mut Guest) -> Result<Plugged> {
    listen(guest)?;
    let address = guest.plug(SPARE, "mapped")?;
    wait_driver(guest, &address, "e1000e")?;
    let seconds = heard(guest, &address)?;
    Ok(Plugged { address, seconds })
}

fn listen(guest: &mut Guest) -> Result<()> {
    guest
        .ok("systemctl stop lab-events 2>/dev/null; rm -f /run/lab-events
             systemd-run --quiet --collect --unit=lab-events -p StandardOutput=truncate:/run/lab-events \
                 stdbuf -oL udevadm monitor --kernel --udev --subsystem-match=pci
             until grep -q KERNEL /run/lab-events; do sleep 0.1; done")
        .map(drop)
}

/// Seconds from the kernel's `add` of a function to udev's.
fn heard(guest: &mut Guest, address: &str) -> Result<f64> {
    let span = guest.wait_until(
        SOON,
        &format!(
            "awk -F'[][]' '/ add .*\\/{address} / {{ if (/^KERNEL/) from = $2; else to = $2 }}
                 END {{ if (!from || !to) exit 1; printf \"%.3f\\n\", to - from }}' /run/lab-events"
        ),
    )?;
    guest.ok("systemctl stop lab-events")?;
    span.parse()
        .map_err(|_| format!("no span of events: {span:?}"))
}

/// What the rule costs each function that nobody wants, beside the other way to
/// do it: rules that are made out of the config.
fn costs(guest: &mut Guest) -> Result<()> {
    fresh(guest, SLOT)?;
    let twin = guest.behind(TWIN_A, 0)?;
    let rule = guest.ok(&format!("grep ^ACTION {RULES}"))?;
    // The events are made by hand, and this one must not pass over them.
    let asked = rule.replace(" ENV{SYNTH_UUID}!=\"?*\",", "");
    ensure(asked != rule, || format!("the rule is another: {rule}"))?;
    let fixed: String = (0..32)
        .map(|number| {
            format!(
                "ACTION==\"add\", SUBSYSTEM==\"pci\", ATTR{{vendor}}==\"0x8086\", \
                 ATTR{{device}}==\"0x10d3\", KERNEL==\"0000:f0:{number:02x}.0\", \
                 ATTR{{driver_override}}=\"vfio-pci\"\n"
            )
        })
        .collect();
    let mut figure = String::from("an event of an unwanted function:");
    let process = asked.replace("/usr/bin/vfio-bindctl hotplug $kernel", "/usr/bin/true");
    for (name, rules) in [
        ("no rule", ""),
        ("any process", &process),
        ("asking", &asked),
        ("32 fixed rules", &fixed),
    ] {
        guest.write_file(OTHER_RULES, &format!("{rules}\n"))?;
        guest.ok("udevadm control --reload; udevadm settle")?;
        let mut turns = Vec::new();
        for _ in 0..3 {
            let micros = guest.ok(&format!(
                "start=$(date +%s%N)
                 for i in $(seq 50); do echo add >/sys/bus/pci/devices/{twin}/uevent; done
                 udevadm settle; end=$(date +%s%N); echo $(( (end - start) / 50000 ))"
            ))?;
            turns.push(micros.parse::<u32>().map_err(|error| error.to_string())?);
        }
        turns.sort_unstable();
        let micros = turns.get(1).copied().map_or(f64::NAN, f64::from);
        figure += &format!(
            " {name} {:.1} ms ({:.0} events/s);",
            micros / 1e3,
            1e6 / micros
        );
    }
    guest.ok(&format!("rm {OTHER_RULES}; udevadm control --reload"))?;
    guest.figure(figure);
    // And a function that is wanted: all that is done to it.
    listen(guest)?;
    let mapped = guest.plug(SPARE, "mapped")?;
    let wanted = heard(guest, &mapped)?;
    wait_driver(guest, &mapped, "vfio-pci")?;
    listen(guest)?;
    let other = guest.plug(SPARE_B, "other")?;
    let unwanted = heard(guest, &other)?;
    guest.figure(format!(
        "udev's event of a NIC whose driver is loaded: {wanted:.3} s for a mapped one, \
         {unwanted:.3} s for another"
    ));
    Ok(())
}
