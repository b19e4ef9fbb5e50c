//! Explanations and pins as people read them.
//!
//! Pure. `function`, `mapping` and `sriov` have the words for each; here is what
//! all say in the same way.

mod function;
mod mapping;
mod pins;
mod sriov;

use super::{render::Screen, show::line};
use crate::{
    kernel::names::Names,
    pci::{address::Address, id::PciId},
    policy::{
        explain::{Against, Brief, Deed, Explanation, Live, Near, TermTrial, Trial},
        pin::Pins,
        variant::Pick,
    },
};

pub(super) use self::pins::pins;

/// More than this many functions of one kind are counted and not listed.
const MOST: usize = 12;

/// The explanation as a script reads it: no colours, and no names of devices,
/// which hang on this machine's database.
#[must_use]
pub fn plain(told: &Explanation) -> String {
    explanation(told, &Names::new(), Screen::default())
}

/// The same of pins.
#[must_use]
pub fn plain_pins(pins: &Pins) -> String {
    self::pins::pins(pins, &Names::new())
}

pub(super) fn explanation(told: &Explanation, names: &Names, screen: Screen) -> String {
    match told {
        Explanation::Function(told) => function::function(told, names, screen),
        Explanation::Mapping(told) => mapping::mapping(told, names, screen),
        Explanation::Sriov(told) => sriov::sriov(told, names, screen),
    }
}

/// The term that fails, then those that hold.
fn nearly(trial: &Trial) -> String {
    let holding = trial.terms.iter().filter(|term| term.holds == Some(true));
    let holding: Vec<_> = holding.map(|term| term.term.as_str()).collect();
    let verb = if holding.len() == 1 { "holds" } else { "hold" };
    format!("{} ({} {verb})", fails(trial.failing()), holding.join(" "))
}

fn fails(term: Option<&TermTrial>) -> String {
    term.map_or_else(String::new, |term| {
        format!("{} fails: {}", term.term, term.own)
    })
}

fn spoken(against: &Against) -> String {
    let guard = against.guard.as_ref();
    let guard = guard.map_or_else(String::new, |guard| format!("[{guard}] "));
    let lifted = if against.lifted { "; allowed here" } else { "" };
    format!("{guard}it {}{lifted}", against.reason)
}

fn done(deed: &Deed) -> String {
    let driver = &deed.driver;
    match &deed.detach {
        Some(native) => format!("it would be unbound from {native}, then bound to {driver}"),
        None => format!("it would be bound to {driver}"),
    }
}

fn picked(pick: &Pick) -> String {
    format!("driver {}: {}", pick.driver, pick.why)
}

/// A title, unless it stands there already, and what is below it, if there is
/// anything.
fn section<T>(
    text: &mut String,
    title: &str,
    items: impl ExactSizeIterator<Item = T>,
    lines: impl Fn(T) -> Vec<String>,
) {
    let more = items.len().saturating_sub(MOST);
    if items.len() > 0 && !title.is_empty() {
        line(text, title);
    }
    for one in items.take(MOST).flat_map(lines) {
        line(text, &format!("  {one}"));
    }
    if more > 0 {
        line(text, &format!("  and {more} more, which --json has"));
    }
}

/// What is not wanted, or not yet known to be.
fn aside(text: &mut String, near: &[Near], unknown: &[Address], names: &Names) {
    section(text, "nearly matched", near.iter(), |one| {
        let head = described(&one.function, names);
        vec![head, format!("  {}", nearly(&one.trial))]
    });
    section(
        text,
        "not known before their serial numbers are read",
        unknown.iter(),
        |one| vec![one.to_string()],
    );
}

fn live(text: &mut String, live: Option<&Live>, screen: Screen) {
    let Some(live) = live else { return };
    let state = live.state.as_deref().map_or_else(
        || "no mapping names it".to_owned(),
        |state| screen.state(state, state),
    );
    let colon = if live.reason.is_empty() { "" } else { ": " };
    line(
        text,
        &format!("  the daemon says: {state}{colon}{}", live.reason),
    );
}

fn head(address: Address, id: PciId, names: &Names) -> String {
    let name = names.get(&id).map(String::as_str).unwrap_or_default();
    format!("{address} [{id}] {name}").trim_end().to_owned()
}

fn described(one: &Brief, names: &Names) -> String {
    let driver = one.driver.as_deref().unwrap_or("no driver");
    format!("{}, {driver}", head(one.address, one.id, names))
}
