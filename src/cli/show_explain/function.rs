//! What people read of a function.

use std::collections::BTreeSet;

use super::{described, done, fails, head, live, nearly, picked, section, spoken};
use crate::{
    cli::{render::Screen, show::line},
    kernel::names::Names,
    pci::function::{Role, is_vfio_driver},
    policy::{
        explain::{Against, Group, GuardSeen, InMapping, OfFunction, Outcome, Relation, Standing},
        plan::Verdict,
    },
};

pub(super) fn function(told: &OfFunction, names: &Names, screen: Screen) -> String {
    let mut text = String::new();
    let one = &told.function;
    line(&mut text, &head(one.address, one.id, names));
    for fact in facts(told) {
        line(&mut text, &format!("  {fact}"));
    }
    live(&mut text, told.live.as_ref(), screen);
    section(&mut text, "protected", told.protected.iter(), |trial| {
        let may = if trial.outcome == Outcome::Holds {
            "by"
        } else {
            "perhaps: its serial number was not read:"
        };
        vec![format!("{may} {}", trial.selector)]
    });
    let mut mappings: Vec<_> = told.mappings.iter().collect();
    mappings.sort_by_key(|(_, one)| one.relation);
    section(
        &mut text,
        "mappings",
        mappings.into_iter(),
        |(name, one)| in_mapping(name, one),
    );
    if let Some(sriov) = &told.sriov {
        line(
            &mut text,
            &format!("sriov {}: it {}", sriov.name, sriov.clause),
        );
        section(&mut text, "", sriov.settings.iter(), |one| {
            vec![one.clone()]
        });
    }
    section(&mut text, "guards", told.guards.iter(), |guard| {
        vec![guarded(guard)]
    });
    if let Some(group) = &told.group {
        members(&mut text, group, names);
    }
    line(&mut text, &format!("what would be done: {}", would(told)));
    text
}

fn facts(told: &OfFunction) -> Vec<String> {
    let one = &told.function;
    let number = |number: Option<u32>| number.map_or("none".to_owned(), |one| one.to_string());
    let driver = one.driver.as_deref().unwrap_or("none");
    let looked = one.inspection.as_ref();
    let set = looked.and_then(|looked| looked.driver_override.as_deref());
    let mut now = format!("driver {driver}");
    match set {
        Some(set) => now += &format!(", driver override {set}"),
        None if looked.is_some() => now += ", no driver override",
        None => now += &format!(", {}", blind(told)),
    }
    let mut what = format!("class {}", one.class);
    if let Some(subsystem) = one.subsystem {
        what += &format!(", subsystem {subsystem}");
    }
    what += &match &one.role {
        Role::Plain => String::new(),
        Role::Pf { vfs, .. } => format!(", a PF with {} VFs", vfs.len()),
        Role::Vf { pf, index } => {
            let index = index.map_or("?".to_owned(), |index| index.to_string());
            format!(", VF {index} of {pf}")
        }
    };
    let serial = looked.and_then(|looked| looked.serial.as_ref());
    what += &serial.map_or_else(String::new, |serial| format!(", serial {serial}"));
    let mut place = format!("path {}", one.path);
    for (what, name) in [("slot", &one.slot_label), ("hotplug slot", &one.slot_name)] {
        if let Some(name) = name {
            place += &format!(", {what} '{name}'");
        }
    }
    place += &format!(
        ", node {}, IOMMU group {}",
        number(one.numa_node),
        number(one.iommu_group)
    );
    if !one.netdevs.is_empty() {
        now += &format!(", {}", one.netdevs.join(" "));
    }
    let settings = looked.map(|looked| &looked.settings);
    let settings = settings.filter(|settings| !settings.is_empty());
    let settings = settings.map(|settings| format!("settings: {settings}"));
    [what, place, now].into_iter().chain(settings).collect()
}

