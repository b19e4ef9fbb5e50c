//! This host as seen without the daemon: its functions, its config, its plan.
//!
//! What can hang is asked of a helper process, as the daemon does it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::exit::{Exit, Stop};
use crate::{
    kernel::{
        config_files,
        helper::{
            pool::Pool,
            protocol::{Reply, Request},
        },
        host::ThisHost,
        image,
        inspect::Wanted,
        record,
        scan::scan_all,
        survey::{self, Survey},
        sysfs::HostSysfs,
    },
    pci::{
        address::Address,
        function::{Inspection, is_vfio_driver},
        inventory::Inventory,
    },
    policy::{
        config::{ConfigErrors, Source, parse},
        doctor::{
            facts::{HostFacts, Seen},
            image::older_config,
        },
        model::Policy,
        plan::{Plan, plan},
        resolve::Held,
    },
};

/// How long one function's inspection may take; its kernel may never answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many helpers there are at most.
const HELPERS: usize = 8;

/// The config's files, as text.
pub(super) fn sources(file: Option<&Path>) -> Result<Vec<Source>, Stop> {
    config_files::read(file).map_err(|error| Stop::new(Exit::Usage, error.to_string()))
}

/// The config's policy.
pub(super) fn policy(file: Option<&Path>) -> Result<Policy, Stop> {
    let config = parse(&sources(file)?);
    Ok(config.map_err(|errors| invalid(&errors))?.policy)
}

/// What is told of a config that is not valid.
pub(super) fn invalid(errors: &ConfigErrors) -> Stop {
    Stop::new(Exit::Usage, errors.to_string())
}

/// What is told where the initramfs of this host goes by another config than the
/// one of now. Where that cannot be seen, nothing is: doctor says why.
pub(super) fn older_image() -> Option<String> {
    let kernel = rustix::system::uname();
    let kernel = kernel.release().to_string_lossy();
    let file = image::file(&ThisHost, &kernel)?;
    let held = image::carried(&ThisHost, &kernel, &file).ok().flatten()?;
    let text = older_config(&file, held.holding)?;
    Some(format!("{text}: run {}", held.renew))
}

/// This host, or a recorded one.
#[derive(Debug)]
pub(super) struct Host {
    /// What to use as `/sys`, `None` of a recorded host: nobody can look there.
    root: Option<PathBuf>,
    pub(super) inventory: Inventory,
    /// What the record has beside the functions.
    facts: Option<HostFacts>,
    /// What functions are inspected for: all there is, until a config is planned by.
    wanted: Wanted,
    /// Whether any function was inspected.
    pub(super) inspected: bool,
    /// Functions whose inspection did not come back, or not well.
    pub(super) silent: Vec<(Address, String)>,
}

