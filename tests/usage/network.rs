//! Network interfaces as they are now.

use std::net::IpAddr;

use vfio_bindd::kernel::host::Network;

use crate::one::{One, check};

/// A NIC whose interface is down.
pub(crate) fn nic() -> One {
    let one = One::new("020000", "e1000e");
    one.device(
        "net",
        "net/enp1s0",
        &[
            ("flags", "0x1002"),
            ("ifindex", "7"),
            ("address", "52:54:00:12:34:56"),
            ("addr_assign_type", "0"),
            ("type", "1"),
        ],
    );
    one.file(
        "/run/udev/data/n7",
        "I:7\nE:ID_NET_NAME_ONBOARD=eno1\nE:ID_NET_NAME_MAC=enx525400123456\n\
         E:ID_NET_DRIVER=e1000e\nE:ID_PATH=pci-0000:01:00.0\nE:ID_NET_NAME=enp1s0\n",
    );
    one
}

fn ip(text: &str) -> (IpAddr, u8) {
    let (address, prefix) = text.split_once('/').unwrap();
    (address.parse().unwrap(), prefix.parse().unwrap())
}

fn address(one: &One, index: u32, text: &str) {
    let (address, prefix) = ip(text);
    one.0.with(|kernel| {
        let network = kernel.network.get_or_insert_with(Network::default);
        network.addresses.push((index, address, prefix));
    });
}

fn route(one: &One, index: u32, destination: Option<&str>) {
    one.0.with(|kernel| {
        let network = kernel.network.get_or_insert_with(Network::default);
        network.routes.push((index, destination.map(ip)));
    });
}

#[test]
fn an_idle_interface_is_no_use() {
    check(
        nic,
        &[
            ("as it is", |_| {}, &[]),
            (
                "others are in use",
                |one| {
                    address(one, 2, "192.0.2.1/24");
                    route(one, 2, None);
                },
                &[],
            ),
        ],
    );
}

#[test]
fn links_addresses_and_routes_count() {
    check(
        nic,
        &[
            (
                "up",
                |one| one.set("net/enp1s0/flags", "0x1003"),
                &["network: enp1s0 is up"],
            ),
            (
                "an address while down",
                |one| address(one, 7, "192.0.2.1/24"),
                &["network: enp1s0 has 192.0.2.1/24"],
            ),
            (
                "a link-local address while down",
                |one| address(one, 7, "fe80::1/64"),
                &["network: enp1s0 has fe80::1/64"],
            ),
            (
                "a link-local address says nothing more than that it is up",
                |one| {
                    one.set("net/enp1s0/flags", "0x1003");
                    address(one, 7, "fe80::1/64");
                    route(one, 7, Some("fe80::/64"));
                },
                &["network: enp1s0 is up"],
            ),
            (
                "a default route of IPv4 only",
                |one| route(one, 7, None),
                &["network: enp1s0 carries the route to default"],
            ),
            (
                "a route of IPv6 only",
                |one| route(one, 7, Some("2001:db8::/32")),
                &["network: enp1s0 carries the route to 2001:db8::/32"],
            ),
            (
                "the default route says more than the others",
                |one| {
                    route(one, 7, Some("10.0.0.0/8"));
                    route(one, 7, None);
                },
                &["network: enp1s0 carries the route to default"],
            ),
        ],
    );
}

#[test]
fn parts_of_other_interfaces_count() {
    check(
        nic,
        &[
            (
                "a port of a bridge, which is its upper as well",
                |one| {
                    one.0
                        .link("class/net/enp1s0/master", "../../../../virtual/net/vmbr0");
                    one.set("net/enp1s0/upper_vmbr0/flags", "0x1003");
                },
                &["network: enp1s0 is a port of vmbr0"],
            ),
            (
                "a port by the bridge's own word",
                |one| one.0.link("class/net/enp1s0/brport/bridge", "../../br0"),
                &["network: enp1s0 is a port of br0"],
            ),
            (
                "a slave of a bond",
                |one| one.set("net/enp1s0/bonding_slave/state", "active"),
                &["network: enp1s0 is a port of a bond"],
            ),
            (
                "the base of a VLAN and of a macvlan",
                |one| {
                    one.set("net/enp1s0/upper_enp1s0.7/flags", "0x1002");
                    one.set("net/enp1s0/upper_macvlan0/flags", "0x1002");
                },
                &[
                    "network: enp1s0 carries enp1s0.7",
                    "network: enp1s0 carries macvlan0",
                ],
            ),
        ],
    );
}

#[test]
fn what_is_not_told_counts() {
    check(
        nic,
        &[
            (
                "no flags",
                |one| one.breaks("net/enp1s0/flags"),
                &["unchecked: enp1s0 does not say whether it is up"],
            ),
            (
                "no index",
                |one| one.breaks("net/enp1s0/ifindex"),
                &["unchecked: enp1s0 has no index"],
            ),
            (
                "no addresses",
                |one| one.0.with(|kernel| kernel.network = None),
                &["unchecked: addresses and routes cannot be read: operation not permitted"],
            ),
        ],
    );
}

#[test]
fn an_interface_out_of_sight_is_in_use() {
    let elsewhere = "network: e1000e holds it and no network interface is seen; it may be in \
                     another network namespace";
    assert_eq!(One::new("020000", "e1000e").uses(), [elsewhere]);
    assert_eq!(One::new("0d1100", "e1000e").uses(), [elsewhere]);
    assert_eq!(One::new("010000", "e1000e").uses(), Vec::<String>::new());
}

fn infiniband() -> One {
    let one = One::new("020700", "mlx5_core");
    one.device(
        "infiniband",
        "infiniband/mlx5_0",
        &[("ports/1/state", "1: DOWN")],
    );
    one
}

#[test]
fn ports_of_infiniband_count_while_they_are_active() {
    check(
        infiniband,
        &[
            ("idle", |_| {}, &[]),
            (
                "active",
                |one| one.set("infiniband/mlx5_0/ports/1/state", "4: ACTIVE"),
                &["network: the InfiniBand port mlx5_0/1 is active"],
            ),
            (
                "a second one",
                |one| one.set("infiniband/mlx5_0/ports/2/state", "4: ACTIVE"),
                &["network: the InfiniBand port mlx5_0/2 is active"],
            ),
            (
                "not told",
                |one| one.breaks("infiniband/mlx5_0/ports/1/state"),
                &["unchecked: the InfiniBand port mlx5_0/1 does not say its state"],
            ),
            (
                "an interface of it may be out of sight",
                |one| one.0.file("module/ib_ipoib/refcnt", "1"),
                &[
                    "network: mlx5_core holds it and no network interface is seen; it may be in \
                     another network namespace",
                ],
            ),
        ],
    );
    let without = One::new("020700", "mlx5_core");
    without.device("infiniband", "infiniband/mlx5_0", &[]);
    let wanted = "unchecked: the ports of mlx5_0 cannot be listed";
    assert_eq!(without.uses(), [wanted]);
}
