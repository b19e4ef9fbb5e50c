//! What people read: the daemon's status, a plan.
//!
//! Pure.

use std::fmt::Write as _;

use super::{
    client::Status,
    render::{Screen, Table},
};
use crate::{
    kernel::names::Names,
    pci::{address::Address, inventory::Inventory},
    policy::plan::{Action, MappingPlan, Plan, Verdict},
};

/// The daemon's state, then a line a mapping.
pub(super) fn status(status: &Status, screen: Screen) -> String {
    let mut text = format!(
        "vfio-bindd {}: {}",
        status.version,
        screen.state(&status.state, &status.state)
    );
    // What is wrong with a config takes several lines, with marks under words.
    if status.reason.contains('\n') {
        line(&mut text, &format!(":\n{}", status.reason.trim_end()));
    } else if status.reason.is_empty() {
        text.push('\n');
    } else {
        line(&mut text, &format!(": {}", status.reason));
    }
    if !status.iommu {
        line(
            &mut text,
            "this host has no working IOMMU, so nothing can be bound",
        );
    }
    if !status.mappings.is_empty() {
        let mut table = Table::new(["MAPPING", "STATE", "FUNCTIONS", "WHY"]).states_in(1);
        for (name, mapping) in &status.mappings {
            let functions = match mapping.addresses.as_slice() {
                [] => "-".to_owned(),
                addresses => addresses.join(" "),
            };
            let why = mapping.reason.clone();
            table.row([name.clone(), mapping.state.clone(), functions, why]);
        }
        text += &table.render(screen);
    }
    if !status.pfs.is_empty() {
        let mut table = Table::new(["SRIOV", "STATE", "PF", "VFS", "WHY"]).states_in(1);
        for (address, pf) in &status.pfs {
            let vfs = format!("{} of {}", pf.vfs.len(), pf.wanted);
            let (name, state) = (pf.sriov.clone(), pf.state.clone());
            table.row([name, state, address.clone(), vfs, pf.reason.clone()]);
        }
        text += &table.render(screen);
    }
    for (name, mapping) in &status.mappings {
        for (address, owner) in &mapping.claims {
            line(
                &mut text,
                &format!("{address} of {name} is claimed by {owner:?}"),
            );
        }
    }
    for drift in &status.drift {
        line(&mut text, &format!("since the last boot: {drift}"));
    }
    if !status.left_over.is_empty() {
        let left_over = status.left_over.join(" ");
        line(
            &mut text,
            &format!("still bound, and wanted by no mapping any more: {left_over}"),
        );
    }
    text
}

/// A plan: each mapping with its functions, what chose them, what is to be done
/// and what is refused.
pub(super) fn plan(plan: &Plan, inventory: &Inventory, names: &Names, screen: Screen) -> String {
    let mut text = String::new();
    if !inventory.has_iommu() {
        line(
            &mut text,
            "this host has no working IOMMU, so nothing can be bound",
        );
    }
    for (name, mapping) in &plan.mappings {
        let word = verdict(mapping);
        let state = mapping.verdict.as_str();
        let mut head = format!("{name}: {}", screen.state(state, &word));
        if !mapping.reason.is_empty() {
            write!(head, ": {}", mapping.reason).unwrap_or_default();
        }
        line(&mut text, &head);
        for chosen in &mapping.functions {
            let what = describe(chosen.address, inventory, names);
            line(&mut text, &format!("  {} {what}", chosen.address));
            line(&mut text, &format!("      chosen by {}", chosen.why));
            if let Some(placed) = &chosen.placed {
                line(&mut text, &format!("      preferred: {}", placed.why));
            }
            if let Some(pick) = &chosen.driver {
                let (driver, why) = (&pick.driver, &pick.why);
                line(&mut text, &format!("      driver {driver}: {why}"));
            }
            let action = plan
                .actions
                .iter()
                .find(|one| one.address == chosen.address);
            line(&mut text, &format!("      {}", deed(action, chosen.bound)));
        }
        for refusal in &mapping.refusals {
            let what = describe(refusal.address, inventory, names);
            line(&mut text, &format!("  {} {what}", refusal.address));
            line(&mut text, &format!("      refused: {}", refusal.reason));
        }
        for lifted in &mapping.lifted {
            let (address, reason) = (lifted.address, &lifted.reason);
            line(&mut text, &format!("  {address} although it {reason}"));
        }
    }
    for (address, pf) in &plan.sriov.pfs {
        line(
            &mut text,
            &format!("sriov {}: {address} {}", pf.name, pf.words()),
        );
        for (index, settings) in &pf.settings {
            line(&mut text, &format!("  VF {index}: {settings}"));
        }
    }
    for name in &plan.sriov.absent {
        line(
            &mut text,
            &format!("sriov {name}: no function matches its pf"),
        );
    }
    if plan.mappings.is_empty() && plan.sriov.is_empty() {
        line(&mut text, "the config has no mappings");
    }
    text
}

pub(super) fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}

fn verdict(mapping: &MappingPlan) -> String {
    let bound = mapping.functions.iter().filter(|one| one.bound).count();
    match mapping.verdict {
        Verdict::Ready if bound == mapping.functions.len() => "bound".to_owned(),
        Verdict::Ready => "can be bound".to_owned(),
        Verdict::Pending => "not known yet".to_owned(),
        other => other.as_str().to_owned(),
    }
}

fn deed(action: Option<&Action>, bound: bool) -> String {
    match action {
        Some(action) => {
            let mut deed = match &action.detach {
                Some(driver) => format!("would be unbound from {driver}, then "),
                None => "would be ".to_owned(),
            };
            deed += &format!("bound to {}", action.driver);
            if !action.knobs.is_empty() {
                deed += &format!(", with {}", action.knobs);
            }
            deed
        }
        None if bound => "is bound".to_owned(),
        None => "would be left as it is".to_owned(),
    }
}

fn describe(address: Address, inventory: &Inventory, names: &Names) -> String {
    inventory.get(address).map_or_else(String::new, |function| {
        let name = names.get(&function.id).map(String::as_str);
        format!("[{}] {}", function.id, name.unwrap_or_default())
            .trim_end()
            .to_owned()
    })
}
