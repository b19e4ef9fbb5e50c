//! Explains a mapping: what it matches, what became of each, what it nearly
//! matches, and how its count comes about.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Against, Brief, Deed, Live, Outcome, Standing, Trial, against, picked, placed, standing,
};
use crate::{
    pci::{address::Address, function::Function, inventory::Inventory, settings::Settings},
    policy::{
        model::{Detach, DriverChoice, Expect, Extent, GroupRule, Mapping},
        placement::{Placed, Placement},
        plan::{MappingPlan, Plan, Verdict},
        resolve::{first_match, wanted},
        selector::{Candidate, Selector},
        variant::{Pick, is_content},
    },
};

/// All that can be said of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfMapping {
    /// Its name.
    pub name: String,
    /// The config's description.
    pub description: String,
    /// Its selectors.
    pub matches: Vec<String>,
    /// What it leaves out.
    pub exclude: Vec<String>,
    /// Its other settings that are not the default, by their keys.
    pub settings: BTreeMap<String, String>,
    /// How many devices match, and how many are expected to.
    pub count: Count,
    /// What becomes of it.
    pub verdict: Verdict,
    /// One clause why.
    pub reason: String,
    /// The functions that it matches, and what became of each.
    pub candidates: Vec<CandidateSeen>,
    /// Functions that it matches and leaves out.
    pub excluded: Vec<Excluded>,
    /// Functions that it nearly matches.
    pub near: Vec<Near>,
    /// Functions that it may match: their serial numbers were not read.
    pub unknown: Vec<Address>,
    /// What would be done.
    pub actions: Vec<Deed>,
    /// What a running daemon adds.
    pub live: Option<Live>,
}

/// How many devices a mapping matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Functions, or slots if the mapping takes whole slots.
    pub matched: usize,
    /// What is counted: `function` or `slot`.
    pub of: String,
    /// How many there must be: `at least 1`.
    pub expected: String,
    /// Whether there are.
    pub fits: bool,
}

/// A function that a mapping matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateSeen {
    /// The function.
    #[serde(flatten)]
    pub function: Brief,
    /// The selector that matches it, or the function whose slot it is in.
    pub by: String,
    /// What became of it.
    pub standing: Standing,
    /// Why, empty if what is against it says so.
    pub why: String,
    /// What speaks against it.
    pub against: Vec<Against>,
    /// Which driver it gets, where the mapping leaves that open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picked: Option<Pick>,
    /// Why it was preferred, where the mapping takes a part of what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
    /// Whether the wanted driver has it.
    pub bound: bool,
}

/// A function that a mapping matches and leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// The function.
    #[serde(flatten)]
    pub function: Brief,
    /// The selector of `exclude` that matches it.
    pub by: String,
}

/// A function that a mapping nearly matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// The function.
    #[serde(flatten)]
    pub function: Brief,
    /// The selector that comes nearest, term by term.
    pub trial: Trial,
}

pub(super) fn explain(
    inventory: &Inventory,
    plan: &Plan,
    name: &str,
    mapping: &Mapping,
    planned: &MappingPlan,
) -> OfMapping {
    let texts = |selectors: &[Selector]| selectors.iter().map(ToString::to_string).collect();
    let mut told = OfMapping {
        name: name.to_owned(),
        description: mapping.description.clone(),
        matches: texts(&mapping.matches),
        exclude: texts(&mapping.exclude),
        settings: settings(mapping),
        count: Count {
            matched: 0,
            of: match mapping.extent {
                Extent::Matched => "function".to_owned(),
                Extent::Slot => "slot".to_owned(),
            },
            expected: mapping.expect.to_string(),
            fits: false,
        },
        verdict: planned.verdict,
        reason: planned.reason.clone(),
        candidates: Vec::new(),
        excluded: Vec::new(),
        near: Vec::new(),
        unknown: Vec::new(),
        actions: Vec::new(),
        live: None,
    };
    let wants = |deed: &Deed| deed.mappings.iter().any(|one| one == name);
    let deeds = plan.actions.iter().map(Deed::of);
    told.actions.extend(deeds.filter(wants));
    let mut devices: BTreeSet<Address> = BTreeSet::new();
    for function in inventory.iter() {
        let address = function.address;
        let candidate = Candidate::new(function, inventory);
        let found = wanted(mapping, &candidate);
        if let Ok(Some(_)) = found {
            let counted = match mapping.extent {
                Extent::Matched => Some(address),
                Extent::Slot => address.slot().function(0),
            };
            devices.extend(counted);
        }
        let by = match found {
            Ok(Some(selector)) => Some(selector.to_string()),
            _ if planned.chooses(address) => Some(companion(inventory, mapping, address)),
            _ => None,
        };
        if let Some(by) = by {
            let (standing, why) = standing(planned, address);
            told.candidates.push(CandidateSeen {
                function: Brief::of(function),
                by,
                standing,
                why,
                against: against(planned, address),
                picked: picked(planned, address),
                placed: placed(planned, address),
                bound: is_content(mapping.driver, function.driver.as_deref()),
            });
            continue;
        }
        if found.is_err() {
            told.unknown.push(address);
            continue;
        }
        let brief = Brief::of(function);
        match aside(mapping, &candidate) {
            Some(Aside::Excluded(by)) => told.excluded.push(Excluded {
                function: brief,
                by,
            }),
            Some(Aside::Near(trial)) => told.near.push(Near {
                function: brief,
                trial,
            }),
            None => {}
        }
    }
    told.count.matched = devices.len();
    told.count.fits = fits(mapping.expect, devices.len());
    told
}

