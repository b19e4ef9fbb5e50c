//! What an initramfs took, and what becomes of it: where the boot does not go on,
//! and in the real root.

use std::fs;

use tempfile::TempDir;
use vfio_bindd::kernel::{
    early::{Stage, Task, give_back},
    host::OpenVfioDevice,
    undo::{Journal, Phase},
    verdicts::VerdictFile,
};

use crate::{
    boot::{CONFIG, GPU, NIC, TWIN, boot, boot_with, host, verdict},
    fake_kernel::Fake,
    support::at,
};

/// A boot with an initramfs: what the image carries, what is handed over, and the
/// real root's state directory.
struct Boot {
    fake: Fake,
    image: TempDir,
    handed: TempDir,
    state: TempDir,
}

/// An image and a state directory of a boot that proved the NIC.
fn start() -> Boot {
    let boot = Boot {
        fake: host(),
        image: TempDir::new().unwrap(),
        handed: TempDir::new().unwrap(),
        state: TempDir::new().unwrap(),
    };
    for directory in [&boot.image, &boot.state] {
        verdict(&boot.fake, directory.path(), "former", true);
    }
    boot
}

impl Boot {
    fn task(&self, stage: Stage) -> Task<'_> {
        let state = match stage {
            Stage::Initramfs => &self.image,
            Stage::Root => &self.state,
        };
        Task {
            stage,
            state: Some(state.path()),
            handed: self.handed.path(),
            dry_run: false,
        }
    }

    /// The initramfs's stage takes both.
    fn initramfs(&self) {
        let told = boot(&self.fake, self.task(Stage::Initramfs));
        assert_eq!(
            told.last().unwrap(),
            "2 taken early, 0 left to vfio-bindd.service, 0 refused"
        );
        // Modules of the real root come later, but those of the image are there.
        self.fake.with(|kernel| kernel.writes.clear());
    }

    fn root(&self) -> Vec<String> {
        boot(&self.fake, self.task(Stage::Root))
    }

    fn give_back(&self) -> Vec<String> {
        let mut told = Vec::new();
        let handed = self.handed.path();
        let done = self.fake.look(|look| {
            give_back(
                look,
                &self.fake,
                handed,
                "LABEL=root is missing",
                &mut |line| {
                    told.push(line);
                },
            )
        });
        assert_eq!(done, Ok(()));
        told
    }

    fn phase(&self, directory: &TempDir, address: &str) -> Option<Phase> {
        let journal = Journal::new(&directory.path().join("undo"));
        let entry = journal.read(at(address)).ok().flatten();
        entry.map(|entry| {
            assert_eq!(
                (entry.former.driver, entry.former.driver_override),
                (None, None)
            );
            entry.phase
        })
    }

    fn is_the_hosts(&self, address: &str) {
        assert_eq!(self.fake.override_of(address), None, "{address}");
        assert_eq!(self.fake.driver(address).as_deref(), Some("e1000e"));
    }

    fn is_taken(&self, address: &str) {
        assert_eq!(self.fake.override_of(address).as_deref(), Some("vfio-pci"));
        assert_eq!(self.fake.driver(address).as_deref(), Some("vfio-pci"));
    }
}

#[test]
fn what_an_image_takes_stays_where_the_real_root_would_take_it_too() {
    let boot = start();
    boot.initramfs();
    // An image cannot use its verdicts up: nothing of it outlasts the boot.
    let image = VerdictFile::new(boot.image.path(), &boot.fake).unwrap();
    assert!(image.read().unwrap().unwrap().ready);
    assert_eq!(
        boot.root(),
        [
            format!("{NIC} was taken in the initramfs and stays"),
            format!("{GPU} was taken in the initramfs and stays"),
            "0 taken early, 0 left to vfio-bindd.service, 0 refused".to_owned(),
        ]
    );
    assert_eq!(boot.fake.writes(), Vec::<String>::new());
    for address in [NIC, GPU] {
        boot.is_taken(address);
        // It can be restored as if this stage had taken it.
        assert_eq!(boot.phase(&boot.state, address), Some(Phase::Taken));
        assert_eq!(boot.phase(&boot.handed, address), None);
    }
    // The daemon goes on to vouch for what stayed.
    let state = VerdictFile::new(boot.state.path(), &boot.fake).unwrap();
    assert_eq!(state.begin().unwrap().len(), 1);
    // A second start of the unit judges nothing again.
    assert_eq!(boot.root().len(), 1);
    boot.is_taken(NIC);
}

