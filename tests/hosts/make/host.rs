//! What made hosts are beside their functions. The lab's host was recorded by a
//! version that did not know of it.

use vfio_bindd::policy::doctor::facts::{
    Cpu, Directive, HostFacts, Image, Listed, Loader, MapEntry, MemoryLock, Module, Node, Order,
    Proxmox, RawDevice, Seen, Unit,
};

use super::Made;

pub(crate) fn beside(made: &Made) -> Option<HostFacts> {
    match made.name {
        "gpu-server" => Some(gpu_server(made.kernel)),
        "nic-vfs" => Some(nic_vfs(made.kernel)),
        _ => None,
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Seen<Vec<String>> {
    Seen::Known(texts.map(str::to_owned).to_vec())
}

fn nodes(groups: impl IntoIterator<Item = u32>) -> Seen<Vec<Node>> {
    let groups = groups.into_iter().map(|group| Node {
        name: group.to_string(),
        mode: 0o600,
    });
    let container = Node {
        name: "vfio".to_owned(),
        mode: 0o666,
    };
    Seen::Known(groups.chain([container]).collect())
}

/// A host on which nothing is out of order.
fn healthy(kernel: &str) -> HostFacts {
    let modules = ["vfio", "vfio_iommu_type1", "vfio_pci"];
    let modules = modules.map(|name| (name.to_owned(), Module::Loaded));
    let retired = [("vfio_virqfd".to_owned(), Module::Missing)];
    HostFacts {
        kernel: kernel.to_owned(),
        parameters: texts(["iommu=pt"]),
        remapping: Seen::Known(true),
        modules: modules.into_iter().chain(retired).collect(),
        listed: Seen::Known(Vec::new()),
        directives: Seen::Known(Vec::new()),
        driverctl: Seen::Known(Vec::new()),
        framebuffers: Seen::Known(Vec::new()),
        proxmox: Seen::Known(None),
        initramfs: Seen::Known(Some(Image {
            file: format!("/boot/initrd.img-{kernel}"),
            older_than: Vec::new(),
            early: None,
        })),
        hung_task_panic: Seen::Known(false),
        memory_locks: Seen::Known(Vec::new()),
        lockdown: Seen::Known(Some("none".to_owned())),
        unit: Seen::Known(Unit::Enabled),
        ..HostFacts::default()
    }
}

/// It was set up by a guide for one GPU, and then got a second one.
fn gpu_server(kernel: &str) -> HostFacts {
    let directive = |line, module: &str, order, serves: &[&str]| Directive {
        place: format!("/etc/modprobe.d/vfio.conf:{line}"),
        parameter: false,
        module: module.to_owned(),
        order,
        serves: serves.iter().map(|one| one.parse().unwrap()).collect(),
    };
    let ids = Order::Ids("10de:1e07,10de:10f7".to_owned());
    let gpus = ["0000:43:00.0", "0000:c2:00.0"];
    HostFacts {
        cpu: Cpu::Amd,
        loader: Loader::Grub,
        iommus: texts(["ivhd0", "ivhd1", "ivhd2", "ivhd3"]),
        tables: texts(["IVRS"]),
        listed: Seen::Known(vec![Listed {
            place: "/etc/modules:6".to_owned(),
            module: "vfio_virqfd".to_owned(),
        }]),
        directives: Seen::Known(vec![
            directive(1, "vfio_pci", ids, &[]),
            directive(2, "nouveau", Order::Blacklist, &gpus),
        ]),
        initramfs: Seen::Known(Some(Image {
            file: format!("/boot/initrd.img-{kernel}"),
            older_than: vec!["/etc/modprobe.d/vfio.conf".to_owned()],
            early: None,
        })),
        nodes: nodes([31]),
        memory_locks: Seen::Known(vec![MemoryLock {
            place: "/etc/security/limits.d/kvm.conf:1".to_owned(),
            whom: "@kvm".to_owned(),
            limit: "33554432 KiB".to_owned(),
        }]),
        ..healthy(kernel)
    }
}

/// A node of a Proxmox VE cluster whose firmware was updated: what the facts of
/// one VF were is now true of its neighbour.
fn nic_vfs(kernel: &str) -> HostFacts {
    let entry = |line, path: &str, id: &str, group: u32| MapEntry {
        place: format!("/etc/pve/mapping/pci.cfg:{line}"),
        mapping: "vf-pool".to_owned(),
        path: path.to_owned(),
        id: id.to_owned(),
        subsystem: Some("8086:0000".to_owned()),
        group: Some(group.to_string()),
    };
    HostFacts {
        cpu: Cpu::Intel,
        loader: Loader::ProxmoxBoot,
        parameters: texts(["intel_iommu=on", "iommu=pt", "pcie_acs_override=downstream"]),
        iommus: texts(["dmar0", "dmar1", "dmar2"]),
        tables: texts(["DMAR"]),
        nodes: nodes([]),
        framebuffers: Seen::Unseen("/proc/iomem: permission denied".to_owned()),
        proxmox: Seen::Known(Some(Proxmox {
            entries: vec![
                entry(2, "0000:17:01.0", "8086:1889", 999),
                entry(3, "0000:18:02.0", "8086:1889", 7),
            ],
            raw: vec![RawDevice {
                place: "/etc/pve/qemu-server/101.conf:9".to_owned(),
                path: "0000:17:02.0".to_owned(),
            }],
        })),
        hung_task_panic: Seen::Known(true),
        ..healthy(kernel)
    }
}
