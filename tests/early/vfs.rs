//! VFs of a PF of which mappings want every one, before anybody makes them.

use tempfile::TempDir;
use vfio_bindd::kernel::{
    early::{Stage, Task},
    sysfs::Sysfs as _,
    undo::Journal,
};

use crate::{
    boot::{NIC, boot_with, host, task},
    fake_kernel::Fake,
    support::at,
};

const ALL: &str = "[mapping.vfs]\nmatch = { vf_of = \"0000:01:00.0\" }\n";
const SOME: &str = "[mapping.vfs]\nmatch = { vf_of = \"0000:01:00.0\", vf = \"0-2\" }\n";

/// The NIC can have VFs, and has none yet.
fn with_pf() -> (Fake, TempDir) {
    let fake = host();
    for (name, value) in [("sriov_totalvfs", "4"), ("sriov_drivers_autoprobe", "1")] {
        let place = format!("bus/pci/devices/{NIC}/{name}");
        fake.file(&place, &format!("{value}\n"));
    }
    (fake, TempDir::new().unwrap())
}

fn value(fake: &Fake) -> String {
    let place = format!("bus/pci/devices/{NIC}/sriov_drivers_autoprobe");
    String::from_utf8(fake.read(&place).unwrap()).unwrap()
}

#[test]
fn native_drivers_are_kept_from_them_and_the_daemon_can_let_them_again() {
    let (fake, state) = with_pf();
    let told = boot_with(&fake, task(&state), ALL);
    let line = format!("native drivers are kept from the VFs of {NIC}");
    assert!(told.contains(&line), "{told:?}");
    assert_eq!(value(&fake), "0\n");
    let journal = Journal::new(&state.path().join("undo"));
    assert_eq!(journal.withheld(&fake, false).unwrap(), [at(NIC)]);
    // Nothing is new.
    let told = boot_with(&fake, task(&state), ALL);
    assert!(!told.contains(&line), "{told:?}");
}

#[test]
fn they_may_come_where_not_all_are_wanted_or_nobody_could_take_it_over() {
    let (fake, state) = with_pf();
    boot_with(&fake, task(&state), SOME);
    assert_eq!(value(&fake), "1\n");
    let dry = Task {
        dry_run: true,
        ..task(&state)
    };
    let told = boot_with(&fake, dry, ALL);
    let line = format!("native drivers would be kept from the VFs of {NIC}");
    assert!(told.contains(&line), "{told:?}");
    assert_eq!(value(&fake), "1\n");
    let image = Task {
        stage: Stage::Initramfs,
        ..task(&state)
    };
    boot_with(&fake, image, ALL);
    assert_eq!(value(&fake), "1\n");
}