/// Why a function that no selector matches is chosen, in the words of plans.
fn companion(inventory: &Inventory, mapping: &Mapping, address: Address) -> String {
    let is_wanted = |one: &&Function| {
        let candidate = Candidate::new(one, inventory);
        matches!(wanted(mapping, &candidate), Ok(Some(_)))
    };
    if mapping.extent == Extent::Slot
        && let Some(first) = inventory.slot(address.slot()).find(is_wanted)
    {
        return format!("same slot as {}", first.address);
    }
    let group = inventory.get(address).and_then(|one| one.iommu_group);
    let mut members = inventory.iter().filter(|one| one.iommu_group == group);
    let first = members.find(is_wanted).map_or(address, |one| one.address);
    format!("same IOMMU group as {first}")
}

/// Why a function that a mapping does not want is worth a word.
enum Aside {
    Excluded(String),
    Near(Trial),
}

fn aside(mapping: &Mapping, candidate: &Candidate<'_>) -> Option<Aside> {
    let matched = !matches!(first_match(&mapping.matches, candidate), Ok(None));
    if matched {
        let by = first_match(&mapping.exclude, candidate).ok().flatten()?;
        return Some(Aside::Excluded(by.to_string()));
    }
    nearest(&mapping.matches, candidate).map(Aside::Near)
}

/// The first of the selectors that nearly matches.
pub(super) fn nearest(selectors: &[Selector], candidate: &Candidate<'_>) -> Option<Trial> {
    let mut trials = selectors.iter().map(|one| Trial::of(one, candidate));
    trials.find(|trial| trial.outcome == Outcome::Near)
}

fn fits(expect: Expect, count: usize) -> bool {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    count >= expect.min && expect.max.is_none_or(|max| count <= max)
}

/// The settings that are not the default, as a person would say them.
fn settings(mapping: &Mapping) -> BTreeMap<String, String> {
    let allow: Vec<_> = mapping.allow.iter().map(|guard| guard.name()).collect();
    let bars = Settings {
        bars: mapping.knobs.resize_bar.clone(),
        ..Settings::default()
    };
    let changed = |differs: bool, text: &str| differs.then(|| text.to_owned());
    [
        ("functions", changed(mapping.extent == Extent::Slot, "slot")),
        (
            "expect",
            changed(
                mapping.expect != Expect::default(),
                &mapping.expect.to_string(),
            ),
        ),
        ("take", mapping.take.map(|take| take.to_string())),
        (
            "prefer_numa",
            mapping.preference.numa.map(|node| node.to_string()),
        ),
        (
            "placement",
            changed(
                mapping.preference.placement != Placement::default(),
                mapping.preference.placement.as_str(),
            ),
        ),
        (
            "driver",
            changed(
                mapping.driver != DriverChoice::default(),
                mapping.driver.as_str(),
            ),
        ),
        ("detach", changed(mapping.detach == Detach::Never, "never")),
        ("group", changed(mapping.group == GroupRule::Take, "take")),
        ("allow", changed(!allow.is_empty(), &allow.join(", "))),
        ("partial", changed(mapping.partial, "true")),
        ("reset_method", mapping.knobs.reset_words()),
        ("d3cold", mapping.knobs.d3cold.map(|one| one.to_string())),
        ("power", mapping.knobs.power.map(|one| one.to_string())),
        (
            "resize_bar",
            changed(!mapping.knobs.resize_bar.is_empty(), &bars.to_string()),
        ),
        (
            "nodes",
            changed(
                !mapping.ownership.is_empty(),
                &mapping.ownership.to_string(),
            ),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}
