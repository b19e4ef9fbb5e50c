//! Settings that a mapping wants: the size of a BAR can be had only before a driver
//! comes.

use tempfile::TempDir;
use vfio_bindd::kernel::undo::Journal;

use crate::{
    boot::{GPU, boot_with, host, task},
    support::at,
};

const SIZED: &str = "[mapping.gpu]\nmatch = { class = \"display\" }\nd3cold = false\n\
                     resize_bar = { \"0\" = \"1G\" }\n";

#[test]
fn what_is_taken_early_has_its_settings_before_the_driver_comes() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    fake.bar(GPU, 0, 256, Some("700"));
    boot_with(&fake, task(&state), SIZED);
    assert_eq!(fake.driver(GPU).as_deref(), Some("vfio-pci"));
    let dir = format!("bus/pci/devices/{GPU}");
    assert_eq!(
        fake.writes(),
        [
            format!("{dir}/d3cold_allowed=0"),
            format!("{dir}/resource0_resize=10"),
            format!("{dir}/driver_override=vfio-pci"),
        ]
    );
    let entry = Journal::new(&state.path().join("undo")).read(at(GPU));
    let former = entry.unwrap().unwrap().former.settings;
    assert_eq!(former.to_string(), "d3cold true, BAR 0 256M");
}

#[test]
fn what_its_device_does_not_offer_is_not_taken_early() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    let told = boot_with(&fake, task(&state), SIZED);
    let text = format!("{GPU} is not taken: it has no BAR that can be resized");
    assert!(told.contains(&text), "{told:?}");
    assert_eq!(fake.driver(GPU), None);
    assert_eq!(fake.override_of(GPU), None);
    assert_eq!(fake.attribute(GPU, "d3cold_allowed").as_deref(), Some("1"));
    let entry = Journal::new(&state.path().join("undo")).read(at(GPU));
    assert!(entry.unwrap().is_none());
}
