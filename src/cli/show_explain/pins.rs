//! Pins as lines for the config.

use super::head;
use crate::{cli::show::line, kernel::names::Names, policy::pin::Pins};

/// The terms with what each needs to hold, ready to be pasted.
pub(in crate::cli) fn pins(pins: &Pins, names: &Names) -> String {
    let mut text = String::new();
    let name = &pins.mapping;
    line(
        &mut text,
        &format!("# In [mapping.{name}], instead of its match:"),
    );
    if let Some(note) = &pins.note {
        line(&mut text, &format!("# {note}"));
    }
    line(&mut text, "match = [");
    for pin in &pins.pins {
        line(
            &mut text,
            &format!("  # {}", head(pin.address, pin.id, names)),
        );
        line(
            &mut text,
            &format!("  # {}", pin.holds.replace(char::is_control, "?")),
        );
        if !pin.also.is_empty() {
            let also: Vec<_> = pin.also.iter().map(ToString::to_string).collect();
            line(&mut text, &format!("  # also matches {}", also.join(" ")));
        }
        line(&mut text, &format!("  {},", pin.selector));
    }
    line(&mut text, "]");
    text
}
