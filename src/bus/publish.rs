//! Publish: follows snapshots and tells the bus what changed.
//!
//! Owns the connection. The daemon works without a bus: a lost or missing one
//! is connected to again, and everything is served anew then.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use zbus::{
    Connection, ObjectServer, connection::Builder, fdo::ObjectManager, object_server::InterfaceRef,
};

use super::{
    api::{NAME, ROOT},
    caller::watch_claimers,
    manager::{Manager, texts},
    objects,
    request::Request,
};
use crate::engine::snapshot::Snapshot;

/// The socket of the system bus, before any symlink of /var is there.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
const FIRST_BREAK: Duration = Duration::from_millis(100);
const LONGEST_BREAK: Duration = Duration::from_secs(5);
/// A socket that nobody serves yet accepts and says nothing.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Serves until the daemon ends.
pub async fn run(
    address: Option<String>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<Request>,
) {
    let address = address
        .or_else(|| std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok())
        .unwrap_or_else(|| SYSTEM_BUS.to_owned());
    let mut pause = FIRST_BREAK;
    let mut told = false;
    loop {
        let manager = Manager {
            snapshots: snapshots.clone(),
            requests: requests.clone(),
        };
        let lost = match connect(&address, manager, &snapshots).await {
            Ok((connection, served)) => {
                tracing::info!("published on D-Bus as {NAME}");
                (pause, told) = (FIRST_BREAK, false);
                tokio::select! {
                    () = connection.closed() => "the connection to D-Bus is lost".to_owned(),
                    () = watch_claimers(&connection, &snapshots, &requests) => return,
                    ended = follow(&connection, snapshots.clone(), served) => match ended {
                        Ok(()) => return,
                        Err(error) => format!("D-Bus does not take what is published: {error}"),
                    },
                }
            }
            Err(zbus::Error::NameTaken) => format!("another process owns {NAME} on D-Bus"),
            Err(error) => format!("D-Bus cannot be reached: {error}"),
        };
        // Once a loss, not once a try: a host without a bus is a quiet one.
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("{lost}; binding goes on, and so do the tries to connect");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_BREAK);
    }
}

/// Connects, serves everything, and only then takes the name.
async fn connect(
    address: &str,
    manager: Manager,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
) -> zbus::Result<(Connection, Arc<Snapshot>)> {
    let late = || zbus::Error::Failure("nobody answers at the socket".to_owned());
    let connection = timeout(HANDSHAKE, async {
        Builder::address(address)
            .serve_at(ROOT, ObjectManager)
            .serve_at(ROOT, manager)
            .build()
            .await
    })
    .await
    .map_err(|_| late())??;
    let snapshot = Arc::clone(&snapshots.borrow());
    objects::add(connection.object_server(), &snapshot).await?;
    // Neither queued nor taken away: a second daemon must not steal the name.
    let flags = zbus::fdo::RequestNameFlags::DO_NOT_QUEUE;
    connection.request_name_with_flags(NAME, flags).await?;
    Ok((connection, snapshot))
}

/// Tells what changes, until the daemon ends.
async fn follow(
    connection: &Connection,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut told: Arc<Snapshot>,
) -> zbus::Result<()> {
    let manager: InterfaceRef<Manager> = connection.object_server().interface(ROOT).await?;
    loop {
        let now = Arc::clone(&snapshots.borrow_and_update());
        if now != told {
            tell(connection.object_server(), &manager, &told, &now).await?;
            told = now;
        }
        if snapshots.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn tell(
    server: &ObjectServer,
    manager: &InterfaceRef<Manager>,
    old: &Snapshot,
    new: &Snapshot,
) -> zbus::Result<()> {
    objects::change(server, old, new).await?;
    let emitter = manager.signal_emitter();
    {
        let object = manager.get().await;
        if old.state != new.state {
            object.state_changed(emitter).await?;
        }
        if old.reason != new.reason {
            object.reason_changed(emitter).await?;
        }
        if old.generation != new.generation {
            object.generation_changed(emitter).await?;
        }
        if !old.bound().eq(new.bound()) {
            object.map_changed(emitter).await?;
        }
        if old.left_over != new.left_over {
            object.left_over_changed(emitter).await?;
        }
        if old.drift != new.drift {
            object.drift_changed(emitter).await?;
        }
        if old.iommu != new.iommu {
            object.iommu_changed(emitter).await?;
        }
    }
    for (name, view) in &new.mappings {
        let before = old.mappings.get(name);
        let same =
            before.is_some_and(|old| old.state == view.state && old.addresses == view.addresses);
        if !same {
            let addresses = texts(&view.addresses);
            Manager::mapping_changed(emitter, name, view.state.as_str(), addresses).await?;
        }
    }
    for name in old
        .mappings
        .keys()
        .filter(|name| !new.mappings.contains_key(*name))
    {
        Manager::mapping_changed(emitter, name, "absent", Vec::new()).await?;
    }
    for drift in new.drift.iter().filter(|one| !old.drift.contains(one)) {
        Manager::drifted(emitter, &drift.mapping, &drift.text).await?;
    }
    Manager::changed(emitter, new.generation).await
}