impl Host {
    /// The host that the file `recorded` is of, or else this one.
    pub(super) fn of(root: &Path, recorded: Option<&Path>) -> Result<Self, Stop> {
        let Some(file) = recorded else {
            return Self::scan(root);
        };
        let failed = |error: &dyn std::fmt::Display| {
            Stop::new(Exit::Usage, format!("{}: {error}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        let record = record::parse(&text).map_err(|error| failed(&error))?;
        Ok(Self {
            root: None,
            inventory: record.inventory,
            facts: record.facts,
            wanted: Wanted::ALL,
            inspected: false,
            silent: Vec::new(),
        })
    }

    pub(super) fn scan(root: &Path) -> Result<Self, Stop> {
        let inventory = scan_all(&HostSysfs::new(root)).map_err(|error| {
            let place = root.join("bus/pci/devices");
            Stop::failure(format!("{}: {error}", place.display()))
        })?;
        Ok(Self {
            root: Some(root.to_owned()),
            inventory,
            facts: None,
            wanted: Wanted::ALL,
            inspected: false,
            silent: Vec::new(),
        })
    }

    /// The plan for this host as the daemon would make it at boot, with what
    /// it needs to know inspected.
    pub(super) async fn plan(&mut self, policy: &Policy) -> Result<Plan, Stop> {
        self.wanted.variant = policy.asks_for_variants();
        self.wanted.settings = policy.asks_for_settings();
        let mut asked = BTreeSet::new();
        loop {
            let plan = plan(&self.inventory, policy, &Held::new());
            let unasked: BTreeSet<_> = plan.inspect.difference(&asked).copied().collect();
            if unasked.is_empty() {
                return Ok(plan);
            }
            asked.extend(&unasked);
            self.inspect(unasked).await?;
        }
    }

    /// Inspects every function.
    pub(super) async fn inspect_all(&mut self) -> Result<(), Stop> {
        let all = self.inventory.iter().map(|one| one.address).collect();
        self.inspect(all).await
    }

    /// Inspects what vfio drivers have, which a plan need not know more of.
    pub(super) async fn inspect_bound(&mut self) -> Result<(), Stop> {
        let bound = self.inventory.iter().filter(|one| {
            let driver = one.driver.as_deref();
            one.inspection.is_none() && driver.is_some_and(is_vfio_driver)
        });
        let bound = bound.map(|one| one.address).collect();
        self.inspect(bound).await
    }

    /// What is known of the host beside its functions, `None` if it is of an old
    /// record. The cluster file system of Proxmox VE is asked aside: it may
    /// never answer.
    pub(super) async fn survey(&self) -> Result<Option<HostFacts>, Stop> {
        let Some(root) = &self.root else {
            return Ok(self.facts.clone());
        };
        let kernel = rustix::system::uname();
        let sysfs = HostSysfs::new(root);
        let mut facts = survey::survey(Survey {
            sysfs: &sysfs,
            host: &ThisHost,
            inventory: &self.inventory,
            kernel: &kernel.release().to_string_lossy(),
        });
        let proxmox = spawn_blocking(|| survey::proxmox(&ThisHost));
        facts.proxmox = match timeout(PATIENCE, proxmox).await {
            Ok(answer) => answer
                .map_err(|error| Stop::failure(error.to_string()))?
                .into(),
            Err(_) => Seen::Unseen(format!(
                "/etc/pve does not answer within {} s",
                PATIENCE.as_secs()
            )),
        };
        Ok(Some(facts))
    }

    /// Inspects these functions, where that is possible.
    pub(super) async fn inspect(&mut self, addresses: BTreeSet<Address>) -> Result<(), Stop> {
        let Some(root) = self.root.clone() else {
            return Ok(());
        };
        let program = std::env::current_exe()?;
        let root = root.into();
        let arguments = vec!["--sysfs-root".into(), root, "helper".into()];
        let pool = Pool::of_silent_program(program, arguments);
        let mut waiting = addresses.into_iter();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < HELPERS
                && let Some(address) = waiting.next()
            {
                let (pool, wanted) = (pool.clone(), self.wanted);
                asked.spawn(async move { (address, ask(&pool, address, wanted).await) });
            }
            let Some(answer) = asked.join_next().await else {
                return Ok(());
            };
            let (address, answer) = answer.map_err(|error| Stop::failure(error.to_string()))?;
            match answer {
                Ok(Some(inspection)) => {
                    self.inspected = true;
                    if let Some(function) = self.inventory.get_mut(address) {
                        function.inspection = Some(inspection);
                    }
                }
                Ok(None) => {
                    self.inventory.remove(address);
                }
                Err(text) => self.silent.push((address, text)),
            }
        }
    }
}

async fn ask(pool: &Pool, address: Address, wanted: Wanted) -> Result<Option<Inspection>, String> {
    let request = Request::Inspect { address, wanted };
    match timeout(PATIENCE, pool.call(&request)).await {
        Ok(Ok(Reply::Inspected(inspection))) => Ok(inspection),
        Ok(Ok(_)) => Err("the helper answers something else".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "its attributes cannot be read within {} s: the kernel does not come back",
            PATIENCE.as_secs()
        )),
    }
}
