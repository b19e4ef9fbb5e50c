//! The daemon as seen over D-Bus.
//!
//! Owns the connection and what an error on the bus means to a caller. Names
//! come from `bus::api`; calls are made by hand, so that nothing is asked of
//! the daemon but what is needed.

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    num::NonZeroUsize,
    pin::Pin,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use zbus::{
    Connection, DynamicType, MatchRule, MessageStream, OwnedObjectPath, Type, connection::Builder,
    export::futures_core::Stream as _,
};

use super::{
    exit::{Exit, Stop},
    wire::{Properties, addresses, function, stop, take},
};
use crate::{
    bus::api::{FUNCTION, MANAGER, MAPPING, NAME, ROOT, SRIOV},
    pci::address::Address,
    policy::explain::{Explanation, Target},
};

/// A call is answered at once, or the daemon hangs.
const PATIENCE: Duration = Duration::from_secs(25);
/// Functions are given back eight at a time, each within 15 seconds or not at
/// all.
const LONG_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The same for a question that can be answered without the daemon.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a daemon that is not there yet is looked for.
const PAUSE: Duration = Duration::from_millis(100);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Changes that may wait to be printed.
const BACKLOG: Option<NonZeroUsize> = NonZeroUsize::new(1024);
const OBJECTS: &str = "org.freedesktop.DBus.ObjectManager";

type Objects = HashMap<OwnedObjectPath, BTreeMap<String, Properties>>;

/// What the daemon publishes, for `status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) generation: u64,
    pub(super) iommu: bool,
    pub(super) mappings: BTreeMap<String, Mapping>,
    pub(super) pfs: BTreeMap<String, Pf>,
    pub(super) left_over: Vec<String>,
    pub(super) drift: Vec<String>,
}

/// One mapping of it.
#[derive(Debug, Serialize)]
pub(super) struct Mapping {
    pub(super) description: String,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) addresses: Vec<String>,
    /// Who has which of them for themselves.
    pub(super) claims: BTreeMap<String, String>,
}

/// One PF that is to have VFs.
#[derive(Debug, Serialize)]
pub(super) struct Pf {
    /// The entry of the config.
    pub(super) sriov: String,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) driver: String,
    pub(super) wanted: u16,
    pub(super) total: u16,
    pub(super) vfs: Vec<String>,
    /// What VFs are to be set to, by index.
    pub(super) settings: BTreeMap<u16, String>,
}

/// A mapping's state at one moment, for `watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) addresses: Vec<String>,
}

/// A connection to the bus that the daemon serves on.
#[derive(Debug)]
pub(super) struct Client {
    connection: Connection,
}

impl Client {
    /// Connects to the bus; that says nothing of the daemon.
    pub(super) async fn connect(address: Option<&str>) -> Result<Self, Stop> {
        Self::patient(address, PATIENCE).await
    }

    /// The same, for calls whose answer may take that long.
    async fn patient(address: Option<&str>, patience: Duration) -> Result<Self, Stop> {
        let builder = match address {
            Some(address) => Builder::address(address),
            None => Builder::system(),
        };
        let connected = timeout(PATIENCE, builder.method_timeout(patience).build()).await;
        let connection = connected
            .map_err(|_| Stop::failure("D-Bus does not answer"))?
            .map_err(|error| Stop::failure(format!("D-Bus cannot be reached: {error}")))?;
        Ok(Self { connection })
    }

    /// The addresses of a mapping. With a `limit`, waits for as long at most,
    /// also for the bus and the daemon themselves.
    pub(super) async fn resolve(
        address: Option<&str>,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<(Self, Vec<Address>), Stop> {
        let Some(limit) = limit else {
            let client = Self::connect(address).await?;
            let texts: Vec<String> = client.manager("Resolve", &(name,)).await?;
            return Ok((client, addresses(&texts)?));
        };
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let tried = async {
                let client = Self::connect(address).await?;
                let usec = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
                let texts: Vec<String> = client.manager("ResolveWait", &(name, usec)).await?;
                Ok::<_, Stop>((client, addresses(&texts)?))
            };
            // Longer than the daemon's own limit, which has the better words.
            match timeout(left.saturating_add(PAUSE * 20), tried).await {
                // Neither a result nor a word of the daemon's: it is not there.
                Ok(Err(stop)) if stop.exit == Exit::Failure && left > PAUSE => sleep(PAUSE).await,
                Ok(Err(stop)) if stop.exit == Exit::Failure => {
                    return Err(Stop::new(Exit::NotSettled, stop.text));
                }
                Ok(done) => return done,
                Err(_) => return Err(Stop::new(Exit::NotSettled, "the daemon does not answer")),
            }
        }
    }

    /// What the daemon says of `target`; inside, why it says nothing.
    pub(super) async fn explain(
        address: Option<&str>,
        target: &Target,
    ) -> Result<Result<Explanation, String>, Stop> {
        let asked = timeout(SHORT_PATIENCE, async {
            let client = Self::connect(address).await?;
            let json: String = client.manager("Explain", &(target.to_string(),)).await?;
            Ok::<_, Stop>(json)
        });
        let json = match asked.await {
            Err(_) => return Ok(Err("vfio-bindd does not answer".to_owned())),
            Ok(Err(stop)) if !stop.from_daemon => return Ok(Err(stop.text)),
            Ok(answer) => answer?,
        };
        // Another version's daemon may say it in other words.
        let read = serde_json::from_str(&json);
        Ok(read.map_err(|error| format!("vfio-bindd answers in other terms: {error}")))
    }

