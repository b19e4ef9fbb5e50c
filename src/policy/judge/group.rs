//! IOMMU groups: vfio opens a group only if the host has left all of it.

use std::collections::BTreeSet;

use super::{Judge, Spared};
use crate::{
    pci::{address::Address, function::Function},
    policy::{
        guard::{Objection, Refusal, is_bridge},
        plan::MappingPlan,
    },
};

/// A driver that leaves an IOMMU group viable although it is no vfio driver:
/// it sets `driver_managed_dma` (drivers/pci/pci-stub.c and
/// drivers/pci/pcie/portdrv.c, v6.12). shpchp, which some conventional bridges
/// have, does not.
fn manages_dma_itself(driver: &str) -> bool {
    matches!(driver, "pci-stub" | "pcieport")
}

/// The driver of a member of an IOMMU group that does not leave DMA to
/// userspace (drivers/iommu/iommu.c, `iommu_group_claim_dma_owner`, v6.12).
pub(crate) fn keeps_group(member: &Function) -> Option<&str> {
    member
        .native_driver()
        .filter(|driver| !manages_dma_itself(driver))
}

impl<'a> Judge<'a> {
    /// A member of its IOMMU group that would keep vfio from opening it and
    /// that no mapping binds.
    pub(super) fn companions(
        &self,
        name: &str,
        function: &Function,
        spared: &Spared<'_>,
    ) -> Option<Objection> {
        let group = function.iommu_group?;
        let (other, driver) = self.holders(function).find(|(other, _)| {
            let mut takers = self.takers(other.address, name, spared);
            takers.next().is_none()
        })?;
        let bridge = is_bridge(other);
        let other = other.address;
        Some(Objection::absolute(if bridge {
            format!(
                "shares IOMMU group {group} with the bridge {other}, which {driver} holds; vfio \
                 cannot open the group unless it is unbound from {driver}"
            )
        } else {
            format!(
                "shares IOMMU group {group} with {other}, which {driver} holds and which the \
                 mapping does not have"
            )
        }))
    }

    /// Whether the function at `address` has to wait: only mappings that are
    /// `pending`, and may yet be refused, would bind a member of its group.
    pub(crate) fn awaits_companions(
        &self,
        name: &str,
        address: Address,
        spared: &Spared<'_>,
        pending: &BTreeSet<&str>,
    ) -> bool {
        let Some(function) = self.inventory.get(address) else {
            return false;
        };
        self.holders(function).any(|(other, _)| {
            self.takers(other.address, name, spared)
                .all(|taker| pending.contains(taker))
        })
    }

    /// Refuses the companions of functions that were all refused themselves:
    /// they would be taken from the host for nothing.
    pub(crate) fn dismiss_companions(&self, plan: &mut MappingPlan) {
        let group = |address: Address| self.inventory.get(address)?.iommu_group;
        let taken: BTreeSet<_> = plan
            .functions
            .iter()
            .filter(|chosen| !chosen.companion)
            .map(|chosen| group(chosen.address))
            .collect();
        plan.functions.retain(|chosen| {
            let wanted = !chosen.companion || taken.contains(&group(chosen.address));
            if !wanted {
                plan.refusals.push(Refusal {
                    address: chosen.address,
                    guard: None,
                    reason: "is not needed: nothing else of its IOMMU group is taken".to_owned(),
                });
            }
            wanted
        });
    }

    /// Other members of its IOMMU group, and the driver of each, that keep the
    /// group from userspace.
    fn holders(&self, function: &Function) -> impl Iterator<Item = (&'a Function, &'a str)> {
        let own = function.address;
        let group = function.iommu_group;
        let members = group.and_then(|group| self.groups.get(&group));
        let members = members.map_or(&[][..], Vec::as_slice).iter();
        members
            .filter_map(|address| self.inventory.get(*address))
            .filter(move |other| other.address != own)
            .filter_map(|other| Some((other, keeps_group(other)?)))
    }

    /// The mappings that bind the function at `address`, asked for `asker`.
    fn takers(
        &self,
        address: Address,
        asker: &str,
        spared: &Spared<'_>,
    ) -> impl Iterator<Item = &'a str> {
        let wanted_by = self.wanted_by.get(&address).map_or(&[][..], Vec::as_slice);
        wanted_by
            .iter()
            .copied()
            .filter(move |mapping| !spared.has(mapping, address, asker))
    }
}
