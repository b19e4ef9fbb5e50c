//! What a VF is set to: by its PF, before anybody gets it.
//!
//! Owns the values and their words; `ip-link(8)` has the same ones under `vf`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::mac::{Mac, MacRule};
use crate::policy::pattern::VfSet;

/// The VLAN that a VF's traffic is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// From 1 to 4094, 0 for none.
    pub id: u16,
    /// Its priority, 0 to 7.
    pub qos: u8,
    /// The tag.
    pub protocol: VlanProtocol,
}

impl Vlan {
    /// This one. No tag at all is of no protocol, whatever a driver says of it.
    #[must_use]
    pub const fn new(id: u16, qos: u8, protocol: VlanProtocol) -> Self {
        let protocol = match (id, qos) {
            (0, 0) => VlanProtocol::Customer,
            _ => protocol,
        };
        Self { id, qos, protocol }
    }
}

/// The tag of a VLAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VlanProtocol {
    /// IEEE 802.1Q.
    #[default]
    #[serde(rename = "802.1Q")]
    Customer,
    /// IEEE 802.1ad.
    #[serde(rename = "802.1ad")]
    Service,
}

/// How much a VF may send, in Mbit/s; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// What it gets at least.
    pub min: u32,
    /// What it gets at most.
    pub max: u32,
}

/// What a VF sees of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// As it is.
    Auto,
    /// Always up, so that VFs reach one another.
    Enable,
    /// Always down.
    Disable,
}

impl LinkState {
    /// The word for it, here as in ip-link(8).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

/// What a VF is set to; `None` of what nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfSettings {
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// How much it may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether what it sends must come from its own MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoof_check: Option<bool>,
    /// What it sees of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<LinkState>,
    /// Whether it may change its MAC address and listen to everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
}

/// One thing that a VF is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Its MAC address.
    Mac(Mac),
    /// Its VLAN.
    Vlan(Vlan),
    /// How much it may send.
    Rate(Rate),
    /// Whether its senders are checked.
    SpoofCheck(bool),
    /// What it sees of the link.
    LinkState(LinkState),
    /// Whether it is trusted.
    Trust(bool),
}

impl Setting {
    /// The key in the config.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mac(_) => "mac",
            Self::Vlan(_) => "vlan",
            Self::Rate(_) => "rate",
            Self::SpoofCheck(_) => "spoof_check",
            Self::LinkState(_) => "link_state",
            Self::Trust(_) => "trust",
        }
    }

    /// Whether it changes what the VF's own driver goes by, and so must not change
    /// under one: drivers reset a VF for it
    /// (drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c, `i40e_ndo_set_vf_mac`
    /// and `i40e_ndo_set_vf_port_vlan`, v6.12).
    #[must_use]
    pub const fn disturbs(&self) -> bool {
        matches!(self, Self::Mac(_) | Self::Vlan(_))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on: bool| if on { "on" } else { "off" };
        write!(f, "{} ", self.name())?;
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Vlan(Vlan { id: 0, qos: 0, .. }) => f.write_str("none"),
            Self::Vlan(vlan) => {
                write!(f, "{}", vlan.id)?;
                if vlan.qos > 0 {
                    write!(f, " qos {}", vlan.qos)?;
                }
                match vlan.protocol {
                    VlanProtocol::Customer => Ok(()),
                    VlanProtocol::Service => f.write_str(" 802.1ad"),
                }
            }
            Self::Rate(rate) => write!(f, "{} to {} Mbit/s", rate.min, rate.max),
            Self::SpoofCheck(check) => f.write_str(on(*check)),
            Self::LinkState(state) => f.write_str(state.as_str()),
            Self::Trust(trust) => f.write_str(on(*trust)),
        }
    }
}

impl VfSettings {
    /// What is set, one by one, in the order in which it is set.
    pub fn each(&self) -> impl Iterator<Item = Setting> {
        [
            self.mac.map(Setting::Mac),
            self.vlan.map(Setting::Vlan),
            self.rate.map(Setting::Rate),
            self.spoof_check.map(Setting::SpoofCheck),
            self.link_state.map(Setting::LinkState),
            self.trust.map(Setting::Trust),
        ]
        .into_iter()
        .flatten()
    }

    /// Sets one thing.
    pub fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Mac(mac) => self.mac = Some(mac),
            Setting::Vlan(vlan) => self.vlan = Some(vlan),
            Setting::Rate(rate) => self.rate = Some(rate),
            Setting::SpoofCheck(on) => self.spoof_check = Some(on),
            Setting::LinkState(state) => self.link_state = Some(state),
            Setting::Trust(on) => self.trust = Some(on),
        }
    }

    /// Takes in what `other` says besides.
    pub(super) fn add(&mut self, other: Self) {
        self.mac = self.mac.or(other.mac);
        self.vlan = self.vlan.or(other.vlan);
        self.rate = self.rate.or(other.rate);
        self.spoof_check = self.spoof_check.or(other.spoof_check);
        self.link_state = self.link_state.or(other.link_state);
        self.trust = self.trust.or(other.trust);
    }
}

impl fmt::Display for VfSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, setting) in self.each().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{setting}")?;
        }
        Ok(())
    }
}

/// What some VFs of a PF are set to (`[[sriov.NAME.vf]]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VfRule {
    /// Which ones, `None` for all.
    pub index: Option<VfSet>,
    /// Their MAC addresses.
    pub mac: Option<MacRule>,
    /// Everything else.
    pub settings: VfSettings,
}

impl VfRule {
    /// Whether it is about the VF with this index.
    #[must_use]
    pub fn is_of(&self, index: u16) -> bool {
        self.index.as_ref().is_none_or(|set| set.contains(index))
    }

    /// What it sets the VF with this index to.
    pub(super) fn at(&self, index: u16) -> VfSettings {
        let mac = match self.mac {
            None => None,
            Some(MacRule::Exact(mac)) => Some(mac),
            Some(MacRule::Base(base)) => base.plus(index),
        };
        VfSettings {
            mac,
            ..self.settings.clone()
        }
    }

    /// The keys that it sets.
    #[must_use]
    pub fn keys(&self) -> Vec<&'static str> {
        let mac = self.mac.map(|_| "mac");
        let others = self.settings.each().map(|setting| setting.name());
        mac.into_iter().chain(others).collect()
    }
}