    /// Has the daemon do something that is answered with nothing.
    pub(super) async fn order(&self, method: &str) -> Result<(), Stop> {
        self.manager(method, &()).await
    }

    /// Has the daemon give back what `target` names, all without one.
    pub(super) async fn restore(address: Option<&str>, target: Option<&str>) -> Result<(), Stop> {
        let client = Self::patient(address, LONG_PATIENCE).await?;
        match target {
            Some(target) => client.manager("Restore", &(target,)).await,
            None => client.order("RestoreAll").await,
        }
    }

    /// All that is published but the functions.
    pub(super) async fn status(&self) -> Result<Status, Stop> {
        let mut manager: Properties = self.call(PROPERTIES, "GetAll", &(MANAGER,)).await?;
        Ok(Status {
            version: take(&mut manager, "Version")?,
            state: take(&mut manager, "State")?,
            reason: take(&mut manager, "Reason")?,
            generation: take(&mut manager, "Generation")?,
            iommu: take(&mut manager, "Iommu")?,
            mappings: self.mappings().await?,
            pfs: self.pfs().await?,
            left_over: take(&mut manager, "LeftOver")?,
            drift: take(&mut manager, "Drift")?,
        })
    }

    async fn mappings(&self) -> Result<BTreeMap<String, Mapping>, Stop> {
        let mut mappings = BTreeMap::new();
        for mut one in self.objects(MAPPING).await? {
            let mapping = Mapping {
                description: take(&mut one, "Description")?,
                state: take(&mut one, "State")?,
                reason: take(&mut one, "Reason")?,
                addresses: take(&mut one, "Addresses")?,
                claims: take(&mut one, "Claims")?,
            };
            mappings.insert(take(&mut one, "Name")?, mapping);
        }
        Ok(mappings)
    }

    async fn pfs(&self) -> Result<BTreeMap<String, Pf>, Stop> {
        let mut pfs = BTreeMap::new();
        for mut one in self.objects(SRIOV).await? {
            let pf = Pf {
                sriov: take(&mut one, "Name")?,
                state: take(&mut one, "State")?,
                reason: take(&mut one, "Reason")?,
                driver: take(&mut one, "Driver")?,
                wanted: take(&mut one, "Wanted")?,
                total: take(&mut one, "TotalVfs")?,
                vfs: take(&mut one, "Vfs")?,
                settings: take(&mut one, "Settings")?,
            };
            pfs.insert(take(&mut one, "Address")?, pf);
        }
        Ok(pfs)
    }

    /// What is published of each function, as JSON objects.
    pub(super) async fn functions(&self) -> Result<BTreeMap<Address, Value>, Stop> {
        let mut functions = BTreeMap::new();
        for one in self.objects(FUNCTION).await? {
            let (address, value) = function(one)?;
            functions.insert(address, value);
        }
        Ok(functions)
    }

    /// Hands each mapping as it is to `told`, and each change as it comes,
    /// until `told` or the bus fails.
    pub(super) async fn watch(
        &self,
        mut told: impl FnMut(Change) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let broken = |error: zbus::Error| Stop::failure(error.to_string());
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(NAME)
            .interface(MANAGER)
            .member("MappingChanged")
            .build()
            .map_err(broken)?;
        // Before the question how things are, or what comes between is missed.
        let mut changes = MessageStream::for_match_rule(rule, &self.connection, BACKLOG)
            .await
            .map_err(broken)?;
        for (name, mapping) in self.mappings().await? {
            told(Change {
                name,
                state: mapping.state,
                addresses: mapping.addresses,
            })?;
        }
        while let Some(message) = poll_fn(|task| Pin::new(&mut changes).poll_next(task)).await {
            let body = message.map_err(broken)?.body();
            let (name, state, addresses) = body.deserialize().map_err(broken)?;
            told(Change {
                name,
                state,
                addresses,
            })?;
        }
        Err(Stop::failure("the connection to D-Bus is lost"))
    }

    async fn objects(&self, interface: &str) -> Result<Vec<Properties>, Stop> {
        let objects: Objects = self.call(OBJECTS, "GetManagedObjects", &()).await?;
        let interfaces = objects.into_values();
        Ok(interfaces
            .filter_map(|mut interfaces| interfaces.remove(interface))
            .collect())
    }

    /// Calls a method of the manager.
    pub(super) async fn manager<R>(
        &self,
        method: &str,
        body: &(impl Serialize + DynamicType + Sync),
    ) -> Result<R, Stop>
    where
        R: DeserializeOwned + Type,
    {
        self.call(MANAGER, method, body).await
    }

    async fn call<R>(
        &self,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType + Sync),
    ) -> Result<R, Stop>
    where
        R: DeserializeOwned + Type,
    {
        let reply = self
            .connection
            .call_method(Some(NAME), ROOT, Some(interface), method, body)
            .await
            .map_err(|error| stop(&error))?;
        reply
            .body()
            .deserialize()
            .map_err(|error| Stop::failure(format!("{method}: {error}")))
    }
}
