//! Objects and signals follow the snapshots, and say no more than changed.

use std::sync::Arc;

use vfio_bindd::{
    bus::api::NAME,
    engine::snapshot::{DaemonState, FunctionState, MappingState, Snapshot},
};

use crate::{
    client::{Client, Signals},
    private_bus::PrivateBus,
    service::{Service, bound, pending, pf, snapshot, view},
    support::at,
};

const NIC: &str = "0000:01:00.0";
const OTHER: &str = "0000:02:00.0";

struct World {
    _bus: PrivateBus,
    service: Service,
    client: Client,
    signals: Signals,
}

impl World {
    async fn new(snapshot: Snapshot) -> Self {
        let bus = PrivateBus::start();
        let service = Service::start(&bus.address(), snapshot);
        let client = Client::served(&bus.address()).await;
        let signals = client.signals().await;
        Self {
            _bus: bus,
            service,
            client,
            signals,
        }
    }

    fn last(&self) -> Arc<Snapshot> {
        Arc::clone(&self.service.snapshots.borrow())
    }

    /// All that is said about `snapshot`.
    async fn publish(&mut self, snapshot: Snapshot) -> Vec<String> {
        let last = format!("Changed {}", snapshot.generation);
        self.service.publish(snapshot);
        self.signals.through(&last).await
    }
}

