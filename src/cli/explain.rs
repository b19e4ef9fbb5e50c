//! The verbs `explain` and `pin`: who is asked, and what is looked at.

use std::{collections::BTreeSet, io::Stdout, io::Write as _, path::Path};

use super::{
    client::Client,
    commands::{print_json, tell, tell_of},
    exit::{Exit, Stop},
    local::{self, Host},
    render::Screen,
    show_explain,
};
use crate::{
    kernel::names,
    policy::{
        explain::{ExplainError, Explanation, Target, explain as explain_by},
        pin::{PinError, pin as pin_by, to_inspect},
    },
};

/// Who is asked for an explanation.
pub(super) struct Ask<'a> {
    pub(super) bus: Option<&'a str>,
    pub(super) config: Option<&'a Path>,
    pub(super) root: &'a Path,
    pub(super) recorded: Option<&'a Path>,
    pub(super) offline: bool,
}

impl Ask<'_> {
    /// Whether the daemon knows no better: it has another config, or another
    /// host.
    pub(super) fn is_of_ours(&self) -> bool {
        let elsewhere = self.root != Path::new("/sys");
        self.offline || elsewhere || self.recorded.is_some() || self.config.is_some()
    }
}

pub(super) async fn explain(
    out: &mut Stdout,
    ask: &Ask<'_>,
    target: &Target,
    json: bool,
) -> Result<(), Stop> {
    let told = if ask.is_of_ours() {
        look(ask, target).await?
    } else {
        match Client::explain(ask.bus, target).await? {
            Ok(told) => told,
            Err(why) => {
                tell(&format!(
                    "{why}; this is by the config on disk and a look at this host"
                ));
                look(ask, target).await?
            }
        }
    };
    if json {
        return print_json(out, &told);
    }
    let names = names::lookup(&told.ids());
    let text = show_explain::explanation(&told, &names, Screen::of(out));
    Ok(out.write_all(text.as_bytes())?)
}

async fn look(ask: &Ask<'_>, target: &Target) -> Result<Explanation, Stop> {
    let policy = local::policy(ask.config)?;
    let mut host = Host::of(ask.root, ask.recorded)?;
    let mut plan = host.plan(&policy).await?;
    // Of what no mapping wants, a plan needs not know what uses it.
    if let Target::Function(address) = target
        && let Some(function) = host.inventory.get(*address)
        && function.inspection.is_none()
    {
        host.inspect(BTreeSet::from([*address])).await?;
        plan = host.plan(&policy).await?;
    }
    tell_of(&host);
    explain_by(&host.inventory, &policy, &plan, target).map_err(|error| match error {
        ExplainError::UnknownMapping { .. } => Stop::new(Exit::Unknown, error.to_string()),
        ExplainError::UnknownFunction(_) => Stop::failure(error.to_string()),
    })
}

pub(super) async fn pin(
    out: &mut Stdout,
    config: Option<&Path>,
    root: &Path,
    recorded: Option<&Path>,
    name: &str,
    json: bool,
) -> Result<(), Stop> {
    let policy = local::policy(config)?;
    let mut host = Host::of(root, recorded)?;
    let plan = host.plan(&policy).await?;
    host.inspect(to_inspect(&host.inventory, &plan, name))
        .await?;
    tell_of(&host);
    let pins = pin_by(&host.inventory, &policy, &plan, name).map_err(|error| match error {
        PinError::UnknownMapping { .. } => Stop::new(Exit::Unknown, error.to_string()),
        PinError::Nothing { .. } => Stop::failure(error.to_string()),
    })?;
    if json {
        return print_json(out, &pins);
    }
    let ids = pins.pins.iter().map(|one| one.id).collect();
    let text = show_explain::pins(&pins, &names::lookup(&ids));
    Ok(out.write_all(text.as_bytes())?)
}
