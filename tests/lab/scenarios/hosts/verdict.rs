//! What a config made of the whole guest, against what had to become of it.
//!
//! Every function of the guest has to be in a case: one that nobody thought of
//! would be one that nobody looks at.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Case, Fate};
use crate::Result;
use crate::guest::Guest;
use crate::scenarios::SOON;

/// A function as sysfs shows it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Six hex digits.
    class: String,
    /// `-` for none.
    driver: String,
    /// `(null)` for none.
    driver_override: String,
}

/// The outcome of a case's proof.
pub(super) struct Proof {
    /// The case.
    pub(super) name: &'static str,
    /// Whether its command succeeded.
    pub(super) works: bool,
    /// What it said.
    pub(super) text: String,
}

/// Runs a config on a host on which the daemon does not run: what is planned
/// without the daemon, what `start` makes of it, what the daemon's own plan
/// says, and whether all that is used still works as it did. `class` is how
/// the class code of what the config matches starts.
pub(super) fn judged(
    guest: &mut Guest,
    what: &str,
    class: &str,
    cases: &[Case],
    start: impl FnOnce(&mut Guest) -> Result<()>,
) -> Result<()> {
    let before = seen(guest)?;
    let proofs_before = proofs(guest, cases)?;
    let offline = offline(guest)?;
    start(guest)?;
    // A mapping of which everything is refused ends with 5.
    let resolved = guest.run("vfio-bindctl resolve --wait 60s all")?;
    let mut wrong = Vec::new();
    if !matches!(resolved.status, 0 | 5) {
        wrong.push(format!("the mapping does not settle: {}", resolved.words()));
    }
    let online = online(guest)?;
    let after = seen(guest)?;
    let proofs_after = proofs(guest, cases)?;

    let fates = fates(cases);
    for (address, one) in &before {
        let Some(fate) = fates.get(address.as_str()) else {
            wrong.push(format!("{address} is in no case of this host"));
            continue;
        };
        let matched = one.class.starts_with(class);
        if !(matched && matches!(fate, Fate::Bound)) {
            let new = after.get(address);
            if new != Some(one) {
                wrong.push(format!("{address} was touched: {new:?}, before {one:?}"));
            }
        }
        if matched {
            wrong.extend(misplaced(&after, address, fate));
            wrong.extend(misjudged("offline", &offline, address, fate));
            wrong.extend(misjudged("the daemon", &online, address, fate));
        }
    }
    for (old, new) in proofs_before.iter().zip(&proofs_after) {
        if !old.works || !new.works || old.text != new.text {
            wrong.push(format!(
                "{}: was\n{}\nand is\n{}",
                old.name, old.text, new.text
            ));
        }
    }
    report(guest, what, cases, (&online, &after), &wrong)
}

/// The same for a boot, of which `early` is the plan at some moment.
pub(super) fn booted(guest: &mut Guest, what: &str, cases: &[Case], early: &Plan) -> Result<()> {
    let (online, seen, proofs) = (online(guest)?, seen(guest)?, proofs(guest, cases)?);
    let mut wrong = Vec::new();
    for (address, fate) in fates(cases) {
        wrong.extend(misplaced(&seen, address, fate));
        wrong.extend(misjudged("the early plan", early, address, fate));
        wrong.extend(misjudged("the daemon", &online, address, fate));
    }
    let broken = proofs.iter().filter(|proof| !proof.works);
    wrong.extend(broken.map(|proof| format!("{} does not work:\n{}", proof.name, proof.text)));
    report(guest, what, cases, (&online, &seen), &wrong)
}

/// Keeps the figures; an error has all wrong decisions.
fn report(
    guest: &mut Guest,
    what: &str,
    cases: &[Case],
    found: (&Plan, &BTreeMap<String, Seen>),
    wrong: &[String],
) -> Result<()> {
    let (plan, seen) = found;
    let decided =
        |address: &String| plan.functions.contains(address) || plan.refusals.contains_key(address);
    let tried = cases.iter().filter(|case| {
        let mut addresses = case.functions.iter().map(|(address, _)| address);
        addresses.any(decided)
    });
    let bound = seen.values().filter(|one| one.driver == "vfio-pci");
    guest.figure(format!(
        "{what}: {} hosts tried, {} functions refused, {} bound, {} wrong decisions",
        tried.count(),
        plan.refusals.len(),
        bound.count(),
        wrong.len()
    ));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n"))
}

/// Whether a function that a config matches has the driver that it should.
fn misplaced(seen: &BTreeMap<String, Seen>, address: &str, fate: &Fate) -> Option<String> {
    let Some(one) = seen.get(address) else {
        return Some(format!("{address} is not there"));
    };
    match (fate, one.driver == "vfio-pci") {
        (Fate::Bound, false) => Some(format!("{address} is idle and was not bound: {one:?}")),
        (Fate::Stays(_), true) => Some(format!("{address} is in use and was bound")),
        _ => None,
    }
}

