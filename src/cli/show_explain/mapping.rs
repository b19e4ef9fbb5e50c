//! What people read of a mapping.

use super::{aside, described, done, live, picked, section, spoken};
use crate::{
    cli::{render::Screen, show::line},
    kernel::names::Names,
    policy::explain::OfMapping,
};

pub(super) fn mapping(told: &OfMapping, names: &Names, screen: Screen) -> String {
    let mut text = String::new();
    let word = told.verdict.as_str();
    let colon = if told.reason.is_empty() { "" } else { ": " };
    let state = screen.state(word, word);
    line(
        &mut text,
        &format!("{}: {state}{colon}{}", told.name, told.reason),
    );
    if !told.description.is_empty() {
        line(&mut text, &format!("  {}", told.description));
    }
    live(&mut text, told.live.as_ref(), screen);
    for (key, selectors) in [("match", &told.matches), ("exclude", &told.exclude)] {
        for selector in selectors {
            line(&mut text, &format!("  {key} {selector}"));
        }
    }
    for (key, value) in &told.settings {
        line(&mut text, &format!("  {key} {value}"));
    }
    let count = &told.count;
    let plural = if count.matched == 1 { "" } else { "s" };
    let fits = if count.fits { "as" } else { "but" };
    let (matched, of, expected) = (count.matched, &count.of, &count.expected);
    let counted = format!("  {matched} {of}{plural} matched, {fits} {expected} expected");
    line(&mut text, &counted);
    section(&mut text, "candidates", told.candidates.iter(), |one| {
        let deed = told
            .actions
            .iter()
            .find(|deed| deed.address == one.function.address);
        let mut lines = vec![described(&one.function, names)];
        let mut became = format!("  by {}: {}", one.by, one.standing);
        // Said at the top already, of all of them.
        if !one.why.is_empty() && one.why != told.reason {
            became += &format!(", {}", one.why);
        }
        match deed {
            Some(deed) => became += &format!(", {}", done(deed)),
            None if one.bound => became += ", it is bound",
            None => {}
        }
        lines.push(became);
        let placed = one.placed.iter();
        lines.extend(placed.map(|placed| format!("  preferred: {}", placed.why)));
        lines.extend(one.picked.iter().map(|pick| format!("  {}", picked(pick))));
        lines.extend(one.against.iter().map(|one| format!("  {}", spoken(one))));
        lines
    });
    section(&mut text, "left out", told.excluded.iter(), |one| {
        vec![format!(
            "{}; by exclude {}",
            described(&one.function, names),
            one.by
        )]
    });
    aside(&mut text, &told.near, &told.unknown, names);
    text
}
