//! x
use crate::scenario::Scenario;
/// x
pub(crate) const FIRST: &[Scenario] = &[];
/// x
pub(crate) const LAST: &[Scenario] = &[];
/// x
pub(crate) const BOOKWORM: &[Scenario] = &[];