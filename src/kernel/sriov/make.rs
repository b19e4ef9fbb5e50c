//! Make: has a PF make its VFs, in place of another number of them if nobody uses
//! one.
//!
//! The kernel changes the number from and to 0 only (drivers/pci/iov.c,
//! `sriov_numvfs_store`, v6.12). What a driver grants is read back: it may be less
//! than what it was asked for without an error.

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Changed, Pf, in_use, same};
use crate::kernel::{
    autoprobe,
    scan::vfs_by_index,
    steps::driver,
    sysfs::{Sysfs, function_dir, text},
    usage::{Look, words},
};

/// How many VFs a PF is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeVfs {
    /// The PF.
    pub pf: Pf,
    /// So many.
    pub count: u16,
    /// Whether native drivers may have them.
    pub autoprobe: bool,
}

/// How that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// The PF has VFs now.
    Has {
        /// How many there were.
        before: u16,
        /// How many there are.
        now: u16,
    },
    /// It is not there.
    Gone,
    /// Something speaks against it now: a clause that follows the address.
    Refused {
        /// The clause.
        text: String,
    },
    /// The kernel said no: a clause that follows the address.
    Failed {
        /// The clause.
        text: String,
    },
    /// The kernel said no to that number, and the PF has as many VFs as it had.
    Back {
        /// How many these are.
        now: u16,
        /// What the kernel said, a clause that follows the address.
        text: String,
    },
}

/// Carries out `order`.
pub fn make(look: Look<'_>, order: &MakeVfs) -> Made {
    match same(look, order.pf) {
        Err(Changed::Gone) => return Made::Gone,
        Err(Changed::Another(text)) => return Made::Refused { text },
        Ok(()) => {}
    }
    let sysfs = look.sysfs;
    let gone = || matches!(same(look, order.pf), Err(Changed::Gone));
    let Some(before) = number(sysfs, order.pf) else {
        let text = "has no sriov_numvfs that can be read".to_owned();
        return if gone() {
            Made::Gone
        } else {
            Made::Failed { text }
        };
    };
    if before != order.count {
        if let Some(text) = objection(look, order, before) {
            return Made::Refused { text };
        }
        if let Err(text) = carry_out(sysfs, order, before) {
            return if gone() {
                Made::Gone
            } else if has_back(sysfs, order.pf, before) {
                Made::Back { now: before, text }
            } else {
                Made::Failed { text }
            };
        }
    }
    match number(sysfs, order.pf) {
        Some(now) => Made::Has { before, now },
        None if gone() => Made::Gone,
        None => Made::Failed {
            text: "has no sriov_numvfs that can be read any more".to_owned(),
        },
    }
}

/// What speaks against taking away those that there are, or making others.
fn objection(look: Look<'_>, order: &MakeVfs, before: u16) -> Option<String> {
    let (sysfs, pf) = (look.sysfs, order.pf.address);
    for (index, vf) in vfs_by_index(sysfs, &function_dir(pf)) {
        if let Some(clause) = in_use(look, vf) {
            return Some(format!(
                "keeps its {before} VFs: VF {index}, {vf}, {clause}"
            ));
        }
    }
    let probed = order.count > 0 && !order.autoprobe && autoprobe::is_on(sysfs, pf) != Some(false);
    probed.then(|| {
        "makes no VFs while sriov_drivers_autoprobe is 1: native drivers would get them".to_owned()
    })
}

fn carry_out(sysfs: &dyn Sysfs, order: &MakeVfs, before: u16) -> Result<(), String> {
    let place = place(order.pf);
    let write = |count: u16| {
        sysfs.write(&place, &count.to_string()).map_err(|error| {
            let driver = driver(sysfs, order.pf.address);
            let meaning = meaning(&error, driver.as_deref());
            format!("was asked for {count} VFs: {}{meaning}", words(&error))
        })
    };
    if before > 0 {
        write(0)?;
    }
    if order.count > 0 {
        write(order.count)?;
    }
    Ok(())
}

/// Has the PF make as many VFs as it had, if those are gone; says whether it did.
fn has_back(sysfs: &dyn Sysfs, pf: Pf, before: u16) -> bool {
    before > 0
        && number(sysfs, pf) == Some(0)
        && sysfs.write(&place(pf), &before.to_string()).is_ok()
        && number(sysfs, pf) == Some(before)
}

/// How many VFs the PF has.
fn number(sysfs: &dyn Sysfs, pf: Pf) -> Option<u16> {
    text(sysfs, &place(pf))?.parse().ok()
}

fn place(pf: Pf) -> String {
    format!("{}/sriov_numvfs", function_dir(pf.address))
}

/// What an error of the write means (drivers/pci/iov.c, `sriov_numvfs_store` and
/// `sriov_enable`, v6.12).
fn meaning(error: &io::Error, driver: Option<&str>) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => match driver {
            Some(driver) => format!(": {driver} cannot make VFs"),
            None => ": it has no driver, which has to make them".to_owned(),
        },
        Some(Errno::RANGE) => ": it cannot have so many".to_owned(),
        Some(Errno::BUSY) => ": it has others by now".to_owned(),
        Some(Errno::NOMEM) => ": the firmware left no room for their registers or bus numbers \
                               (SR-IOV, ARI and above-4G decoding in its setup, or pci=realloc)"
            .to_owned(),
        _ => String::new(),
    }
}
