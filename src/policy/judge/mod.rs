//! Judge: whether a mapping may have a function.
//!
//! Owns the rules that need more than the function itself: `[protect]`, the
//! override, overlaps with other mappings; `group` has those about its IOMMU
//! group. Pure.

mod group;

pub(crate) use self::group::keeps_group;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    guard::{Objection, Refusal, static_objections, usage_objections},
    knobs,
    model::{Detach, Mapping, Policy},
    resolve::{Resolution, Unknown, addresses, first_match},
    selector::{Candidate, Selector},
    sriov::SriovPlan,
    variant::{is_content, pick},
};
use crate::pci::{
    address::Address,
    function::{Function, is_vfio_driver},
    inventory::Inventory,
};

/// Judges functions of one inventory under one policy.
pub(crate) struct Judge<'a> {
    inventory: &'a Inventory,
    policy: &'a Policy,
    groups: BTreeMap<u32, Vec<Address>>,
    /// The mappings that want something of a group's node.
    owners: BTreeMap<u32, BTreeSet<&'a str>>,
    wanted_by: BTreeMap<Address, Vec<&'a str>>,
    sriov: &'a SriovPlan,
}

/// Functions that mappings chose and will not bind.
#[derive(Default)]
pub(crate) struct Spared<'a> {
    /// Mappings that bind none of theirs.
    pub(crate) fallen: BTreeSet<&'a str>,
    /// What a mapping with `partial` passes over.
    pub(crate) passed_over: BTreeSet<(&'a str, Address)>,
}

impl Spared<'_> {
    /// Whether `mapping` leaves the function to the host, asked for `asker`. A
    /// fallen mapping does not ask that of its own: it is refused as it is.
    fn has(&self, mapping: &str, address: Address, asker: &str) -> bool {
        (mapping != asker && self.fallen.contains(mapping))
            || self.passed_over.contains(&(mapping, address))
    }
}

/// What was found for one function in one mapping.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) lifted: Vec<Refusal>,
    /// The wanted driver has it.
    pub(crate) bound: bool,
    /// A helper has to inspect it before it can be bound.
    pub(crate) unread: bool,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        inventory: &'a Inventory,
        policy: &'a Policy,
        resolutions: &'a BTreeMap<String, Resolution>,
        sriov: &'a SriovPlan,
    ) -> Self {
        let mut wanted_by: BTreeMap<Address, Vec<&str>> = BTreeMap::new();
        let mut owners: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for (name, resolution) in resolutions {
            let owns = policy.mappings.get(name);
            let owns = owns.is_some_and(|mapping| !mapping.ownership.is_empty());
            for address in addresses(resolution) {
                wanted_by.entry(address).or_default().push(name);
                let group = inventory.get(address).and_then(|one| one.iommu_group);
                if let Some(group) = group.filter(|_| owns) {
                    owners.entry(group).or_default().insert(name);
                }
            }
        }
        Self {
            inventory,
            policy,
            groups: inventory.groups(),
            owners,
            wanted_by,
            sriov,
        }
    }

    pub(crate) fn inventory(&self) -> &'a Inventory {
        self.inventory
    }

    /// Whether a vfio driver has it, so that the host does not.
    pub(crate) fn is_out_of_hands(&self, address: Address) -> bool {
        let driver = self
            .inventory
            .get(address)
            .and_then(|one| one.driver.as_deref());
        driver.is_some_and(is_vfio_driver)
    }

    /// Whether a helper has to look before the function can be bound, or before
    /// it can be told from a protected one.
    pub(crate) fn needs_inspection(&self, address: Address) -> bool {
        let blank = |function: &&Function| function.inspection.is_none();
        self.inventory
            .get(address)
            .filter(blank)
            .is_some_and(|function| {
                !self.is_out_of_hands(address) || self.protecting(function).is_err()
            })
    }

    /// Judges the function at `address` for the mapping `name`; what is in
    /// `spared` stays with the host.
    pub(crate) fn function(
        &self,
        name: &str,
        mapping: &Mapping,
        address: Address,
        spared: &Spared<'_>,
    ) -> Verdict {
        let Some(function) = self.inventory.get(address) else {
            return Verdict::default();
        };
        let bound = is_content(mapping.driver, function.driver.as_deref());
        let mut objections = self.overlaps(name, mapping, address);
        objections.extend(self.other_owners(name, mapping, function));
        objections.extend(self.protected(function));
        objections.extend(self.parents(address));
        if !bound {
            objections.extend(static_objections(function));
            objections.extend(binding_objections(function, mapping));
        }
        objections.extend(self.companions(name, function, spared));
        let mut verdict = Verdict {
            bound,
            ..Verdict::default()
        };
        for objection in objections {
            let lifted = objection
                .guard
                .is_some_and(|guard| mapping.allow.contains(&guard));
            let refusal = Refusal {
                address,
                guard: objection.guard.map(|guard| guard.name()),
                reason: objection.text,
            };
            if lifted {
                verdict.lifted.push(refusal);
            } else {
                verdict.refusals.push(refusal);
            }
        }
        // What is refused already is left alone: a look can block, or wake a
        // sleeping device up.
        verdict.unread = verdict.refusals.is_empty() && self.needs_inspection(address);
        verdict
    }

    /// Other mappings that choose it too and want something else of it.
    fn overlaps(&self, name: &str, mapping: &Mapping, address: Address) -> Vec<Objection> {
        let others = self.wanted_by.get(&address).map_or(&[][..], Vec::as_slice);
        others
            .iter()
            .filter(|other| **other != name)
            .filter_map(|other| {
                let theirs = self.policy.mappings.get(*other)?;
                let of = |mapping| knobs::of(mapping, self.inventory, address);
                let differs = difference(mapping, theirs).map(str::to_owned);
                let differs = differs.or_else(|| of(mapping)?.difference(of(theirs)?))?;
                Some(Objection::absolute(format!(
                    "is also in mapping '{other}', which wants another {differs} for it"
                )))
            })
            .collect()
    }

    /// Other mappings that want its group's node for somebody else.
    fn other_owners(&self, name: &str, mapping: &Mapping, function: &Function) -> Vec<Objection> {
        let group = function.iommu_group.unwrap_or_default();
        let owners = function
            .iommu_group
            .and_then(|group| self.owners.get(&group));
        let others = owners.into_iter().flatten();
        others
            .filter(|other| **other != name)
            .filter_map(|other| {
                let theirs = self.policy.mappings.get(*other)?;
                let differs = mapping.ownership.difference(&theirs.ownership)?;
                Some(Objection::absolute(format!(
                    "shares /dev/vfio/{group} with mapping '{other}', which wants another \
                     {differs} for it"
                )))
            })
            .collect()
    }

    /// Whether its own VFs are wanted of it, which takes its native driver.
    fn parents(&self, address: Address) -> Option<Objection> {
        let pf = self.sriov.pfs.get(&address).filter(|pf| pf.stays)?;
        let text = format!(
            "is the PF of [sriov.{}], and would make no VFs under a vfio driver",
            pf.name
        );
        Some(Objection::absolute(text))
    }

    fn protecting(&self, function: &Function) -> Result<Option<&Selector>, Unknown> {
        let candidate = Candidate::new(function, self.inventory);
        first_match(&self.policy.protect, &candidate)
    }

    fn protected(&self, function: &Function) -> Option<Objection> {
        match self.protecting(function) {
            Ok(None) => None,
            Ok(Some(selector)) => Some(Objection::absolute(format!("is in [protect]: {selector}"))),
            // What cannot be told apart from a protected function is one,
            // until its serial number was read.
            Err(Unknown) if function.inspection.is_none() => None,
            Err(Unknown) => Some(Objection::absolute("may be in [protect]")),
        }
    }
}

