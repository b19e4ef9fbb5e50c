//! rtnetlink(7): questions to the kernel's network stack, and orders to it.
//!
//! Owns the frame of a message; `network` and `vf` have what is in it.

mod network;
mod vf;

use std::io;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

pub(super) use self::{
    network::network,
    vf::{set_vf, vf_settings},
};

// include/uapi/linux/netlink.h, v6.12.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const HEADER: usize = 16;
/// Two bits of an attribute's type say how its value is written.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The longest message: an attribute has up to 64 KiB, and a link's list of VFs may
/// have all of them.
const LONGEST: usize = 256 << 10;

/// What is wanted of a request.
#[derive(Clone, Copy)]
enum Flags {
    /// All there is.
    Dump,
    /// An answer to this one, or that it is done.
    Single,
}

/// Sends a request with this body, and hands the body of each answer to `each`.
fn exchange(kind: u16, flags: Flags, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    // NETLINK_ROUTE is protocol 0.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let flags = NLM_F_REQUEST
        | match flags {
            Flags::Dump => NLM_F_DUMP,
            Flags::Single => NLM_F_ACK,
        };
    let mut request = Vec::with_capacity(HEADER + body.len());
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0_u8; LONGEST];
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
                // An error of 0 says that it is done.
                Some(NLMSG_ERROR) => {
                    return match number(body, 0).unwrap_or_default().cast_signed() {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                    };
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

/// The attributes after a message's own header.
fn attributes(bytes: Option<&[u8]>) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes.unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(short(rest, 0)?);
        let kind = short(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An attribute with this value.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(aligned(length));
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(length), 0);
    bytes
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