#[test]
fn what_would_not_be_taken_now_is_given_back() {
    type Prepare = fn(&Boot);
    let cases: [(&str, Prepare); 6] = [
        ("vfio-bindd did not get ready in the former boot", |boot| {
            verdict(&boot.fake, boot.state.path(), "former", false);
        }),
        ("no former boot left a verdict", |boot| {
            fs::remove_file(boot.state.path().join("verdicts.json")).unwrap();
        }),
        ("cannot be understood", |boot| {
            fs::write(boot.state.path().join("verdicts.json"), "{").unwrap();
        }),
        ("has no verdict on this very function", |boot| {
            let file = VerdictFile::new(boot.state.path(), &boot.fake).unwrap();
            boot.fake
                .host_file("/proc/sys/kernel/random/boot_id", "another\n");
            let other = VerdictFile::new(boot.state.path(), &boot.fake).unwrap();
            other.write(true, &[]).unwrap();
            boot.fake
                .host_file("/proc/sys/kernel/random/boot_id", "this-boot\n");
            drop(file);
        }),
        ("cannot be marked as used up", |boot| {
            fs::create_dir(boot.state.path().join("verdicts.json.new")).unwrap();
        }),
        ("cannot be written down: ", |boot| {
            fs::write(boot.state.path().join("undo"), "no folder").unwrap();
        }),
    ];
    for (says, prepare) in cases {
        let boot = start();
        boot.initramfs();
        // The twin's driver was in the image as well.
        boot.fake.with(|kernel| kernel.has_driver("e1000e"));
        prepare(&boot);
        let told = boot.root().join("\n");
        let begins = format!("{NIC} was taken in the initramfs and is given back: it ");
        assert!(
            told.contains(&begins) && told.contains(says),
            "{says}: {told}"
        );
        assert!(
            told.contains(&format!("{NIC} is the host's again: e1000e has it")),
            "{told}"
        );
        boot.is_the_hosts(NIC);
        assert_eq!(boot.phase(&boot.handed, NIC), Some(Phase::Released));
        assert_eq!(boot.phase(&boot.state, NIC), None);
        assert_eq!(boot.fake.driver(TWIN), None, "nobody asked for the twin");
    }
    // With /var on a file system of its own.
    let boot = start();
    boot.initramfs();
    boot.fake.with(|kernel| kernel.has_driver("e1000e"));
    let nowhere = Task {
        state: None,
        ..boot.task(Stage::Root)
    };
    let told = crate::boot::boot(&boot.fake, nowhere).join("\n");
    assert!(
        told.contains("the state directory is not there yet"),
        "{told}"
    );
    boot.is_the_hosts(NIC);
    boot.is_taken(GPU);
}

#[test]
fn what_the_config_of_now_does_not_want_is_given_back() {
    let (nic, gpu) = CONFIG.split_once("[mapping.gpu]").unwrap();
    let two = format!("{nic}expect = 2\n[mapping.gpu]{gpu}");
    let none = "is in no mapping that can be bound";
    for (config, says, nic_stays) in [
        (format!("[mapping.gpu]{gpu}"), none, false),
        (two, none, false),
        (
            "[mapping.gpu]\nmach = 1\n".to_owned(),
            "config that can be used",
            false,
        ),
        (CONFIG.to_owned(), "stays", true),
    ] {
        let boot = start();
        boot.initramfs();
        boot.fake.with(|kernel| kernel.has_driver("e1000e"));
        let told = boot_with(&boot.fake, boot.task(Stage::Root), &config).join("\n");
        assert!(told.contains(says), "{config}: {told}");
        if nic_stays {
            boot.is_taken(NIC);
        } else {
            boot.is_the_hosts(NIC);
        }
    }
}

#[test]
fn a_dry_run_judges_and_changes_nothing() {
    let boot = start();
    boot.initramfs();
    fs::remove_file(boot.state.path().join("verdicts.json")).unwrap();
    let task = Task {
        dry_run: true,
        ..boot.task(Stage::Root)
    };
    let told = crate::boot::boot(&boot.fake, task).join("\n");
    assert!(
        told.contains(&format!(
            "{NIC} was taken in the initramfs and would be given back"
        )),
        "{told}"
    );
    boot.is_taken(NIC);
    assert_eq!(boot.fake.writes(), Vec::<String>::new());
    assert_eq!(boot.phase(&boot.handed, GPU), Some(Phase::Taken));
}

