//! What a selector's terms compare with.
//!
//! Owns the grammar of each value; its errors say what would be right. Knows
//! nothing of selectors.

use std::fmt;

mod address;
mod class;
mod id;
mod role;

pub use address::AddressPattern;
pub use class::ClassPattern;
pub use id::IdPattern;
pub use role::{Kind, PfPattern, VfSet};

/// A value that a term does not take; the text says what is wrong and right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub(in crate::policy) String);

/// A NUMA node, or `none` for functions whose node is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumaPattern {
    /// This node.
    Node(u32),
    /// The node is not known (sysfs says -1).
    None,
}

impl NumaPattern {
    /// Whether `node` is the wanted one; unknown never equals a number.
    #[must_use]
    pub fn matches(self, node: Option<u32>) -> bool {
        match self {
            Self::Node(wanted) => node == Some(wanted),
            Self::None => node.is_none(),
        }
    }
}

impl fmt::Display for NumaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "{node}"),
            Self::None => f.write_str("none"),
        }
    }
}
