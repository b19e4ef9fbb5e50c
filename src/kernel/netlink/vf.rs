//! What the VFs of an interface's PF are set to (`IFLA_VFINFO_LIST`).
//!
//! Source: include/uapi/linux/if_link.h and net/core/rtnetlink.c
//! (`rtnl_fill_vfinfo`, `do_setvfinfo`), v6.12. One order sets one thing, so that
//! an error is about that thing.

use std::{collections::BTreeMap, io};

use super::{Flags, attribute, attributes, exchange, number, short};
use crate::policy::sriov::{LinkState, Mac, Rate, Setting, VfSettings, Vlan, VlanProtocol};

const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const LINK_HEADER: usize = 16;
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_EXT_MASK: u16 = 29;
/// With VFs, and without their counters: those of 220 VFs do not fit into a message.
const RTEXT_FILTER_VF_WITHOUT_STATS: u32 = 0x1 | 0x8;
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_LINK_STATE: u16 = 5;
const IFLA_VF_RATE: u16 = 6;
const IFLA_VF_TRUST: u16 = 9;
const IFLA_VF_VLAN_LIST: u16 = 12;
const IFLA_VF_VLAN_INFO: u16 = 1;
/// The kernel's MAX_ADDR_LEN.
const LONGEST_ADDRESS: usize = 32;
// include/uapi/linux/if_ether.h.
const ETH_P_8021AD: u16 = 0x88a8;

/// What the VFs are set to, by index; `None` of what the driver does not say.
pub(in crate::kernel) fn vf_settings(interface: u32) -> io::Result<BTreeMap<u16, VfSettings>> {
    let mut body = link(interface);
    let mask = RTEXT_FILTER_VF_WITHOUT_STATS.to_ne_bytes();
    body.extend(attribute(IFLA_EXT_MASK, &mask));
    let mut found = BTreeMap::new();
    exchange(RTM_GETLINK, Flags::Single, &body, |body| {
        for (kind, list) in attributes(body.get(LINK_HEADER..)) {
            if kind == IFLA_VFINFO_LIST {
                let each = attributes(Some(list)).filter(|(kind, _)| *kind == IFLA_VF_INFO);
                found.extend(each.filter_map(|(_, info)| vf(info)));
            }
        }
    })?;
    Ok(found)
}

/// Sets one thing of one VF.
pub(in crate::kernel) fn set_vf(interface: u32, index: u16, setting: Setting) -> io::Result<()> {
    let mut body = link(interface);
    let info = attribute(IFLA_VF_INFO, &order(index, setting));
    body.extend(attribute(IFLA_VFINFO_LIST, &info));
    exchange(RTM_SETLINK, Flags::Single, &body, |_| {})
}

/// `struct ifinfomsg`.
fn link(interface: u32) -> Vec<u8> {
    let mut bytes = vec![0; LINK_HEADER];
    bytes.splice(4..8, interface.to_ne_bytes());
    bytes
}

fn order(index: u16, setting: Setting) -> Vec<u8> {
    let words = |kind, words: &[u32]| {
        let index = u32::from(index).to_ne_bytes();
        let words = words.iter().flat_map(|word| word.to_ne_bytes());
        let value: Vec<u8> = index.into_iter().chain(words).collect();
        attribute(kind, &value)
    };
    match setting {
        Setting::Mac(Mac(octets)) => {
            let mut value = u32::from(index).to_ne_bytes().to_vec();
            value.extend(octets);
            value.resize(4 + LONGEST_ADDRESS, 0);
            attribute(IFLA_VF_MAC, &value)
        }
        Setting::Vlan(Vlan { id, qos, protocol }) => {
            let (id, qos) = (u32::from(id), u32::from(qos));
            match protocol {
                // What every driver knows.
                VlanProtocol::Customer => words(IFLA_VF_VLAN, &[id, qos]),
                VlanProtocol::Service => {
                    let mut value = u32::from(index).to_ne_bytes().to_vec();
                    value.extend(id.to_ne_bytes());
                    value.extend(qos.to_ne_bytes());
                    value.extend(ETH_P_8021AD.to_be_bytes());
                    value.extend([0; 2]);
                    let info = attribute(IFLA_VF_VLAN_INFO, &value);
                    attribute(IFLA_VF_VLAN_LIST, &info)
                }
            }
        }
        Setting::Rate(Rate { min, max }) => words(IFLA_VF_RATE, &[min, max]),
        Setting::SpoofCheck(on) => words(IFLA_VF_SPOOFCHK, &[on.into()]),
        Setting::LinkState(state) => {
            let state = match state {
                LinkState::Auto => 0,
                LinkState::Enable => 1,
                LinkState::Disable => 2,
            };
            words(IFLA_VF_LINK_STATE, &[state])
        }
        Setting::Trust(on) => words(IFLA_VF_TRUST, &[on.into()]),
    }
}

