//! The verb `tree`: who is asked what functions are for, and what is looked at.

use std::{collections::BTreeSet, env, io::Stdout, io::Write as _, time::Duration};

use serde_json::Value;
use tokio::time::timeout;

use super::{
    args::Tree as Wanted,
    client::Client,
    commands::{print_json, tell, tell_of},
    exit::{Exit, Stop},
    explain::Ask,
    local::{self, Host},
    render::Screen,
    show_tree::{self, Glyphs, Scene},
};
use crate::{
    kernel::{locality::cpus, names, sysfs::HostSysfs},
    pci::address::Address,
    policy::{
        explain::{ExplainError, Target},
        guard::is_bridge,
        tree::{Flat, Part, Tree, Views, add_guards, of_plan},
    },
};

/// A question that can be answered without the daemon.
const PATIENCE: Duration = Duration::from_secs(2);

/// What functions are for, and the names of all mappings.
struct Seen {
    views: Views,
    mappings: Vec<String>,
}

pub(super) async fn tree(out: &mut Stdout, ask: &Ask<'_>, wanted: &Wanted) -> Result<(), Stop> {
    let mut host = Host::of(ask.root, ask.recorded)?;
    let mut seen = match told(ask).await {
        Some(seen) => seen,
        None => planned(ask, &mut host).await?,
    };
    // Of what no mapping names, too, it is to be seen what the host does with it;
    // without root that cannot be told of anything.
    if rustix::process::geteuid().is_root() {
        let held = host.inventory.iter().filter(|one| {
            one.native_driver().is_some() && one.inspection.is_none() && !is_bridge(one)
        });
        let unnamed = held.map(|one| one.address);
        let unnamed = unnamed.filter(|address| !seen.views.contains_key(address));
        host.inspect(unnamed.collect()).await?;
    }
    tell_of(&host);
    add_guards(&mut seen.views, &host.inventory);
    let tree = Tree::of(&host.inventory);
    let tree = match part(wanted.target.as_ref(), &seen, &host)? {
        Some(part) => tree.only(&part),
        None => tree,
    };
    if wanted.json.json {
        return print_json(out, &Flat::of(&tree, &host.inventory, &seen.views));
    }
    if let (Some(Target::Mapping(name)), true) = (&wanted.target, tree.nodes.is_empty()) {
        tell(&format!("mapping '{name}' has no function here"));
    }
    let sysfs = HostSysfs::new(ask.root);
    let nodes = tree.nodes.iter().filter(|_| ask.recorded.is_none());
    let numbers = nodes.filter_map(|node| node.number);
    let functions = tree.functions().into_iter();
    let scene = Scene {
        tree: &tree,
        views: &seen.views,
        names: &names::lookup(&functions.map(|one| one.id).collect()),
        cpus: &numbers
            .filter_map(|node| Some((node, cpus(&sysfs, node)?)))
            .collect(),
        all: wanted.all,
    };
    let text = if wanted.dot {
        show_tree::dot(&scene)
    } else {
        show_tree::text(&scene, Screen::of(out), glyphs())
    };
    Ok(out.write_all(text.as_bytes())?)
}

/// What is drawn with: locale(7) says which variable counts.
fn glyphs() -> Glyphs {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let mut set = variables
        .filter_map(env::var_os)
        .filter(|one| !one.is_empty());
    let locale = set.next().unwrap_or_default();
    let locale = locale.to_string_lossy().to_lowercase();
    if locale.contains("utf-8") || locale.contains("utf8") {
        Glyphs::Lines
    } else {
        Glyphs::Ascii
    }
}

/// The part that is wanted, all for `None`; with the errors of `explain`.
fn part(target: Option<&Target>, seen: &Seen, host: &Host) -> Result<Option<Part>, Stop> {
    match target {
        None => Ok(None),
        Some(Target::Function(address)) if host.inventory.get(*address).is_none() => {
            let error = ExplainError::UnknownFunction(*address);
            Err(Stop::failure(error.to_string()))
        }
        Some(Target::Function(address)) => Ok(Some(Part::Around(*address))),
        Some(Target::Mapping(name)) if !seen.mappings.contains(name) => {
            let error = ExplainError::UnknownMapping {
                name: name.clone(),
                known: seen.mappings.clone(),
            };
            Err(Stop::new(Exit::Unknown, error.to_string()))
        }
        Some(Target::Mapping(name)) => {
            let named = seen
                .views
                .iter()
                .filter(|(_, view)| view.mappings.contains(name));
            let named = named.map(|(address, _)| *address);
            Ok(Some(Part::Functions(named.collect())))
        }
    }
}

/// What the config on disk makes of the host.
async fn planned(ask: &Ask<'_>, host: &mut Host) -> Result<Seen, Stop> {
    let policy = local::policy(ask.config)?;
    let plan = host.plan(&policy).await?;
    Ok(Seen {
        views: of_plan(&plan),
        mappings: policy.mappings.keys().cloned().collect(),
    })
}

/// What the daemon says, `None` if it is not to be asked or says nothing.
async fn told(ask: &Ask<'_>) -> Option<Seen> {
    if ask.is_of_ours() {
        return None;
    }
    let why = match timeout(PATIENCE, live(ask.bus)).await {
        Ok(Ok(seen)) => return Some(seen),
        Ok(Err(stop)) => stop.text,
        Err(_) => "vfio-bindd does not answer".to_owned(),
    };
    tell(&format!(
        "{why}; this is by the config on disk and a look at this host"
    ));
    None
}

async fn live(bus: Option<&str>) -> Result<Seen, Stop> {
    let client = Client::connect(bus).await?;
    let status = client.status().await?;
    let mut views = Views::new();
    for (address, told) in client.functions().await? {
        let view = views.entry(address).or_default();
        let names = told.get("mappings").and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        view.mappings = names.map(str::to_owned).collect();
        view.state = told.get("state").and_then(Value::as_str).map(str::to_owned);
    }
    for mapping in status.mappings.values() {
        for (address, owner) in &mapping.claims {
            if let Ok(address) = address.parse::<Address>() {
                views.entry(address).or_default().claimed_by = Some(owner.clone());
            }
        }
    }
    let plan: String = client.manager("Plan", &()).await?;
    let plan: Value = serde_json::from_str(&plan)?;
    let planned = plan.get("mappings").and_then(Value::as_object);
    for mapping in planned.into_iter().flat_map(|mappings| mappings.values()) {
        for (key, lifted) in [("refusals", false), ("lifted", true)] {
            let refusals = mapping.get(key).and_then(Value::as_array);
            for refusal in refusals.into_iter().flatten() {
                let address = refusal.get("address").and_then(Value::as_str);
                if let Some(Ok(address)) = address.map(str::parse::<Address>) {
                    let guard = refusal.get("guard").and_then(Value::as_str);
                    views.entry(address).or_default().refused(guard, lifted);
                }
            }
        }
    }
    let mappings: BTreeSet<_> = status.mappings.into_keys().collect();
    Ok(Seen {
        views,
        mappings: mappings.into_iter().collect(),
    })
}
