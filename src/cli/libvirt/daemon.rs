//! What the daemon says of the mappings that a domain has to do with, and what is
//! known of them without it.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    cli::{
        client::{Client, Status},
        exit::Stop,
    },
    hooks::libvirt::{
        domain::Domain,
        verdict::{Mapped, Mappings, concerns, says_so},
    },
};

const PAUSE: Duration = Duration::from_millis(200);

/// The daemon, once its first pass is over and no mapping that the domain has to do
/// with is pending, or at the end whatever it has by then.
pub(super) async fn settled(
    bus: Option<&str>,
    domain: &Domain,
    end: Instant,
) -> Result<(Client, Mappings), Stop> {
    loop {
        let late = Instant::now() + PAUSE * 5 > end;
        match asked(bus).await {
            // It has no mappings then, and is nobody to go by.
            Ok((_, status)) if status.state == "failed" => {
                let text = "vfio-bindd has no valid config; see: vfio-bindctl check";
                return Err(Stop::failure(text));
            }
            Ok((client, status)) => {
                let starting = status.state == "starting";
                let mappings = mapped(status);
                let mut pending = mappings.iter().filter(|(_, one)| one.state == "pending");
                if late || !(starting || pending.any(|(name, one)| concerns(domain, name, one))) {
                    return Ok((client, mappings));
                }
            }
            Err(stop) if late => return Err(stop),
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// The daemon and its mappings as they are.
pub(super) async fn now(bus: Option<&str>) -> Result<(Client, Mappings), Stop> {
    let (client, status) = asked(bus).await?;
    Ok((client, mapped(status)))
}

async fn asked(bus: Option<&str>) -> Result<(Client, Status), Stop> {
    let client = Client::connect(bus).await?;
    let status = client.status().await?;
    Ok((client, status))
}

fn mapped(status: Status) -> Mappings {
    let mappings = status.mappings.into_iter();
    mappings
        .map(|(name, mapping)| {
            let addresses = mapping.addresses.iter();
            let mapped = Mapped {
                addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
                state: mapping.state,
                reason: mapping.reason,
            };
            (name, mapped)
        })
        .collect()
}

/// What the daemon published last in this boot.
#[derive(Debug)]
pub(super) struct Published(Value);

impl Published {
    /// Nothing where that cannot be read.
    pub(super) fn read(root: &Path) -> Self {
        let text = fs::read(root.join("run/vfio-bindd/map.json"));
        let map = serde_json::from_slice(&text.unwrap_or_default());
        Self(map.unwrap_or_default())
    }

    fn mappings(&self) -> impl Iterator<Item = (&String, &Value)> {
        let mappings = self.0.get("mappings").and_then(Value::as_object);
        mappings.into_iter().flatten()
    }

    /// Whether somebody of that name has claimed functions.
    pub(super) fn has_owner(&self, owner: &str) -> bool {
        let claims = self.mappings().filter_map(|(_, one)| one.get("claims"));
        let mut owners = claims
            .filter_map(Value::as_object)
            .flat_map(|one| one.values());
        owners.any(|one| one.as_str() == Some(owner))
    }

    /// Whether the domain has to do with functions of mappings.
    pub(super) fn concerns(&self, domain: &Domain) -> bool {
        let mut mappings = self.mappings();
        says_so(domain)
            || mappings.any(|(name, one)| {
                let addresses = one.get("addresses").and_then(Value::as_array);
                let addresses = addresses.into_iter().flatten();
                let addresses = addresses.filter_map(|text| text.as_str()?.parse().ok());
                let mapped = Mapped {
                    addresses: addresses.collect(),
                    ..Mapped::default()
                };
                concerns(domain, name, &mapped)
            })
    }
}
