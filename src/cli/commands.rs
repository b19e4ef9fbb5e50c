//! The verbs: each asks the daemon or this host, and prints.

use std::{
    io::{self, Stdout, Write as _},
    os::fd::AsFd as _,
    path::Path,
};

use clap::CommandFactory as _;

use super::{
    args::{Cli, Format, Hook, Verb},
    check, claim,
    client::Client,
    doctor, early,
    exit::{Exit, Stop},
    explain::{self, Ask},
    hotplug, libvirt,
    local::{self, Host},
    proxmox,
    render::{Screen, Table},
    resolve, show, terraform, tree,
};
use crate::{
    kernel::{
        helper::serve::serve,
        names,
        record::{self, Record},
    },
    pci::inventory::Inventory,
};

/// Does what `cli` says; the exit code is the answer's gist.
#[must_use]
pub fn run(cli: Cli) -> Exit {
    let mut out = io::stdout();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime.map_err(Stop::from).and_then(|runtime| {
        let result = runtime.block_on(verb(cli, &mut out));
        // A helper that hangs in the kernel is left behind.
        runtime.shutdown_background();
        result
    });
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => Exit::Ok,
        Err(stop) => {
            if !stop.text.is_empty() {
                tell(&stop.text);
            }
            stop.exit
        }
    }
}

/// Words for people go to stderr, whoever reads stdout.
pub(super) fn tell(text: &str) {
    let text = text.trim_end();
    // Diagnostics of a file begin with its name, which editors jump to.
    let prefix = if text.contains('\n') {
        ""
    } else {
        "vfio-bindctl: "
    };
    // Without a stderr there is nobody to tell.
    writeln!(io::stderr(), "{prefix}{text}").unwrap_or_default();
}

async fn verb(cli: Cli, out: &mut Stdout) -> Result<(), Stop> {
    let bus = cli.bus_address.as_deref();
    let config = cli.config.as_deref();
    let root = cli.sysfs_root.as_path();
    match cli.verb {
        Verb::Status(json) => {
            let status = Client::connect(bus).await?.status().await?;
            if json.json {
                return print_json(out, &status);
            }
            let text = show::status(&status, Screen::of(out));
            Ok(out.write_all(text.as_bytes())?)
        }
        Verb::Resolve {
            name,
            wait,
            format,
            json,
        } => {
            let format = if json.json { Format::Json } else { format };
            resolve::resolve(out, bus, root, &name, wait, format).await
        }
        Verb::Functions(json) => functions(out, root, json.json),
        Verb::Tree(wanted) => {
            let ask = Ask {
                bus,
                config,
                root,
                recorded: wanted.host.as_deref(),
                offline: wanted.offline,
            };
            tree::tree(out, &ask, &wanted).await
        }
        Verb::Plan { host, json } => show_plan(out, config, root, host.as_deref(), json.json).await,
        Verb::Explain {
            target,
            host,
            offline,
            json,
        } => {
            let ask = Ask {
                bus,
                config,
                root,
                recorded: host.as_deref(),
                offline,
            };
            explain::explain(out, &ask, &target, json.json).await
        }
        Verb::Pin { name, host, json } => {
            explain::pin(out, config, root, host.as_deref(), &name, json.json).await
        }
        Verb::Check { file, json } => check::run(out, file.as_deref().or(config), root, json.json),
        Verb::Doctor { host, json } => {
            doctor::run(out, config, root, host.as_deref(), json.json).await
        }
        Verb::Watch(json) => watch(out, bus, json.json).await,
        Verb::Dump { redact } => dump(out, root, redact).await,
        Verb::Reload => {
            Client::connect(bus).await?.order("Reload").await?;
            local::older_image().iter().for_each(|text| tell(text));
            Ok(())
        }
        Verb::Rescan { take } => {
            let method = if take { "RescanTake" } else { "Rescan" };
            Client::connect(bus).await?.order(method).await
        }
        Verb::Claim(wanted) => claim::claim(out, bus, root, wanted).await,
        Verb::Release { owner } => claim::release(bus, &owner).await,
        Verb::Restore(wanted) => Client::restore(bus, wanted.target.as_deref()).await,
        Verb::Early { dry_run, worker } => {
            early::run(config, root, dry_run, worker);
            Ok(())
        }
        Verb::Hook(Hook::Proxmox(call)) => proxmox::hook(&call, root, config),
        Verb::Hook(Hook::Libvirt(call)) => libvirt::hook(call),
        Verb::Terraform => terraform::run(out, bus, root).await,
        Verb::Proxmox(verb) => proxmox::run(out, verb, root, config).await,
        Verb::Libvirt(verb) => libvirt::run(out, verb, bus, config, root).await,
        Verb::Hotplug { address } => {
            hotplug::run(address);
            Ok(())
        }
        Verb::Completions { shell } => {
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vfio-bindctl", &mut script);
            Ok(out.write_all(&script)?)
        }
        Verb::Helper => Ok(serve(io::stdin().as_fd().try_clone_to_owned()?, root)?),
    }
}

