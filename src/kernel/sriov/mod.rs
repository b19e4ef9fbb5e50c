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
    steps::{driver, identity},
    usage::{Look, usage, users},
};
use crate::{
    pci::{address::Address, function::is_vfio_driver, id::PciId},
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
    if driver(look.sysfs, address).is_some_and(|driver| is_vfio_driver(&driver)) {
        return users(look, &[address])
            .remove(&address)
            .map(|user| user.clause);
    }
    let facts = usage(look, address);
    if let Some(fact) = facts.first() {
        return Some(format!("is in use: {}", guard::judge(fact).1));
    }
    // A virtual machine that starts with it has it bound yet.
    reserved(look.host, &[address]).map(|reserved| reserved.text)
}