/// A VF's index and what is said of it.
fn vf(info: &[u8]) -> Option<(u16, VfSettings)> {
    let mut index = None;
    let mut found = VfSettings::default();
    for (kind, value) in attributes(Some(info)) {
        // -1 is what the driver does not say.
        let switch = || match number(value, 4) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        };
        match kind {
            IFLA_VF_MAC => {
                index = number(value, 0);
                found.mac = value
                    .get(4..10)
                    .and_then(|mac| Some(Mac(mac.try_into().ok()?)));
            }
            IFLA_VF_VLAN => found.vlan = found.vlan.or_else(|| vlan(value)),
            IFLA_VF_VLAN_LIST => {
                let list = attributes(Some(value)).find(|(kind, _)| *kind == IFLA_VF_VLAN_INFO);
                found.vlan = list.and_then(|(_, value)| vlan(value)).or(found.vlan);
            }
            IFLA_VF_RATE => {
                let both = number(value, 4).zip(number(value, 8));
                found.rate = both.map(|(min, max)| Rate { min, max });
            }
            IFLA_VF_SPOOFCHK => found.spoof_check = switch(),
            IFLA_VF_TRUST => found.trust = switch(),
            IFLA_VF_LINK_STATE => {
                found.link_state = match number(value, 4) {
                    Some(0) => Some(LinkState::Auto),
                    Some(1) => Some(LinkState::Enable),
                    Some(2) => Some(LinkState::Disable),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Some((u16::try_from(index?).ok()?, found))
}

/// Out of `struct ifla_vf_vlan`, or of `struct ifla_vf_vlan_info`, which goes on with
/// the protocol.
fn vlan(value: &[u8]) -> Option<Vlan> {
    let protocol = short(value, 12).map(u16::from_be);
    let protocol = match protocol {
        Some(ETH_P_8021AD) => VlanProtocol::Service,
        _ => VlanProtocol::Customer,
    };
    let id = u16::try_from(number(value, 4)?).ok()?;
    let qos = u8::try_from(number(value, 8)?).ok()?;
    Some(Vlan::new(id, qos, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: VfSettings = VfSettings {
        mac: Some(Mac([0x52, 0x54, 0, 1, 2, 3])),
        vlan: Some(Vlan {
            id: 100,
            qos: 3,
            protocol: VlanProtocol::Service,
        }),
        rate: Some(Rate { min: 10, max: 1000 }),
        spoof_check: Some(true),
        link_state: Some(LinkState::Disable),
        trust: Some(false),
    };

    #[test]
    fn what_is_ordered_reads_back() {
        let orders: Vec<u8> = WHOLE.each().flat_map(|one| order(7, one)).collect();
        assert_eq!(vf(&orders), Some((7, WHOLE)));
        let customer = Setting::Vlan(Vlan {
            id: 5,
            qos: 0,
            protocol: VlanProtocol::Customer,
        });
        let mut orders = order(1, Setting::Mac(Mac([0; 6])));
        orders.extend(order(1, customer));
        let (_, read) = vf(&orders).unwrap();
        assert_eq!(read.each().nth(1), Some(customer));
        // -1 and what is cut off.
        let mut orders = order(1, Setting::Mac(Mac([2; 6])));
        let unknown: Vec<u8> = [1_u32, u32::MAX]
            .iter()
            .flat_map(|one| one.to_ne_bytes())
            .collect();
        for kind in [IFLA_VF_SPOOFCHK, IFLA_VF_TRUST, IFLA_VF_LINK_STATE] {
            orders.extend(attribute(kind, &unknown));
        }
        orders.extend(attribute(IFLA_VF_RATE, &[0; 6]));
        let settings = VfSettings {
            mac: Some(Mac([2; 6])),
            ..VfSettings::default()
        };
        assert_eq!(vf(&orders), Some((1, settings)));
        assert_eq!(vf(&[]), None);
    }

    #[test]
    fn an_interface_without_vfs_has_none_and_none_is_no_interface() {
        assert_eq!(vf_settings(1).unwrap(), BTreeMap::new());
        let error = vf_settings(u32::MAX >> 1).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
        assert!(set_vf(1, 0, Setting::Trust(true)).is_err());
    }
}
