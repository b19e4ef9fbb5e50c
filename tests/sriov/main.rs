//! PFs that make VFs: what the config means, what is planned, how the engine goes
//! about it, and what is written to a kernel that answers like the real one.

#![expect(clippy::unwrap_used, reason = "a test says no by a panic")]

mod broken;
mod config;
#[path = "../support/drive.rs"]
mod drive;
mod engine;
mod explain;
#[path = "../support/fake_kernel.rs"]
mod fake_kernel;
mod host;
mod kept;
mod make;
mod plan;
mod protocol;
mod settle;
mod settling;
#[path = "../support/mod.rs"]
mod support;

use vfio_bindd::{
    pci::function::{Function, Role},
    policy::{
        config::{Source, parse},
        model::Policy,
    },
};

use crate::support::{FunctionExt as _, at, nic};

/// A PF that can have eight VFs.
pub(crate) const PF: &str = "0000:3b:00.0";

/// Its VF with this index.
pub(crate) fn vf_at(index: u16) -> String {
    format!("0000:3b:{:02x}.{}", 2 + index / 8, index % 8)
}

pub(crate) fn vf(index: u16) -> Function {
    let pf = at(PF);
    nic(&vf_at(index)).with(|function| {
        function.id = "8086:10ca".parse().unwrap();
        function.role = Role::Vf {
            pf,
            index: Some(index),
        };
    })
}

/// The PF under its native driver, with so many VFs.
pub(crate) fn pf(vfs: u16) -> Function {
    nic(PF).driver("igb").with(|function| {
        function.netdevs = vec!["enp59s0f0".to_owned()];
        function.role = Role::Pf {
            total_vfs: 8,
            vfs: (0..vfs).map(|index| at(&vf_at(index))).collect(),
        };
    })
}

pub(crate) fn config(text: &str) -> Policy {
    let source = Source {
        name: "config.toml".to_owned(),
        text: text.to_owned(),
    };
    let config = parse(&[source]).unwrap_or_else(|errors| unreachable!("{errors}"));
    config.policy
}

/// An entry for the PF; `rest` follows the number of VFs.
pub(crate) fn entry(vfs: &str, rest: &str) -> String {
    format!("[sriov.nics]\npf = {{ address = \"3b:00.0\" }}\nvfs = {vfs}\n{rest}\n")
}
