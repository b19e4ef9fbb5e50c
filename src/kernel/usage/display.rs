//! Displays of a function.

use super::{Look, Subject};
use crate::pci::usage::Fact;

pub(super) fn facts(_look: Look<'_>, subject: &Subject<'_>) -> Vec<Fact> {
    subject
        .of("graphics")
        .map(|device| Fact::ConsoleFramebuffer {
            framebuffer: device.name.clone(),
        })
        .collect()
}
