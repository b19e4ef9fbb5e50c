//! Addresses and routes, by the kernel's own tables (rtnetlink(7)).
//!
//! Two dumps over one socket. /proc/net/route knows only the main table and
//! IPv4.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::host::Network;

// include/uapi/linux/netlink.h, rtnetlink.h and if_addr.h, v6.12.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const IFA_ADDRESS: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_LOCAL: u8 = 255;

/// The addresses and routes of this network namespace.
pub(super) fn network() -> io::Result<Network> {
    let mut network = Network::default();
    dump(RTM_GETADDR, |body| address(&mut network, body))?;
    dump(RTM_GETROUTE, |body| route(&mut network, body))?;
    Ok(network)
}

/// Hands each message of a dump to `each`.
fn dump(kind: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // NETLINK_ROUTE is protocol 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let mut request = Vec::with_capacity(HEADER + ROUTE_HEADER);
    let length = u32::try_from(HEADER + ROUTE_HEADER).unwrap_or_default();
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8 + ROUTE_HEADER]);
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let (length, whole) = recv(&socket, &mut buffer, RecvFlags::TRUNC)?;
        let mut rest = buffer.get(..length).filter(|_| whole <= length);
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "a netlink message is cut");
        while let Some(bytes) = rest.filter(|bytes| !bytes.is_empty()) {
            let length = number(bytes, 0).ok_or_else(garbled)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = bytes.get(HEADER..length).ok_or_else(garbled)?;
            match short(bytes, 4) {
                Some(NLMSG_DONE) => return Ok(()),
                Some(NLMSG_ERROR) => {
                    let code = number(body, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
                _ => each(body),
            }
            rest = bytes.get(aligned(length)..);
        }
        if whole > length {
            return Err(garbled());
        }
    }
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

/// The attributes after a message's own header.
fn attributes(bytes: Option<&[u8]>) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes.unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(short(rest, 0)?);
        let kind = short(rest, 2)?;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
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