/// The plan that is made without the daemon. On a busy machine a function may
/// need more time than a look at it gets; then nothing is decided yet.
fn offline(guest: &mut Guest) -> Result<Plan> {
    let decided = "vfio-bindctl plan --json >/run/lab-plan && cat /run/lab-plan && \
                   [ \"$(jq -r .mappings.all.verdict /run/lab-plan)\" != pending ]";
    plan(&guest.wait_until(SOON, decided)?)
}

/// The daemon's own plan.
fn online(guest: &mut Guest) -> Result<Plan> {
    plan(&guest.ok(
        "busctl --json=short call org.vfiobindd1 /org/vfiobindd1 org.vfiobindd1.Manager Plan \
         | jq -r '.data[0]'",
    )?)
}

/// What a plan's mapping `all` says otherwise about a function.
fn misjudged(who: &str, plan: &Plan, address: &str, fate: &Fate) -> Vec<String> {
    let chosen = plan.functions.iter().any(|one| one == address);
    let reasons = plan.refusals.get(address).map_or(&[][..], Vec::as_slice);
    match fate {
        Fate::Bound if chosen && reasons.is_empty() => Vec::new(),
        Fate::Bound => vec![format!(
            "{who} does not plan {address}, which is idle: {reasons:?}"
        )],
        Fate::Stays(_) if chosen => vec![format!("{who} plans {address}, which is in use")],
        Fate::Stays(wanted) => wanted
            .iter()
            .filter(|words| {
                !reasons
                    .iter()
                    .any(|reason| words.iter().all(|word| reason.contains(word)))
            })
            .map(|words| {
                format!("{who} refuses {address} without the words {words:?}: {reasons:?}")
            })
            .collect(),
    }
}

/// The part of a plan that is about the mapping `all`.
pub(super) struct Plan {
    functions: Vec<String>,
    refusals: BTreeMap<String, Vec<String>>,
}

pub(super) fn plan(text: &str) -> Result<Plan> {
    let plan: Value = serde_json::from_str(text)
        .map_err(|error| format!("a plan that is no JSON ({error}): {text}"))?;
    let list = |name: &str| {
        let list = plan
            .pointer(&format!("/mappings/all/{name}"))
            .and_then(Value::as_array);
        list.cloned()
            .ok_or_else(|| format!("a plan without {name}: {text}"))
    };
    let word = |value: &Value, name: &str| {
        let word = value.get(name).and_then(Value::as_str);
        word.map(str::to_owned)
            .ok_or_else(|| format!("no {name} in {value}"))
    };
    let mut refusals: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for refusal in list("refusals")? {
        let reasons = refusals.entry(word(&refusal, "address")?).or_default();
        reasons.push(word(&refusal, "reason")?);
    }
    let functions = list("functions")?;
    let functions = functions.iter().map(|one| word(one, "address"));
    Ok(Plan {
        functions: functions.collect::<Result<_>>()?,
        refusals,
    })
}

fn fates(cases: &[Case]) -> BTreeMap<&str, &Fate> {
    let functions = cases.iter().flat_map(|case| &case.functions);
    functions
        .map(|(address, fate)| (address.as_str(), fate))
        .collect()
}

/// Every function of the guest.
fn seen(guest: &mut Guest) -> Result<BTreeMap<String, Seen>> {
    let lines = guest.ok("cd /sys/bus/pci/devices; for one in *; do
             driver=$(readlink $one/driver)
             echo $one $(cat $one/class) ${driver##*/} $(cat $one/driver_override)
         done | awk 'NF == 3 { $4 = $3; $3 = \"-\" } { print }'")?;
    let functions = lines.lines().map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let (address, class) = (word(), word().trim_start_matches("0x").to_owned());
        let (driver, driver_override) = (word(), word());
        (
            address,
            Seen {
                class,
                driver,
                driver_override,
            },
        )
    });
    Ok(functions.collect())
}

/// The proofs of all cases, in their order.
pub(super) fn proofs(guest: &mut Guest, cases: &[Case]) -> Result<Vec<Proof>> {
    // One command for all: each costs a while over the guest's serial port.
    let script: String = cases
        .iter()
        .map(|case| {
            format!(
                "( set -e -o pipefail; {} ) 2>&1; echo \"LAB-PROOF $?\"\n",
                case.proof
            )
        })
        .collect();
    let all = guest.ok(&format!("sync; echo 3 >/proc/sys/vm/drop_caches\n{script}"))?;
    let mut parts = all.split("LAB-PROOF ");
    let mut text = parts.next().unwrap_or_default();
    let mut proofs = Vec::new();
    for (case, part) in cases.iter().zip(parts) {
        let (status, rest) = part.split_once('\n').unwrap_or((part, ""));
        proofs.push(Proof {
            name: case.name,
            works: status.trim() == "0",
            text: text.trim().to_owned(),
        });
        text = rest;
    }
    if proofs.len() == cases.len() {
        return Ok(proofs);
    }
    Err(format!("garbled proofs:\n{all}"))
}
