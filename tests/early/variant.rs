//! `driver = "auto"` before any driver is loaded.

use tempfile::TempDir;
use vfio_bindd::kernel::{
    early::{Stage, Task},
    undo::Journal,
};

use crate::{
    boot::{GPU, boot_with, host, task},
    support::at,
};

const AUTO: &str = "[mapping.gpu]\nmatch = { class = \"display\" }\ndriver = \"auto\"\n";
const ALIASES: &str = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
                       alias vfio_pci:v00008086d000056A0sv*sd*bc*sc*i* xe_vfio_pci\n";

#[test]
fn a_variant_driver_is_loaded_early_and_vfio_pci_in_its_place() {
    let lacks = "gets vfio-pci: the module xe_vfio_pci has no vfio driver for PCI";
    for (drivers, wanted, overrides, why) in [
        (
            &["xe-vfio-pci"][..],
            "xe-vfio-pci",
            &["xe-vfio-pci"][..],
            None,
        ),
        // Called otherwise than was expected.
        (
            &["xe2-vfio-pci"],
            "xe2-vfio-pci",
            &["xe-vfio-pci", "xe2-vfio-pci"],
            None,
        ),
        (&[], "vfio-pci", &["xe-vfio-pci", "vfio-pci"], Some(lacks)),
    ] {
        let (fake, state) = (host(), TempDir::new().unwrap());
        fake.aliases(ALIASES);
        let modalias = "pci:v00008086d000056A0sv00008086sd00000000bc03sc00i00";
        fake.file(&format!("bus/pci/devices/{GPU}/modalias"), modalias);
        fake.has_variant("xe_vfio_pci", drivers);
        let told = boot_with(&fake, task(&state), AUTO);
        let mut lines: Vec<_> = why.iter().map(|why| format!("{GPU} {why}")).collect();
        lines.push(format!("{GPU} is taken for gpu: {wanted} has it"));
        lines.push("1 taken early, 0 left to vfio-bindd.service, 0 refused".to_owned());
        assert_eq!(told, lines);
        assert_eq!(fake.driver(GPU).as_deref(), Some(wanted));
        let set = fake.writes().into_iter().filter_map(|write| {
            let (place, value) = write.split_once('=')?;
            place.ends_with("driver_override").then(|| value.to_owned())
        });
        assert_eq!(set.collect::<Vec<_>>(), overrides);
        // What it is given back from, and what it was.
        let entry = Journal::new(&state.path().join("undo")).read(at(GPU));
        let entry = entry.unwrap().unwrap();
        assert_eq!(entry.driver, wanted);
        assert_eq!(entry.former.driver_override, None);
    }
}

#[test]
fn an_initramfs_leaves_the_choice_to_the_real_root() {
    let (fake, state, handed) = (host(), TempDir::new().unwrap(), TempDir::new().unwrap());
    // All modules that are in it.
    fake.aliases("alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n");
    let task = Task {
        stage: Stage::Initramfs,
        handed: handed.path(),
        ..task(&state)
    };
    let told = boot_with(&fake, task, AUTO);
    let left = "it has driver = \"auto\", and an initramfs has not all modules to choose from";
    assert_eq!(
        told,
        [
            format!("{GPU} is left to vfio-bindd.service: {left}"),
            "0 taken early, 1 left to vfio-bindd.service, 0 refused".to_owned(),
        ]
    );
    assert_eq!(fake.writes(), Vec::<String>::new());
    // One that names its driver waits for nothing.
    let named = AUTO.replace("auto", "vfio-pci");
    let told = boot_with(&fake, task, &named);
    assert!(told[0].contains("is taken for gpu"), "{told:?}");
}