fn in_mapping(name: &str, one: &InMapping) -> Vec<String> {
    let mut lines = Vec::new();
    let first = |outcome| one.matches.iter().find(|trial| trial.outcome == outcome);
    let by = |outcome| first(outcome).map_or("", |trial| &trial.selector);
    let standing = one.standing.map_or_else(String::new, |standing| {
        let why = if one.why.is_empty() { "" } else { ": " };
        format!("; {standing}{why}{}", one.why)
    });
    match one.relation {
        Relation::Matched => lines.push(format!(
            "{name}: matched by {}{standing}",
            by(Outcome::Holds)
        )),
        Relation::SameSlot => lines.push(format!(
            "{name}: in the slot of a function that is matched{standing}"
        )),
        Relation::SameGroup => lines.push(format!(
            "{name}: in the IOMMU group of a function that is matched{standing}"
        )),
        Relation::Excluded => {
            let out = one.excluded_by.first().map_or("", |trial| &trial.selector);
            lines.push(format!("{name}: left out by exclude {out}"));
        }
        Relation::Unknown => lines.push(format!(
            "{name}: not known: it hangs on its serial number, which was not read"
        )),
        Relation::Near => {
            let near = one
                .matches
                .iter()
                .filter(|one| one.outcome == Outcome::Near);
            lines.extend(near.map(|trial| format!("{name}: nearly matched: {}", nearly(trial))));
        }
        Relation::Far => {
            let failing = one.matches.iter().map(|trial| fails(trial.failing()));
            let failing: Vec<_> = failing.collect();
            lines.push(format!("{name}: not matched: {}", failing.join("; ")));
        }
    }
    lines.extend(against(&one.against));
    let placed = one.placed.iter();
    lines.extend(placed.map(|placed| format!("  preferred: {}", placed.why)));
    lines.extend(one.picked.iter().map(|pick| format!("  {}", picked(pick))));
    if !one.wants.is_empty() {
        lines.push(format!("  wants {}", one.wants));
    }
    let held_up = one.standing == Some(Standing::Chosen) && one.verdict != Verdict::Ready;
    if held_up && !one.reason.is_empty() {
        lines.push(format!("  but not bound for it: {}", one.reason));
    }
    lines
}

/// Guards by their names, since their evidence follows below; the rest whole.
fn against(all: &[Against]) -> Vec<String> {
    let named = |lifted: bool| {
        let here = all.iter().filter(|one| one.lifted == lifted);
        let names: BTreeSet<_> = here.filter_map(|one| one.guard.as_deref()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let (holding, lifted) = (named(false), named(true));
    let mut lines = Vec::new();
    if !holding.is_empty() {
        lines.push(format!("  guards against it: {holding}"));
    }
    if !lifted.is_empty() {
        lines.push(format!("  guards that it allows: {lifted}"));
    }
    let rest = all.iter().filter(|one| one.guard.is_none());
    lines.extend(rest.map(|one| format!("  {}", spoken(one))));
    lines
}

/// Why nobody has looked at the override, the serial number and the use. Without
/// the daemon it was tried, or the host is a recorded one.
fn blind(told: &OfFunction) -> &'static str {
    let is_vfio = told.function.driver.as_deref().is_some_and(is_vfio_driver);
    let mappings = || told.mappings.values();
    let wanted = mappings().any(|one| one.standing.is_some_and(|one| one != Standing::NotChosen));
    let refused =
        |one: &InMapping| matches!(one.standing, Some(Standing::Refused | Standing::PassedOver));
    if told.live.is_none() {
        "not inspected"
    } else if is_vfio {
        "not inspected: it was bound before"
    } else if mappings().any(refused) {
        "not inspected: it is refused without a look"
    } else if wanted || mappings().any(|one| one.relation == Relation::Unknown) {
        "not inspected yet"
    } else {
        "not inspected: no mapping wants it"
    }
}

fn guarded(guard: &GuardSeen) -> String {
    let lifted = match (&guard.guard, guard.lifted_by.as_slice()) {
        (None, _) => "; nothing lifts this".to_owned(),
        (Some(_), []) => String::new(),
        (Some(_), names) => format!("; allowed by {}", names.join(", ")),
    };
    let name = guard.guard.as_ref();
    let name = name.map_or_else(String::new, |name| format!("[{name}] "));
    format!("{name}it {}{lifted}", guard.reason)
}

fn members(text: &mut String, group: &Group, names: &Names) {
    if group.members.is_empty() {
        let number = group.number;
        line(text, &format!("alone in IOMMU group {number}"));
        return;
    }
    let title = format!("IOMMU group {}, with", group.number);
    section(text, &title, group.members.iter(), |member| {
        let mut about = described(&member.function, names);
        if member.bridge {
            about += "; a bridge, which vfio does not mind";
        } else if member.keeps_group {
            about += "; its driver keeps the group from virtual machines";
        }
        if !member.mappings.is_empty() {
            about += &format!("; in {}", member.mappings.join(", "));
        }
        vec![about]
    });
}

fn would(told: &OfFunction) -> String {
    if let Some(deed) = &told.action {
        return format!("{}, for {}", done(deed), deed.mappings.join(", "));
    }
    let chosen = |one: &InMapping| one.standing == Some(Standing::Chosen);
    let refused =
        |one: &InMapping| matches!(one.standing, Some(Standing::Refused | Standing::PassedOver));
    let all = || told.mappings.values();
    let why = if told.left_over {
        "it is left over, and no mapping wants it any more"
    } else if all().any(|one| chosen(one) && one.verdict == Verdict::Ready) {
        "it is bound"
    } else if all().any(refused) {
        "it is refused"
    } else if all().any(chosen) {
        "its mapping is not ready"
    } else {
        "no mapping takes it"
    };
    format!("nothing, {why}")
}
