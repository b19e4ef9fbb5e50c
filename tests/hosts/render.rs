//! A plan as compact text, for people to check and for golden files.
//!
//! A line a function: `bind` (is bound now), `has` (is bound already), `fits`
//! (nothing against it, but the mapping is not ready), `no` (refused), `lifted`
//! (a guard that `allow` lifted).

use std::fmt::Write as _;

use vfio_bindd::policy::{
    guard::Refusal,
    plan::{Action, MappingPlan, Plan, Verdict},
};

pub(crate) fn render(plan: &Plan) -> String {
    let mut text = String::new();
    for (name, mapping) in &plan.mappings {
        render_mapping(&mut text, name, mapping);
    }
    section(&mut text, "actions", plan.actions.iter().map(action));
    section(&mut text, "inspect", plan.inspect.iter());
    section(&mut text, "left over", plan.left_over.iter());
    text
}

fn render_mapping(text: &mut String, name: &str, plan: &MappingPlan) {
    let verdict = plan.verdict.as_str();
    let colon = if plan.reason.is_empty() { "" } else { ": " };
    let mut lines = Vec::new();
    for one in &plan.functions {
        let becomes = match (plan.verdict, one.bound) {
            (_, true) => "has",
            (Verdict::Ready, false) => "bind",
            (_, false) => "fits",
        };
        lines.push((
            one.address,
            format!("{becomes:<6} {} {}", one.address, one.why),
        ));
    }
    for (becomes, refusals) in [("no", &plan.refusals), ("lifted", &plan.lifted)] {
        for Refusal {
            address,
            guard,
            reason,
        } in refusals
        {
            let guard = guard.map_or_else(String::new, |guard| format!("[{guard}] "));
            lines.push((*address, format!("{becomes:<6} {address} {guard}{reason}")));
        }
    }
    lines.sort_by_key(|(address, _)| *address);
    let head = format!("{name}: {verdict}{colon}{}", plan.reason);
    section(text, &head, lines.into_iter().map(|(_, line)| line));
    if plan.functions.is_empty() && plan.refusals.is_empty() {
        writeln!(text, "{head}\n").unwrap();
    }
}

fn action(action: &Action) -> String {
    let mut line = format!(
        "{} {} to {}, group {}",
        action.address, action.id, action.driver, action.group
    );
    if let Some(driver) = &action.detach {
        write!(line, ", from {driver}").unwrap();
    }
    if !action.allow.is_empty() {
        let allow: Vec<_> = action.allow.iter().copied().collect();
        write!(line, ", allow {}", allow.join(" ")).unwrap();
    }
    write!(line, ", for {}", action.mappings.join(" ")).unwrap();
    line
}

/// A head and its lines, if there are any.
fn section<T: std::fmt::Display>(text: &mut String, head: &str, lines: impl Iterator<Item = T>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    writeln!(text, "{head}").unwrap();
    for line in lines {
        writeln!(text, "  {line}").unwrap();
    }
    writeln!(text).unwrap();
}
