//! The objects below the manager: one a mapping, a function, and a PF.

use std::{borrow::Cow, collections::HashMap};

use zbus::{
    ObjectServer,
    fdo::Properties,
    object_server::{Interface, InterfaceRef},
    zvariant::Variant,
};

use super::{api, function::Function, mapping::Mapping, sriov::Sriov};
use crate::{
    engine::snapshot::{FunctionView, MappingView, PfView, Snapshot},
    pci::address::Address,
};

/// Serves what is in `snapshot`.
pub(super) async fn add(server: &ObjectServer, snapshot: &Snapshot) -> zbus::Result<()> {
    change(server, &Snapshot::starting(), snapshot).await
}

/// Serves what is in `new` where `old` was served.
pub(super) async fn change(
    server: &ObjectServer,
    old: &Snapshot,
    new: &Snapshot,
) -> zbus::Result<()> {
    for (address, view) in &new.functions {
        match old.functions.get(address) {
            None => add_function(server, view).await?,
            Some(before) if before != view => change_function(server, view).await?,
            Some(_) => {}
        }
    }
    for (address, view) in &new.pfs {
        match old.pfs.get(address) {
            None => add_pf(server, *address, view).await?,
            Some(before) if before != view => change_pf(server, *address, view).await?,
            Some(_) => {}
        }
    }
    for (name, view) in &new.mappings {
        match old.mappings.get(name) {
            None => add_mapping(server, name, view).await?,
            Some(before) if before != view => change_mapping(server, name, view).await?,
            Some(_) => {}
        }
    }
    let mappings = old.mappings.keys();
    for name in mappings.filter(|name| !new.mappings.contains_key(*name)) {
        server.remove::<Mapping, _>(api::mapping_path(name)).await?;
    }
    let pfs = old.pfs.keys();
    for address in pfs.filter(|one| !new.pfs.contains_key(one)) {
        server.remove::<Sriov, _>(api::sriov_path(*address)).await?;
    }
    let functions = old.functions.keys();
    for address in functions.filter(|one| !new.functions.contains_key(one)) {
        let path = api::function_path(*address);
        server.remove::<Function, _>(path).await?;
    }
    Ok(())
}

async fn add_mapping(server: &ObjectServer, name: &str, view: &MappingView) -> zbus::Result<()> {
    let mapping = Mapping {
        name: name.to_owned(),
        view: view.clone(),
    };
    server.at(api::mapping_path(name), mapping).await.map(drop)
}

async fn change_mapping(server: &ObjectServer, name: &str, view: &MappingView) -> zbus::Result<()> {
    let object: InterfaceRef<Mapping> = server.interface(api::mapping_path(name)).await?;
    alter(server, &object, |mapping| mapping.view = view.clone()).await
}

async fn add_function(server: &ObjectServer, view: &FunctionView) -> zbus::Result<()> {
    let path = api::function_path(view.function.address);
    let function = Function { view: view.clone() };
    server.at(path, function).await.map(drop)
}

async fn change_function(server: &ObjectServer, view: &FunctionView) -> zbus::Result<()> {
    let path = api::function_path(view.function.address);
    // Another device at the same address is another object.
    let object: InterfaceRef<Function> = server.interface(path.as_str()).await?;
    if !object.get().await.view.function.same_device(&view.function) {
        server.remove::<Function, _>(path).await?;
        return add_function(server, view).await;
    }
    alter(server, &object, |function| function.view = view.clone()).await
}

async fn add_pf(server: &ObjectServer, address: Address, view: &PfView) -> zbus::Result<()> {
    let view = view.clone();
    let path = api::sriov_path(address);
    server.at(path, Sriov { address, view }).await.map(drop)
}

async fn change_pf(server: &ObjectServer, address: Address, view: &PfView) -> zbus::Result<()> {
    let object: InterfaceRef<Sriov> = server.interface(api::sriov_path(address)).await?;
    alter(server, &object, |pf| pf.view = view.clone()).await
}

/// Has an object changed, and tells all of it that is new in one signal.
async fn alter<I: Interface>(
    server: &ObjectServer,
    object: &InterfaceRef<I>,
    change: impl FnOnce(&mut I),
) -> zbus::Result<()> {
    let emitter = object.signal_emitter();
    let connection = emitter.connection();
    let mut object = object.get_mut().await;
    let old = object.get_all(server, connection, None, emitter).await?;
    change(&mut object);
    let new = object.get_all(server, connection, None, emitter).await?;
    let changed: HashMap<_, _> = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(value))
        .map(|(name, value)| (name.as_str(), Variant::from(value.clone())))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Properties::properties_changed(emitter, I::name(), changed, Cow::default()).await
}
