//! Network interfaces that a host uses, in each way that there is.

use super::{Case, Fate, stays};
use crate::Result;
use crate::guest::Guest;
use crate::topology::hosts::{
    BOND_SLAVE, BRIDGE_PORT, CONFIGURED, IDLE_NIC, IN_NETNS, UPLINK, VLAN_PARENT,
};

/// The file that configures an interface which is down.
const NETWORKD: &str = "/etc/systemd/network/20-lan.network";

/// The kernel's name of the interface of a function.
pub(super) fn interface(guest: &mut Guest, address: &str) -> Result<String> {
    guest.ok(&format!("ls /sys/bus/pci/devices/{address}/net"))
}

pub(super) fn set_up(guest: &mut Guest) -> Result<()> {
    let configured = interface(guest, CONFIGURED)?;
    guest.write_file(
        NETWORKD,
        &format!("[Match]\nName={configured}\n\n[Network]\nAddress=203.0.113.2/24\n"),
    )?;
    let script = format!(
        "set -e
         interface() {{ ls /sys/bus/pci/devices/$1/net; }}
         uplink=$(interface {UPLINK})
         ip link set $uplink up
         ip addr add 192.0.2.2/24 dev $uplink; ip route add default via 192.0.2.1
         ip addr add 2001:db8::2/64 dev $uplink nodad; ip -6 route add default via 2001:db8::1
         ip link add br0 type bridge; ip link set $(interface {BRIDGE_PORT}) master br0
         ip link add bond0 type bond; ip link set $(interface {BOND_SLAVE}) master bond0
         parent=$(interface {VLAN_PARENT})
         ip link add link $parent name lab-vlan type vlan id 7
         ip netns add lab; ip link set $(interface {IN_NETNS}) netns lab"
    );
    guest.ok(&script).map(drop)
}

pub(super) fn cases(guest: &mut Guest) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, address, reasons, more) in [
        (
            "default route",
            UPLINK,
            &[&["192.0.2.2"][..], &["default"], &["2001:db8::2"], &["up"]][..],
            "ip route; ip -6 route show default",
        ),
        (
            "bridge port",
            BRIDGE_PORT,
            &[&["br0"]],
            "ls /sys/class/net/br0/brif",
        ),
        (
            "bond slave",
            BOND_SLAVE,
            &[&["bond0"]],
            "cat /sys/class/net/bond0/bonding/slaves",
        ),
        (
            "VLAN parent",
            VLAN_PARENT,
            &[&["lab-vlan"]],
            "ip -o link show dev lab-vlan",
        ),
        (
            "NIC that the configuration names",
            CONFIGURED,
            &[&[NETWORKD]],
            "true",
        ),
    ] {
        let interface = interface(guest, address)?;
        let reasons: Vec<Vec<&str>> = reasons
            .iter()
            .map(|words| [&[interface.as_str()], *words].concat())
            .collect();
        let reasons: Vec<_> = reasons.iter().map(Vec::as_slice).collect();
        cases.push(Case {
            name,
            functions: vec![(address.to_owned(), stays(&reasons))],
            // With the index, which a new interface would not get again.
            proof: format!("{more}; ip -o link show dev {interface}"),
        });
    }
    cases.push(Case {
        name: "NIC in another network namespace",
        functions: vec![(IN_NETNS.to_owned(), stays(&[&["namespace"]]))],
        proof: "ip netns exec lab ip -o link | grep -v lo:".to_owned(),
    });
    cases.push(Case {
        name: "idle NIC",
        functions: vec![(IDLE_NIC.to_owned(), Fate::Bound)],
        proof: "true".to_owned(),
    });
    Ok(cases)
}