#[test]
fn a_boot_that_does_not_go_on_gets_back_what_it_may_hang_on_once() {
    let boot = start();
    boot.initramfs();
    boot.fake.with(|kernel| kernel.has_driver("e1000e"));
    assert_eq!(
        boot.give_back(),
        [
            format!("LABEL=root is missing: {NIC} given back"),
            format!("{NIC} is the host's again: e1000e has it"),
        ]
    );
    // udev is told, which has more drivers; and all in this order.
    assert_eq!(
        boot.fake.writes(),
        [
            format!("bus/pci/devices/{NIC}/driver_override="),
            format!("bus/pci/drivers/vfio-pci/unbind={NIC}"),
            format!("bus/pci/drivers_probe={NIC}"),
            format!("bus/pci/devices/{NIC}/uevent=add"),
        ]
    );
    boot.is_the_hosts(NIC);
    boot.is_taken(GPU);
    assert_eq!(boot.give_back(), Vec::<String>::new());
    // The real root is told of it, and does not take it again.
    let told = boot.root().join("\n");
    assert!(
        told.contains(&format!(
            "{NIC} was taken in the initramfs and had to be given back there"
        )),
        "{told}"
    );
    boot.is_the_hosts(NIC);
    boot.is_taken(GPU);
}

#[test]
fn an_override_that_waits_for_its_driver_is_cleared_as_well() {
    let boot = start();
    boot.fake.with(|kernel| kernel.lose_module("vfio-pci"));
    let told = crate::boot::boot(&boot.fake, boot.task(Stage::Initramfs));
    assert!(
        told[0].starts_with(&format!("{NIC} is kept for vfio-pci")),
        "{told:?}"
    );
    boot.fake.with(|kernel| kernel.has_driver("e1000e"));
    boot.give_back();
    boot.is_the_hosts(NIC);
}

#[test]
fn nothing_is_given_back_that_somebody_has_open_or_changed() {
    type Prepare = fn(&Boot);
    let cases: [(&str, Prepare); 2] = [
        ("is in use: ", |boot| {
            boot.fake.with(|kernel| {
                kernel.open_vfio.push(OpenVfioDevice {
                    function: None,
                    process: "qemu (pid 7)".to_owned(),
                });
            });
        }),
        ("somebody else set", |boot| {
            boot.fake.set_override(NIC, "none")
        }),
    ];
    for (says, prepare) in cases {
        let boot = start();
        boot.initramfs();
        prepare(&boot);
        let told = boot.give_back().join("\n");
        assert!(told.contains(says), "{says}: {told}");
        assert_eq!(boot.fake.writes(), Vec::<String>::new());
        assert_eq!(boot.fake.driver(NIC).as_deref(), Some("vfio-pci"));
    }
}

#[test]
fn an_image_whose_verdicts_do_not_count_takes_none_that_need_one() {
    type Prepare = fn(&Boot);
    let cases: [(&str, Prepare); 3] = [
        (
            "vfio-bindd was not ready when this initramfs was made",
            |boot| {
                verdict(&boot.fake, boot.image.path(), "former", false);
            },
        ),
        ("this initramfs has no verdict", |boot| {
            fs::remove_file(boot.image.path().join("verdicts.json")).unwrap();
        }),
        ("cannot be understood", |boot| {
            fs::write(boot.image.path().join("verdicts.json"), "{").unwrap();
        }),
    ];
    for (says, prepare) in cases {
        let boot = start();
        prepare(&boot);
        let told = crate::boot::boot(&boot.fake, boot.task(Stage::Initramfs)).join("\n");
        assert!(told.contains(says), "{says}: {told}");
        assert_eq!(boot.fake.override_of(NIC), None);
        boot.is_taken(GPU);
    }
}

#[test]
fn what_cannot_be_handed_over_is_not_taken() {
    let boot = start();
    let file = boot.handed.path().join("a-file");
    fs::write(&file, "").unwrap();
    let task = Task {
        handed: &file,
        ..boot.task(Stage::Initramfs)
    };
    let told = crate::boot::boot(&boot.fake, task);
    assert!(
        told[0].starts_with("failed: ") && told[0].contains("a-file"),
        "{told:?}"
    );
    assert_eq!(boot.fake.writes(), Vec::<String>::new());
}

#[test]
fn what_another_boot_left_is_nobodys() {
    let boot = start();
    boot.initramfs();
    boot.fake
        .host_file("/proc/sys/kernel/random/boot_id", "next-boot\n");
    assert_eq!(boot.give_back(), Vec::<String>::new());
    boot.is_taken(NIC);
}
