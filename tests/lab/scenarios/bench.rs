//! x
use crate::scenario::Scenario;
/// x
pub(crate) const SCENARIOS: &[Scenario] = &[];
