//! `check`: whether the config, or a file that is to be one, can be used.

use std::{
    io::{Stdout, Write as _},
    path::Path,
};

use serde_json::json;

use super::{
    commands::{print_json, tell},
    exit::{Exit, Stop},
    local::{self, Host},
};
use crate::{
    kernel::{accounts, host::ThisHost},
    policy::{
        config::parse,
        doctor::{Finding, Level, owners, sriov},
        model::Policy,
        sriov::{Standing, plan},
    },
};

/// Reads the files and says what is wrong with them, or nothing.
pub(super) fn run(
    out: &mut Stdout,
    file: Option<&Path>,
    root: &Path,
    json: bool,
) -> Result<(), Stop> {
    let sources = local::sources(file)?;
    let result = parse(&sources);
    // Of the config that images are made with.
    if file.is_none() && result.is_ok() {
        local::older_image().iter().for_each(|text| tell(text));
    }
    if let Ok(config) = &result {
        // No mistake: a user may come later.
        let found = owners(&config.policy, &|one| accounts::missing(&ThisHost, one));
        let missing = found.iter().filter(|finding| finding.level != Level::Ok);
        missing.for_each(|finding| tell(&format!("mapping {}; {}", finding.text, finding.advice)));
        for finding in impossible(&config.policy, root) {
            tell(&format!("sriov {}; {}", finding.text, finding.advice));
        }
    }
    if json {
        let none = Vec::new();
        let (valid, errors, mappings, sriov) = match &result {
            Ok(config) => {
                let mappings: Vec<_> = config.policy.mappings.keys().collect();
                let sriov = config.policy.sriov.keys().collect();
                (true, none.as_slice(), mappings, sriov)
            }
            Err(errors) => (false, errors.diagnostics(), Vec::new(), Vec::new()),
        };
        let files: Vec<_> = sources.iter().map(|source| &source.name).collect();
        print_json(
            out,
            &json!({
                "valid": valid, "files": files, "mappings": mappings, "sriov": sriov,
                "errors": errors,
            }),
        )?;
        return result
            .map(|_| ())
            .map_err(|_| Stop::new(Exit::Usage, String::new()));
    }
    let config = result.map_err(|errors| local::invalid(&errors))?;
    let files = match sources.as_slice() {
        [] => "no config file; the empty config".to_owned(),
        sources => {
            let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
            names.join(", ")
        }
    };
    let mut counts = match config.policy.mappings.len() {
        1 => "1 mapping".to_owned(),
        count => format!("{count} mappings"),
    };
    match config.policy.sriov.len() {
        0 => {}
        1 => counts += ", 1 sriov entry",
        count => counts += &format!(", {count} sriov entries"),
    }
    Ok(writeln!(out, "{files}: ok, {counts}")?)
}

/// What the PFs of this host cannot do, and which there are none of. No mistake
/// either: the config may be for another host, or a card come later.
fn impossible(policy: &Policy, root: &Path) -> Vec<Finding> {
    if policy.sriov.is_empty() {
        return Vec::new();
    }
    let Ok(host) = Host::scan(root) else {
        return Vec::new();
    };
    let mut plan = plan(&host.inventory, policy);
    plan.pfs
        .retain(|_, pf| matches!(pf.standing, Standing::Refused(_)));
    sriov(&plan)
}