pub(super) fn print_json(out: &mut Stdout, value: &impl serde::Serialize) -> Result<(), Stop> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(writeln!(out)?)
}

fn functions(out: &mut Stdout, root: &Path, json: bool) -> Result<(), Stop> {
    let inventory = Host::scan(root)?.inventory;
    if json {
        let functions: Vec<_> = inventory.iter().collect();
        return print_json(out, &functions);
    }
    let names = names_of(&inventory);
    let mut table = Table::new(["ADDRESS", "ID", "CLASS", "NODE", "GROUP", "DRIVER", "NAME"]);
    for function in inventory.iter() {
        let number = |number: Option<u32>| number.map_or("-".to_owned(), |one| one.to_string());
        table.row([
            function.address.to_string(),
            function.id.to_string(),
            function.class.to_string(),
            number(function.numa_node),
            number(function.iommu_group),
            function.driver.clone().unwrap_or_else(|| "-".to_owned()),
            names.get(&function.id).cloned().unwrap_or_default(),
        ]);
    }
    let text = table.render(Screen::of(out));
    Ok(out.write_all(text.as_bytes())?)
}

fn names_of(inventory: &Inventory) -> names::Names {
    let ids = inventory.iter().map(|function| function.id).collect();
    names::lookup(&ids)
}

async fn show_plan(
    out: &mut Stdout,
    config: Option<&Path>,
    root: &Path,
    recorded: Option<&Path>,
    json: bool,
) -> Result<(), Stop> {
    let policy = local::policy(config)?;
    let mut host = Host::of(root, recorded)?;
    let plan = host.plan(&policy).await?;
    tell_of(&host);
    if json {
        return print_json(out, &plan);
    }
    let names = names_of(&host.inventory);
    let text = show::plan(&plan, &host.inventory, &names, Screen::of(out));
    Ok(out.write_all(text.as_bytes())?)
}

/// What the reader of an inspected host must know about it.
pub(super) fn tell_of(host: &Host) {
    for (address, text) in &host.silent {
        tell(&format!("{address}: {text}"));
    }
    if host.inspected && !rustix::process::geteuid().is_root() {
        tell(
            "not root: serial numbers cannot be read, and a function counts as in use where \
             that cannot be ruled out",
        );
    }
}

async fn watch(out: &mut Stdout, bus: Option<&str>, json: bool) -> Result<(), Stop> {
    let client = Client::connect(bus).await?;
    let watched = client.watch(|change| {
        if json {
            serde_json::to_writer(&mut *out, &change)?;
            writeln!(out)?;
        } else {
            let addresses = change.addresses.join(" ");
            let line = format!("{} {} {addresses}", change.name, change.state);
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(out.flush()?)
    });
    watched.await
}

async fn dump(out: &mut Stdout, root: &Path, redact: bool) -> Result<(), Stop> {
    let mut host = Host::scan(root)?;
    host.inspect_all().await?;
    tell_of(&host);
    if redact {
        record::redact(&mut host.inventory);
    }
    let kernel = rustix::system::uname();
    let text = record::write(&Record {
        kernel: kernel.release().to_string_lossy().into_owned(),
        facts: host.survey().await?,
        inventory: host.inventory,
    })?;
    Ok(out.write_all(text.as_bytes())?)
}