/// What speaks against binding a function that the wanted driver does not have.
fn binding_objections(function: &Function, mapping: &Mapping) -> Vec<Objection> {
    let mut objections = Vec::new();
    let wanted = pick(mapping.driver, function).driver;
    if function.iommu_group.is_none() {
        objections.push(Objection::absolute(
            "is in no IOMMU group; is the IOMMU on in firmware and kernel?",
        ));
    }
    match function.driver.as_deref() {
        Some(driver) if is_vfio_driver(driver) => objections.push(Objection::absolute(format!(
            "is bound to {driver} already, not to {wanted}"
        ))),
        Some(driver) if mapping.detach == Detach::Never => {
            objections.push(Objection::absolute(format!(
                "is held by {driver}, and detach = \"never\" leaves it there"
            )));
        }
        _ => {}
    }
    if let Some(inspection) = &function.inspection {
        if inspection.no_iommu {
            objections.push(Objection::absolute(
                "has no IOMMU behind it: vfio runs in its unsafe no-IOMMU mode",
            ));
        }
        if let Some(region) = inspection.direct_regions.first() {
            objections.push(Objection::absolute(format!(
                "has memory that the firmware wants it to reach at all times ({region}, RMRR), so \
                 vfio cannot open its IOMMU group"
            )));
        }
        match inspection.driver_override.as_deref() {
            Some(theirs) if theirs != wanted => objections.push(Objection::absolute(format!(
                "has the driver override '{theirs}', which somebody else set"
            ))),
            _ => {}
        }
        // The console is drawn on a display that no driver has, too.
        let is_free_display = function.driver.is_none() && function.class.base() == 0x03;
        if function.native_driver().is_some() || is_free_display {
            objections.extend(usage_objections(&inspection.usage));
        }
    }
    objections
}

/// The first setting that two mappings do not share for a function of both.
fn difference(a: &Mapping, b: &Mapping) -> Option<&'static str> {
    [
        (a.driver != b.driver, "driver"),
        (a.detach != b.detach, "detach"),
        (a.group != b.group, "group"),
        (a.allow != b.allow, "allow"),
    ]
    .into_iter()
    .find_map(|(differs, name)| differs.then_some(name))
}
