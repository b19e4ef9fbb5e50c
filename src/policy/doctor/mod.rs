//! Doctor: what of a host stands in the way of its mappings, and what to change.
//!
//! Pure rules over facts, each in the file of its subject; the order here is
//! the order of the report. Never changes anything, and never asks the host.

mod advice;
pub mod facts;
mod functions;
mod groups;
mod host;
pub mod image;
mod iommu;
mod modprobe;
mod modules;
mod overrides;
mod owners;
mod proxmox;
mod sriov;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::{owners::owners, sriov::sriov};

use self::facts::{HostFacts, Seen};
use super::plan::Plan;
use crate::pci::{
    address::Address,
    function::{Function, is_vfio_driver},
    inventory::Inventory,
};

/// How a finding bears on virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, or may work, and will bite some day; also what cannot be seen.
    Warn,
    /// A mapping, or a virtual machine with its functions, cannot work.
    Fail,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it bears on virtual machines.
    pub level: Level,
    /// The check that found it.
    pub name: &'static str,
    /// What was found, in one line.
    pub text: String,
    /// What to change, in one line; empty where nothing has to be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            name,
            text: text.into(),
            advice: String::new(),
        }
    }

    fn warn(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            name,
            text: text.into(),
            advice: advice.into(),
        }
    }

    fn fail(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(name, text, advice)
        }
    }

    /// What cannot be seen is not said to be well.
    fn unseen(name: &'static str, why: &str) -> Self {
        let advice = "run it as root, or on a record that vfio-bindctl dump made as root";
        Self::warn(name, format!("cannot be judged: {why}"), advice)
    }
}

/// A host with a config.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The host beside its functions, `None` in records of older versions.
    pub host: Option<&'a HostFacts>,
    /// Its functions. The mapped ones and those that vfio drivers have should
    /// be inspected.
    pub inventory: &'a Inventory,
    /// What the config comes to on it; that of the empty config where it is
    /// not valid.
    pub plan: &'a Plan,
    /// What is wrong with the config, if it is not valid.
    pub mistake: Option<&'a str>,
}

impl<'a> Case<'a> {
    /// The functions that mappings choose, refused ones too.
    fn mapped(&self) -> BTreeSet<Address> {
        let mappings = self.plan.mappings.values();
        mappings
            .flat_map(|mapping| {
                let chosen = mapping.functions.iter().map(|one| one.address);
                chosen.chain(mapping.refusals.iter().map(|one| one.address))
            })
            .collect()
    }

    /// The same as functions, in the order of their addresses.
    fn mapped_functions(&self) -> Vec<&'a Function> {
        self.functions(self.mapped())
    }

    /// Those of them that are not refused.
    fn accepted(&self) -> Vec<&'a Function> {
        let mappings = self.plan.mappings.values();
        let functions = mappings.flat_map(|mapping| &mapping.functions);
        self.functions(functions.map(|one| one.address).collect())
    }

    fn functions(&self, addresses: BTreeSet<Address>) -> Vec<&'a Function> {
        let inventory = self.inventory;
        let functions = addresses.into_iter();
        functions
            .filter_map(|address| inventory.get(address))
            .collect()
    }
}

fn is_on_vfio(function: &Function) -> bool {
    function.driver.as_deref().is_some_and(is_vfio_driver)
}

/// Addresses in a line: all of a few, else the first and how many more.
fn list(addresses: impl IntoIterator<Item = Address>) -> String {
    const MOST: usize = 4;
    let addresses: Vec<_> = addresses.into_iter().collect();
    let shown = addresses.iter().take(MOST).map(Address::to_string);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if addresses.len() > MOST {
        text += &format!(" and {} more", addresses.len() - MOST);
    }
    text
}

/// The finding for something unseen, or what `judge` makes of what was seen.
fn seen<T>(
    name: &'static str,
    what: &Seen<T>,
    judge: impl FnOnce(&T) -> Vec<Finding>,
) -> Vec<Finding> {
    match what {
        Seen::Known(value) => judge(value),
        Seen::Unseen(why) => vec![Finding::unseen(name, why)],
    }
}

/// Examines a host: every check says at least one line, but for what this host
/// does not have.
#[must_use]
pub fn examine(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = host::config(case);
    match case.host {
        Some(facts) => {
            findings.extend(host::service(facts));
            findings.extend(iommu::all(case, facts));
            findings.extend(modules::all(facts));
            findings.extend(modprobe::all(case, facts));
        }
        None => findings.push(Finding::warn(
            "record",
            "the record says nothing of the host beside its functions, so that only these are \
             judged",
            "record the host again with vfio-bindctl dump",
        )),
    }
    findings.extend(groups::mappings(case));
    findings.extend(sriov::all(case));
    findings.extend(groups::groups(case));
    findings.extend(overrides::all(case));
    findings.extend(functions::all(case));
    if let Some(facts) = case.host {
        findings.extend(overrides::driverctl(case, facts));
        findings.extend(functions::with_facts(case, facts));
        findings.extend(proxmox::all(case, facts));
        findings.extend(host::limits(facts));
    }
    findings
}

/// What of the IOMMU itself keeps virtual machines from functions, or functions
/// from one another badly, whatever the config says.
#[must_use]
pub fn examine_iommu(inventory: &Inventory, facts: &HostFacts) -> Vec<Finding> {
    let case = Case {
        host: Some(facts),
        inventory,
        plan: &Plan::default(),
        mistake: None,
    };
    let findings = iommu::all(&case, facts).into_iter();
    findings.filter(|one| one.level != Level::Ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_stays_on_its_line() {
        let all = (0..7).filter_map(|one| Address::new(0, one, 0, 0));
        assert_eq!(list(all.clone().take(2)), "0000:00:00.0, 0000:01:00.0");
        assert_eq!(
            list(all),
            "0000:00:00.0, 0000:01:00.0, 0000:02:00.0, 0000:03:00.0 and 3 more"
        );
    }

    #[test]
    fn levels_are_ordered_and_named() {
        assert!(Level::Ok < Level::Warn && Level::Warn < Level::Fail);
        assert_eq!(
            [Level::Ok, Level::Warn, Level::Fail].map(Level::name),
            ["ok", "warn", "fail"]
        );
    }
}
