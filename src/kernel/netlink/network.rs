//! Addresses and routes, by the kernel's own tables (rtnetlink(7)).
//!
//! /proc/net/route knows only the main table and IPv4.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Flags, aligned, attributes, exchange, number, short};
use crate::kernel::host::Network;

// include/uapi/linux/rtnetlink.h and if_addr.h, v6.12.
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const IFA_ADDRESS: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_LOCAL: u8 = 255;

/// The addresses and routes of this network namespace.
pub(in crate::kernel) fn network() -> io::Result<Network> {
    let mut network = Network::default();
    let all = [0; ROUTE_HEADER];
    exchange(RTM_GETADDR, Flags::Dump, &all, |body| {
        address(&mut network, body);
    })?;
    exchange(RTM_GETROUTE, Flags::Dump, &all, |body| {
        route(&mut network, body);
    })?;
    Ok(network)
}

fn address(network: &mut Network, body: &[u8]) {
    let (Some(prefix), Some(index)) = (body.get(1), number(body, 4)) else {
        return;
    };
    let found = attributes(body.get(ADDRESS_HEADER..)).find(|(kind, _)| *kind == IFA_ADDRESS);
    if let Some(address) = found.and_then(|(_, value)| ip(value)) {
        network.addresses.push((index, address, *prefix));
    }
}

fn route(network: &mut Network, body: &[u8]) {
    let byte = |at: usize| body.get(at).copied().unwrap_or_default();
    if byte(7) != RTN_UNICAST || byte(4) == RT_TABLE_LOCAL {
        return;
    }
    let mut destination = None;
    let mut interfaces = Vec::new();
    for (kind, value) in attributes(body.get(ROUTE_HEADER..)) {
        match kind {
            RTA_DST => destination = ip(value).map(|address| (address, byte(1))),
            RTA_OIF => interfaces.extend(number(value, 0)),
            RTA_MULTIPATH => interfaces.extend(hops(value)),
            _ => {}
        }
    }
    let routes = interfaces.into_iter().map(|index| (index, destination));
    network.routes.extend(routes);
}

/// The interfaces of a route's next hops (`struct rtnexthop`).
fn hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    while let (Some(length), Some(index)) = (short(bytes, 0), number(bytes, 4)) {
        found.push(index);
        let length = aligned(usize::from(length).max(8));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    found
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_its_address() {
        let network = network().unwrap();
        let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(
            network.addresses.contains(&(1, localhost, 8)),
            "{network:?}"
        );
    }
}
