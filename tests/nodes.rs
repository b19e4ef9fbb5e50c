//! Whose nodes are, against a kernel and a udev that answer like the real ones.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

#[path = "support/fake_kernel.rs"]
mod fake_kernel;

use fake_kernel::Fake;
use vfio_bindd::{
    kernel::{
        host::Node,
        nodes::{Owned, own},
    },
    policy::ownership::Ownership,
};

const NIC: &str = "0000:01:00.0";
const GROUP: &str = "/dev/vfio/7";
const OWN: &str = "/dev/vfio/devices/vfio3";

/// The kernel's own, before anybody changes it.
const NEW: Node = Node {
    character: Some((511, 0)),
    uid: 0,
    gid: 0,
    mode: 0o600,
};

fn wish(owner: &str, group: &str, mode: &str) -> Ownership {
    let account = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    Ownership {
        owner: account(owner),
        group: account(group),
        mode: (!mode.is_empty()).then(|| mode.parse().unwrap()),
    }
}

/// A NIC that vfio-pci has, its group's node, a user and a group; udev has rules.
fn host() -> Fake {
    let fake = Fake::new(&["vfio-pci"]);
    fake.add("0000:00:01.0", NIC, &[]);
    fake.bind(NIC, "vfio-pci");
    fake.link("class/vfio/7", "../../devices/virtual/vfio/7");
    fake.file("class/vfio/7/dev", "511:0\n");
    fake.host_file(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n+nis\nmicrovm2:x:1:1::/:/bin/false\n\
         microvm:x:994:78::/var/lib/microvms:/bin/false\n",
    );
    fake.host_file("/etc/group", "root:x:0:\nkvm:x:78:microvm\n");
    fake.with(|kernel| {
        kernel.dev_nodes.insert(GROUP.to_owned(), NEW);
        kernel.udev_gives = Some((994, 78, 0o660));
    });
    fake
}

fn run(fake: &Fake, ownership: &Ownership) -> Owned {
    fake.look(|look| own(look, NIC.parse().unwrap(), ownership))
}

fn failed(fake: &Fake, ownership: &Ownership) -> String {
    match run(fake, ownership) {
        Owned::Failed { text } => text,
        other => unreachable!("{other:?}"),
    }
}

fn set(nodes: &[&str]) -> Owned {
    Owned::Set(nodes.iter().map(|one| (*one).to_owned()).collect())
}

#[test]
fn udev_is_told_once_and_waited_for() {
    let fake = host();
    fake.with(|kernel| kernel.udev_takes = 3);
    let wanted = wish("microvm", "kvm", "0660");
    assert_eq!(run(&fake, &wanted), set(&[GROUP]));
    assert_eq!(fake.writes(), ["class/vfio/7/uevent=change"]);
    let node = fake.with(|kernel| kernel.dev_nodes[GROUP]);
    assert_eq!((node.uid, node.gid, node.mode), (994, 78, 0o660));
    // What is right is left alone.
    assert_eq!(run(&fake, &wanted), set(&[]));
    assert_eq!(run(&fake, &wish("994", "", "")), set(&[]));
    assert_eq!(run(&fake, &wish("", "kvm", "")), set(&[]));
    assert_eq!(fake.writes().len(), 1);
}

#[test]
fn the_functions_own_node_goes_with_its_groups() {
    let fake = host();
    let place = format!("bus/pci/devices/{NIC}/vfio-dev/vfio3");
    fake.file(&format!("{place}/dev"), "510:3\n");
    let own = Node {
        character: Some((510, 3)),
        ..NEW
    };
    fake.with(|kernel| kernel.dev_nodes.insert(OWN.to_owned(), own));
    let wanted = wish("microvm", "", "");
    assert_eq!(run(&fake, &wanted), set(&[GROUP, OWN]));
    assert_eq!(
        fake.writes(),
        [
            "class/vfio/7/uevent=change".to_owned(),
            format!("{place}/uevent=change"),
        ]
    );
}

#[test]
fn a_directory_without_a_number_has_no_node() {
    let fake = host();
    fake.file(
        &format!("bus/pci/devices/{NIC}/vfio-dev/vfio3/power/control"),
        "auto\n",
    );
    assert_eq!(run(&fake, &wish("microvm", "", "")), set(&[GROUP]));
}

#[test]
fn who_is_not_there_is_named_and_udev_is_not_asked() {
    let fake = host();
    assert_eq!(
        failed(&fake, &wish("micro", "kvm", "")),
        "there is no user \"micro\" in /etc/passwd"
    );
    assert_eq!(
        failed(&fake, &wish("microvm", "vm", "")),
        "there is no group \"vm\" in /etc/group"
    );
    fake.with(|kernel| kernel.forbidden.insert("/etc/passwd".to_owned()));
    assert_eq!(
        failed(&fake, &wish("microvm", "", "")),
        "/etc/passwd: permission denied"
    );
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn what_is_not_the_functions_node_is_left_alone() {
    let fake = host();
    let wanted = wish("microvm", "", "");
    for other in [None, Some((511, 1)), Some((1, 3))] {
        let node = Node {
            character: other,
            ..NEW
        };
        fake.with(|kernel| kernel.dev_nodes.insert(GROUP.to_owned(), node));
        assert_eq!(
            failed(&fake, &wanted),
            "/dev/vfio/7 is not the device 511:0 of the kernel"
        );
    }
    fake.with(|kernel| kernel.dev_nodes.clear());
    assert_eq!(
        failed(&fake, &wanted),
        "/dev/vfio/7: no such file or directory"
    );
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn a_function_of_another_driver_has_no_node_to_hand_over() {
    let fake = host();
    fake.bind(NIC, "e1000e");
    assert_eq!(run(&fake, &wish("microvm", "", "")), Owned::Unbound);
    fake.unplug(NIC);
    assert_eq!(run(&fake, &wish("microvm", "", "")), Owned::Unbound);
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn a_udev_that_does_not_do_it_is_a_reason() {
    let fake = host();
    fake.with(|kernel| kernel.udev_gives = None);
    assert_eq!(
        failed(&fake, &wish("microvm", "kvm", "")),
        "/dev/vfio/7 is 0:0 0600: udev has not set it"
    );
}
