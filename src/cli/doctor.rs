//! The doctor's report: a host's facts in, a line a check out.
//!
//! What the findings are is `policy::doctor`'s.

use std::{
    fmt::Write as _,
    io::{Stdout, Write as _},
    path::Path,
};

use serde_json::json;

use super::{
    commands::{print_json, tell_of},
    exit::{Exit, Stop},
    local::{self, Host},
    render::{Screen, wrap},
};
use crate::{
    kernel::{accounts, host::ThisHost},
    policy::{
        doctor::{Case, Finding, Level, examine, owners},
        model::Policy,
    },
};

/// Examines this host, or the recorded one, and prints what was found.
pub(super) async fn run(
    out: &mut Stdout,
    config: Option<&Path>,
    root: &Path,
    recorded: Option<&Path>,
    json: bool,
) -> Result<(), Stop> {
    // A mistake in the config is a finding: the rest of the host is still
    // worth a look.
    let (policy, mistake) = match local::policy(config) {
        Ok(policy) => (policy, None),
        Err(stop) => (Policy::default(), Some(stop.text)),
    };
    let mut host = Host::of(root, recorded)?;
    let plan = host.plan(&policy).await?;
    host.inspect_bound().await?;
    let facts = host.survey().await?;
    tell_of(&host);
    let mistake = mistake.as_deref().map(first_line);
    let mut findings = examine(&Case {
        host: facts.as_ref(),
        inventory: &host.inventory,
        plan: &plan,
        mistake,
    });
    if recorded.is_none() {
        findings.extend(owners(&policy, &|one| accounts::missing(&ThisHost, one)));
    }
    if json {
        let [ok, warn, fail] = count(&findings);
        let report = json!({"findings": findings, "ok": ok, "warn": warn, "fail": fail});
        print_json(out, &report)?;
    } else {
        out.write_all(render(&findings, Screen::of(out)).as_bytes())?;
    }
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        // All is said already.
        out.flush()?;
        return Err(Stop::new(Exit::Failure, String::new()));
    }
    Ok(())
}

/// The place and the words of a mistake, without the lines that show it.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn count(findings: &[Finding]) -> [usize; 3] {
    [Level::Ok, Level::Warn, Level::Fail].map(|level| {
        let of_level = findings.iter().filter(|finding| finding.level == level);
        of_level.count()
    })
}

/// A line a finding: level, check, what was found; below it what to change.
fn render(findings: &[Finding], screen: Screen) -> String {
    let names = findings.iter().map(|finding| finding.name.len());
    let width = names.max().unwrap_or(0);
    let indent = " ".repeat("fail  ".len() + width + "  ".len());
    let mut text = String::new();
    for finding in findings {
        let level = finding.level.name();
        let level = screen.state(level, &format!("{level:4}"));
        let name = finding.name;
        let found = wrap(&finding.text, &indent, screen);
        // Writing to a string cannot fail.
        writeln!(text, "{level}  {name:width$}  {found}").unwrap_or_default();
        if !finding.advice.is_empty() {
            let deeper = format!("{indent}   ");
            let advice = wrap(&finding.advice, &deeper, screen);
            writeln!(text, "{indent}-> {advice}").unwrap_or_default();
        }
    }
    let [ok, warn, fail] = count(findings);
    writeln!(text, "{ok} ok, {warn} warn, {fail} fail").unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_a_check_and_says_what_to_change() {
        let finding = |level, name, text: &str, advice: &str| Finding {
            level,
            name,
            text: text.to_owned(),
            advice: advice.to_owned(),
        };
        let findings = [
            finding(Level::Ok, "config", "valid, 1 mapping", ""),
            finding(Level::Fail, "iommu", "off", "turn it on in the firmware"),
        ];
        assert_eq!(
            render(&findings, Screen::default()),
            "ok    config  valid, 1 mapping\n\
             fail  iommu   off\n              -> turn it on in the firmware\n\
             1 ok, 0 warn, 1 fail\n"
        );
        let narrow = Screen {
            colour: true,
            width: Some(29),
        };
        assert_eq!(
            render(&findings, narrow),
            "\x1b[32mok  \x1b[0m  config  valid, 1\n              mapping\n\
             \x1b[31mfail\x1b[0m  iommu   off\n              -> turn it on\n                 in the\n                 firmware\n\
             1 ok, 0 warn, 1 fail\n"
        );
    }
}
