//! The users and groups that nodes are to belong to.

use super::Finding;
use crate::policy::{model::Policy, ownership::Ownership};

const NAME: &str = "owner";

/// What `missing` has to say of the users and groups of each mapping, which is
/// asked of this host and never of a recorded one.
#[must_use]
pub fn owners(policy: &Policy, missing: &dyn Fn(&Ownership) -> Vec<String>) -> Vec<Finding> {
    let wanted = policy.mappings.iter();
    let wanted = wanted.filter(|(_, mapping)| !mapping.ownership.is_empty());
    wanted
        .flat_map(|(name, mapping)| {
            let ownership = &mapping.ownership;
            let findings: Vec<_> = missing(ownership)
                .into_iter()
                .map(|text| {
                    let advice = format!(
                        "make it, or change owner or group in [mapping.{name}]; the mapping fails \
                         until then"
                    );
                    Finding::fail(NAME, format!("{name}: {text}"), advice)
                })
                .collect();
            if findings.is_empty() {
                vec![Finding::ok(NAME, format!("{name}: nodes get {ownership}"))]
            } else {
                findings
            }
        })
        .collect()
}