fn paths(objects: &crate::client::Objects) -> Vec<String> {
    let one = |(path, interfaces): (&String, &std::collections::BTreeMap<_, _>)| {
        let names: Vec<&String> = interfaces.keys().collect();
        format!("{path} {names:?}")
    };
    objects.iter().map(one).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn a_mapping_that_becomes_bound_is_told_in_all_ways_and_once() {
    let mut world = World::new(snapshot(
        1,
        [("late", pending(&[])), ("nic-1", pending(&[NIC]))],
    ))
    .await;
    let said = world
        .publish(snapshot(
            2,
            [("late", pending(&[])), ("nic-1", bound(&[NIC]))],
        ))
        .await;
    assert_eq!(
        said,
        [
            "/function/pci_0000_01_00_0 PropertiesChanged Driver=\"vfio-pci\" \
             Node=\"/dev/vfio/256\" State=\"bound\"",
            "/mapping/nic_2d1 PropertiesChanged Reason=\"\" State=\"bound\"",
            "PropertiesChanged Reason=\"late is pending\"",
            "PropertiesChanged Generation=uint64 2",
            "PropertiesChanged Map={\"nic-1\": [\"0000:01:00.0\"]}",
            "MappingChanged nic-1 bound [\"0000:01:00.0\"]",
            "Changed 2",
        ]
    );
    // Read, they say the same.
    let manager = world.client.properties("/org/vfiobindd1", MANAGER).await;
    let manager = manager.unwrap();
    assert_eq!(manager["Map"], "{\"nic-1\": [\"0000:01:00.0\"]}");
    assert_eq!(manager["Generation"], "uint64 2");
    assert_eq!(
        manager["Version"],
        format!("{:?}", env!("CARGO_PKG_VERSION"))
    );
}

const MANAGER: &str = "org.vfiobindd1.Manager";

#[tokio::test(flavor = "current_thread")]
async fn what_did_not_change_is_not_told() {
    let mut world = World::new(snapshot(1, [("nic", bound(&[NIC]))])).await;
    let mut next = Snapshot::clone(&world.last());
    next.generation = 2;
    next.mappings.get_mut("nic").unwrap().description = "uplink".to_owned();
    let said = world.publish(next.clone()).await;
    let description = "/mapping/nic PropertiesChanged Description=\"uplink\"";
    let generation = "PropertiesChanged Generation=uint64 2";
    assert_eq!(said, [description, generation, "Changed 2"]);

    next.generation = 3;
    next.left_over = vec![at(OTHER)];
    next.iommu = false;
    next.state = DaemonState::Degraded;
    next.reason = "why".to_owned();
    let said = world.publish(next.clone()).await;
    assert_eq!(
        said,
        [
            "PropertiesChanged State=\"degraded\"",
            "PropertiesChanged Reason=\"why\"",
            "PropertiesChanged Generation=uint64 3",
            "PropertiesChanged LeftOver=[\"0000:02:00.0\"]",
            "PropertiesChanged Iommu=false",
            "Changed 3",
        ]
    );

    next.generation = 4;
    let function = next.functions.get_mut(&at(NIC)).unwrap();
    function.function.iommu_group = Some(9);
    function.function.numa_node = Some(1);
    function.function.reset_methods = vec!["flr".to_owned()];
    function.mappings.push("other".to_owned());
    function.state = FunctionState::Stuck;
    function.reason = "does not come back".to_owned();
    let said = world.publish(next.clone()).await;
    assert_eq!(
        said,
        [
            "/function/pci_0000_01_00_0 PropertiesChanged IommuGroup=9 \
             Mappings=[\"nic\", \"other\"] Node=\"/dev/vfio/9\" NumaNode=1 \
             Reason=\"does not come back\" ResetMethods=[\"flr\"] State=\"stuck\"",
            "PropertiesChanged Generation=uint64 4",
            "Changed 4",
        ]
    );
}

#[tokio::test(flavor = "current_thread")]
async fn objects_come_and_go_with_what_they_stand_for() {
    let mut world = World::new(snapshot(1, [("nic", bound(&[NIC]))])).await;
    let function = "/function/pci_0000_01_00_0 [\"org.vfiobindd1.Function\"]";
    let mapping = "/mapping/nic [\"org.vfiobindd1.Mapping\"]";
    assert_eq!(paths(&world.client.objects().await), [function, mapping]);

    let said = world
        .publish(snapshot(2, [("new", pending(&[OTHER]))]))
        .await;
    assert_eq!(
        said,
        [
            "InterfacesAdded /function/pci_0000_02_00_0 org.vfiobindd1.Function",
            "InterfacesAdded /mapping/new org.vfiobindd1.Mapping",
            "InterfacesRemoved /mapping/nic org.vfiobindd1.Mapping",
            "InterfacesRemoved /function/pci_0000_01_00_0 org.vfiobindd1.Function",
            "PropertiesChanged State=\"degraded\"",
            "PropertiesChanged Reason=\"new is pending\"",
            "PropertiesChanged Generation=uint64 2",
            "PropertiesChanged Map=@a{sas} {}",
            "MappingChanged new pending [\"0000:02:00.0\"]",
            "MappingChanged nic absent []",
            "Changed 2",
        ]
    );
    let function = "/function/pci_0000_02_00_0 [\"org.vfiobindd1.Function\"]";
    let mapping = "/mapping/new [\"org.vfiobindd1.Mapping\"]";
    assert_eq!(paths(&world.client.objects().await), [function, mapping]);
    let gone = world
        .client
        .properties("/org/vfiobindd1/mapping/nic", "org.vfiobindd1.Mapping")
        .await;
    let (error, _) = gone.unwrap_err();
    assert_eq!(error, "org.freedesktop.DBus.Error.UnknownObject");
    let root = world.client.introspect("/org/vfiobindd1").await;
    assert!(root.contains("pci_0000_02_00_0") && !root.contains("pci_0000_01_00_0"));

    world.publish(snapshot(3, [])).await;
    assert_eq!(world.client.objects().await.len(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_pf_that_is_to_have_vfs_is_an_object() {
    let with = |generation, vfs| Snapshot {
        pfs: [pf(vfs)].into(),
        ..snapshot(generation, [])
    };
    let mut world = World::new(snapshot(1, [])).await;
    let came = world.publish(with(2, 0)).await;
    let path = "/sriov/pci_0000_3b_00_0";
    assert_eq!(
        came.first().unwrap(),
        &format!("InterfacesAdded {path} {NAME}.Sriov")
    );
    let objects = world.client.objects().await;
    let properties = &objects[path][&format!("{NAME}.Sriov")];
    let lines: Vec<_> = properties
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        lines,
        [
            "Address=\"0000:3b:00.0\"",
            "Driver=\"igb\"",
            "Name=\"uplink\"",
            "Reason=\"gets 2 VFs\"",
            "Settings={uint16 1: \"vlan 100\"}",
            "State=\"pending\"",
            "TotalVfs=uint16 7",
            "Vfs=@as []",
            "Wanted=uint16 2",
        ]
    );
    let made = world.publish(with(3, 2)).await;
    assert_eq!(
        made.first().unwrap(),
        &format!(
            "{path} PropertiesChanged Reason=\"\" State=\"ready\" \
             Vfs=[\"0000:3b:02.0\", \"0000:3b:02.1\"]"
        )
    );
    let gone = world.publish(snapshot(4, [])).await;
    assert_eq!(
        gone.first().unwrap(),
        &format!("InterfacesRemoved {path} {NAME}.Sriov")
    );
    assert_eq!(world.client.objects().await.len(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn another_device_at_the_same_address_is_another_object() {
    let mut world = World::new(snapshot(1, [("nic", bound(&[NIC]))])).await;
    let mut next = snapshot(2, [("nic", pending(&[NIC]))]);
    let view = next.functions.get_mut(&at(NIC)).unwrap();
    view.function.id = "10de:2684".parse().unwrap();
    let said = world.publish(next).await;
    let head = said.get(..2).unwrap();
    assert_eq!(
        head,
        [
            "InterfacesRemoved /function/pci_0000_01_00_0 org.vfiobindd1.Function",
            "InterfacesAdded /function/pci_0000_01_00_0 org.vfiobindd1.Function",
        ]
    );
    let objects = world.client.objects().await;
    let function = &objects["/function/pci_0000_01_00_0"]["org.vfiobindd1.Function"];
    assert_eq!(function["VendorId"], "uint16 4318");
    assert_eq!(function["Driver"], "\"\"");
}

#[tokio::test(flavor = "current_thread")]
async fn every_fact_is_readable() {
    let mut full = snapshot(7, [("nic", bound(&[NIC])), ("bare", bound(&[OTHER]))]);
    let mapping = full.mappings.get_mut("nic").unwrap();
    mapping.description = "the uplink".to_owned();
    mapping.reason = "1 passed over".to_owned();
    let view = full.functions.get_mut(&at(NIC)).unwrap();
    view.function.subsystem = Some("1028:0a3b".parse().unwrap());
    view.function.numa_node = Some(1);
    view.function.reset_methods = vec!["flr".to_owned(), "bus".to_owned()];
    let bare = full.functions.get_mut(&at(OTHER)).unwrap();
    bare.function.subsystem = None;
    bare.function.iommu_group = None;
    bare.function.driver = Some("e1000e".to_owned());
    bare.reason = "is held".to_owned();
    let world = World::new(full).await;
    let objects = world.client.objects().await;
    let read = |path: &str, interface: &str| -> Vec<String> {
        let properties = &objects[path][&format!("{NAME}.{interface}")];
        let line = |(name, value): (&String, &String)| format!("{name}={value}");
        properties.iter().map(line).collect()
    };
    assert_eq!(
        read("/function/pci_0000_01_00_0", "Function"),
        [
            "Address=\"0000:01:00.0\"",
            "Class=uint32 131072",
            "DeviceId=uint16 4307",
            "Driver=\"vfio-pci\"",
            "IommuGroup=256",
            "Mappings=[\"nic\"]",
            "Node=\"/dev/vfio/256\"",
            "NumaNode=1",
            "Reason=\"\"",
            "ResetMethods=[\"flr\", \"bus\"]",
            "State=\"bound\"",
            "SubsystemDeviceId=uint16 2619",
            "SubsystemVendorId=uint16 4136",
            "VendorId=uint16 32902",
        ]
    );
    let bare = read("/function/pci_0000_02_00_0", "Function");
    for line in [
        "Driver=\"e1000e\"",
        "IommuGroup=-1",
        "Node=\"\"",
        "NumaNode=-1",
        "Reason=\"is held\"",
        "SubsystemVendorId=uint16 0",
    ] {
        assert!(bare.iter().any(|one| one == line), "{line} in {bare:?}");
    }
    assert_eq!(
        read("/mapping/nic", "Mapping"),
        [
            "Addresses=[\"0000:01:00.0\"]",
            "Claims=@a{ss} {}",
            "Description=\"the uplink\"",
            "Name=\"nic\"",
            "Reason=\"1 passed over\"",
            "State=\"bound\"",
        ]
    );
}

#[tokio::test(flavor = "current_thread")]
async fn the_map_holds_only_what_can_be_used() {
    let world = World::new(snapshot(
        1,
        [
            ("bound", bound(&[NIC])),
            ("pending", pending(&[OTHER])),
            ("stuck", view(MappingState::Stuck, "", &["0000:03:00.0"])),
        ],
    ))
    .await;
    let manager = world.client.properties("/org/vfiobindd1", MANAGER).await;
    let manager = manager.unwrap();
    assert_eq!(manager["Map"], "{\"bound\": [\"0000:01:00.0\"]}");
    assert_eq!(manager["Iommu"], "true");
    assert_eq!(manager["State"], "\"degraded\"");
}
