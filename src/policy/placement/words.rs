//! Why a device was chosen before others, in words.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Placement, Preference};
use crate::pci::{address::Address, function::Function, topology};

/// Why a function was chosen before others that match as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// A clause about the function.
    pub why: String,
    /// Whether it is not on the node that is preferred.
    pub far: bool,
}

/// The words for one of the `chosen` functions; `all` are those that there were.
/// They do not hang on what was held when it was chosen, so that a look at the host
/// says the same as the daemon.
pub(crate) fn words(
    preference: Preference,
    function: &Function,
    all: &[&Function],
    chosen: &BTreeSet<Address>,
) -> Placed {
    let mut why = Vec::new();
    let mut far = false;
    let node = function.numa_node;
    if let Some(wanted) = preference.numa {
        let is_left =
            |other: &&Function| other.numa_node == Some(wanted) && !chosen.contains(&other.address);
        far = node != Some(wanted);
        why.push(if !far {
            format!("on node {wanted}, as preferred")
        } else if all.iter().any(is_left) {
            format!("not on the preferred node {wanted}: it was chosen before, or goes with others")
        } else {
            format!("not on the preferred node {wanted}, which has no more")
        });
    }
    let how = match preference.placement {
        Placement::Address => None,
        Placement::Spread => Some("spread"),
        Placement::Pack => Some("packed"),
    };
    if let Some(how) = how {
        let node = node.map_or("no known node".to_owned(), |node| format!("node {node}"));
        let place = topology::root_port(&function.path).map_or_else(
            || format!("on host bridge {}", topology::root_bus(&function.path)),
            |port| format!("behind {port}"),
        );
        why.push(format!("{how}: {node}, {place}"));
    }
    Placed {
        why: why.join("; "),
        far,
    }
}
