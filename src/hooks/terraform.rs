//! The protocol of Terraform's `external` data source: an object of strings comes
//! on standard input, and an object of strings is the answer.
//!
//! Source: terraform-provider-external, docs/data-sources/external.md.

use std::collections::BTreeMap;

use crate::pci::{address::Address, id::PciId};

/// What is asked: which mapping.
///
/// # Errors
/// With one sentence if that is no object of strings, or of other keys.
///
/// ```
/// use vfio_bindd::hooks::terraform::query;
/// assert_eq!(query(r#"{"mapping":"gpu"}"#), Ok("gpu".to_owned()));
/// assert!(query(r#"{"mapping":1}"#).is_err());
/// ```
pub fn query(text: &str) -> Result<String, String> {
    let mut query: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|error| format!("the query is no JSON object of strings: {error}"))?;
    let mapping = query.remove("mapping");
    if let Some(key) = query.keys().next() {
        return Err(format!("the query has '{key}'; it has one key, 'mapping'"));
    }
    mapping.ok_or_else(|| "the query has no 'mapping', which names a mapping".to_owned())
}

/// What is told of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub address: Address,
    /// Vendor and device ID.
    pub id: PciId,
    /// Subsystem IDs, `None` where it has none.
    pub subsystem: Option<PciId>,
    /// IOMMU group, `None` without an IOMMU.
    pub iommu_group: Option<u32>,
    /// Its driver, empty if it has none.
    pub driver: String,
}

/// The answer, in one line: of several functions, their values joined by commas, in
/// the order of their addresses. `node` is the host's name.
#[must_use]
pub fn answer(node: &str, devices: &[Device]) -> String {
    let joined = |value: &dyn Fn(&Device) -> String| {
        let values: Vec<_> = devices.iter().map(value).collect();
        values.join(",")
    };
    let mut slots: Vec<_> = devices
        .iter()
        .map(|one| one.address.slot().to_string())
        .collect();
    slots.dedup();
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    let answer: BTreeMap<&str, String> = BTreeMap::from([
        ("bdf", joined(&|one| one.address.to_string())),
        ("slot", slots.join(",")),
        ("id", joined(&|one| one.id.to_string())),
        (
            "subsystem_id",
            joined(&|one| or_empty(one.subsystem.map(|id| id.to_string()))),
        ),
        (
            "iommu_group",
            joined(&|one| or_empty(one.iommu_group.map(|group| group.to_string()))),
        ),
        ("driver", joined(&|one| one.driver.clone())),
        ("node", node.to_owned()),
    ]);
    // A map of strings can always be written.
    serde_json::to_string(&answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_strings_only() {
        let device = |address: &str, iommu_group| Device {
            address: address.parse().unwrap(),
            id: "10de:2684".parse().unwrap(),
            subsystem: None,
            iommu_group,
            driver: "vfio-pci".to_owned(),
        };
        let both = [
            device("0000:41:00.0", Some(31)),
            device("0000:41:00.1", None),
        ];
        assert_eq!(
            answer("pve1", &both),
            r#"{"bdf":"0000:41:00.0,0000:41:00.1","driver":"vfio-pci,vfio-pci","id":"10de:2684,10de:2684","iommu_group":"31,","node":"pve1","slot":"0000:41:00","subsystem_id":","}"#
        );
    }

    #[test]
    fn a_query_that_cannot_be_understood_is_told() {
        for (text, words) in [
            ("", "no JSON object of strings"),
            ("[]", "no JSON object of strings"),
            (r#"{"mapping":null}"#, "no JSON object of strings"),
            ("{}", "has no 'mapping'"),
            (r#"{"mapping":"gpu","node":"a"}"#, "has 'node'"),
        ] {
            let told = query(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
