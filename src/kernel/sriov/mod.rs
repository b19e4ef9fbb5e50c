//! SR-IOV: makes VFs, takes them away, and sets them. Runs in helpers only: taking
//! VFs away waits for whoever uses one of them, for ever if need be
//! (drivers/pci/iov.c, `sriov_del_vfs`, v6.12), and cannot be cancelled.

mod make;
mod settle;

use serde::{Deserialize, Serialize};

pub use self::{
    make::{Made, MakeVfs, make},
    settle::{SettleVfs, Settled, settle},
};
use super::{
    reservations::reserved,
    steps::identity,
    usage::{Look, usage},
};
use crate::{
    pci::{address::Address, id::PciId},
    policy::guard,
};

/// A PF that a helper is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pf {
    /// Where it is.
    pub address: Address,
    /// Its IDs when it was planned.
    pub id: PciId,
}

/// What speaks against working on the PF, whatever was planned.
enum Changed {
    Gone,
    Another(String),
}

fn same(look: Look<'_>, pf: Pf) -> Result<(), Changed> {
    match identity(look.sysfs, pf.address) {
        None => Err(Changed::Gone),
        Some(found) if found == pf.id => Ok(()),
        Some(found) => Err(Changed::Another(format!(
            "is another device by now: {found}, not {}",
            pf.id
        ))),
    }
}

/// Who uses the VF at `address`, a clause that follows it; `None` if nobody does.
/// What cannot be told counts as used.
fn in_use(look: Look<'_>, address: Address) -> Option<String> {
    // A virtual machine may have the group open for long before the device, while its
    // memory is pinned: it is not enough to ask whether that is enabled.
    let facts = usage(look, address);
    if let Some(fact) = facts.first() {
        return Some(format!("is in use: {}", guard::judge(fact).1));
    }
    // A virtual machine that starts with it has it bound yet.
    reserved(look.host, &[address]).map(|reserved| reserved.text)
}
