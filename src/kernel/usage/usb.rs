//! USB devices and input devices of a function.

use super::{Look, Subject};
use crate::pci::usage::Fact;

pub(super) fn facts(_look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    subject
        .of("input")
        .map(|device| Fact::Input {
            name: device.name.clone(),
        })
        .collect()
}
