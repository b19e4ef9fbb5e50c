//! Boots of a kernel that answers like the real one.

use std::{fs, path::Path};

use tempfile::TempDir;
use vfio_bindd::{
    kernel::{
        early::{Task, run},
        scan::scan_all,
        undo::{Journal, Phase},
        verdicts::VerdictFile,
    },
    policy::{
        config::{Source, parse},
        early::Known,
        model::Policy,
    },
};

use crate::{fake_kernel::Fake, support::at};

const NIC: &str = "0000:01:00.0";
const TWIN: &str = "0000:02:00.0";
pub(crate) const GPU: &str = "0000:03:00.0";
const CONFIG: &str = "[mapping.nic]\nmatch = { path = \"0000:00:01.0/00.0\" }\n\
                      [mapping.gpu]\nmatch = { class = \"display\" }\n";

/// Two identical NICs and a GPU, before udev runs and any module is loaded.
pub(crate) fn host() -> Fake {
    let fake = Fake::new(&[]);
    fake.has_module("vfio-pci");
    fake.host_file("/proc/cmdline", "root=/dev/sda1 ro quiet\n");
    fake.host_file("/proc/iomem", "00000000-00000fff : Reserved\n");
    for (port, address, attributes) in [
        ("0000:00:01.0", NIC, &[][..]),
        ("0000:00:02.0", TWIN, &[]),
        (
            "0000:00:03.0",
            GPU,
            &[("device", "0x56a0"), ("class", "0x030000")],
        ),
    ] {
        fake.add(port, address, attributes);
        // A group of its own.
        let group = address.replace([':', '.'], "");
        fake.link(
            &format!("bus/pci/devices/{address}/iommu_group"),
            &format!(
                "../../../../kernel/iommu_groups/{}",
                group.trim_matches('0')
            ),
        );
    }
    fake
}

/// The daemon of the boot `boot_id` left word of the NIC.
fn verdict(fake: &Fake, state: &Path, boot_id: &str, ready: bool) {
    fake.host_file("/proc/sys/kernel/random/boot_id", boot_id);
    let inventory = scan_all(fake).unwrap();
    let known = Known::of(inventory.get(at(NIC)).unwrap());
    let file = VerdictFile::new(state, fake).unwrap();
    file.write(ready, &[known]).unwrap();
    fake.host_file("/proc/sys/kernel/random/boot_id", "this-boot\n");
}

fn config(text: &str) -> Result<Policy, String> {
    let sources = [Source {
        name: "config.toml".to_owned(),
        text: text.to_owned(),
    }];
    let config = parse(&sources).map_err(|errors| errors.to_string())?;
    Ok(config.policy)
}

pub(crate) fn task(state: &TempDir) -> Task<'_> {
    Task {
        state: Some(state.path()),
        dry_run: false,
    }
}

fn boot(fake: &Fake, task: Task<'_>) -> Vec<String> {
    boot_with(fake, task, CONFIG)
}

/// What it tells; a line that begins with `failed:` is its error.
pub(crate) fn boot_with(fake: &Fake, task: Task<'_>, text: &str) -> Vec<String> {
    let mut told = Vec::new();
    let policy = || config(text);
    let done = fake.look(|look| run(look, fake, task, policy, &mut |line| told.push(line)));
    told.extend(done.err().map(|error| format!("failed: {error}")));
    told
}

/// What is ready, the state of the file.
fn is_ready(fake: &Fake, state: &TempDir) -> bool {
    let file = VerdictFile::new(state.path(), fake).unwrap();
    file.read().unwrap().unwrap().ready
}

#[test]
fn the_mapped_ones_are_taken_before_any_driver_and_nothing_else_is() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    let told = boot(&fake, task(&state));
    assert_eq!(
        told,
        [
            format!("{NIC} is taken for nic: vfio-pci has it"),
            format!("{GPU} is taken for gpu: vfio-pci has it"),
            "2 taken early, 0 left to vfio-bindd.service, 0 refused".to_owned(),
        ]
    );
    // The module binds what waits for it: not one other write.
    assert_eq!(
        fake.writes(),
        [NIC, GPU].map(|one| format!("bus/pci/devices/{one}/driver_override=vfio-pci"))
    );
    for address in [NIC, GPU] {
        assert_eq!(fake.driver(address).as_deref(), Some("vfio-pci"));
        let entry = Journal::new(&state.path().join("undo")).read(at(address));
        let entry = entry.unwrap().unwrap();
        assert_eq!((entry.phase, entry.former.driver), (Phase::Taken, None));
    }
    assert_eq!((fake.driver(TWIN), fake.override_of(TWIN)), (None, None));
    assert!(!is_ready(&fake, &state), "this boot is not ready yet");
    // It changes nothing where it runs again.
    let writes = fake.writes();
    let again = boot(&fake, task(&state));
    assert_eq!(
        again,
        ["0 taken early, 0 left to vfio-bindd.service, 0 refused"]
    );
    assert_eq!(fake.writes(), writes);
}

#[test]
fn without_a_verdict_that_counts_only_what_needs_none_is_taken() {
    type Prepare = fn(&Fake, &TempDir);
    let cases: [(&str, Prepare); 6] = [
        ("no former boot left a verdict", |_, _| {}),
        ("did not get ready in the former boot", |fake, state| {
            verdict(fake, state.path(), "former", false);
        }),
        ("the verdicts are of this boot", |fake, state| {
            verdict(fake, state.path(), "this-boot\n", true);
        }),
        ("cannot be understood: ", |_, state| {
            fs::write(state.path().join("verdicts.json"), "{").unwrap();
        }),
        ("cannot be marked as used up: ", |fake, state| {
            verdict(fake, state.path(), "former", true);
            fs::create_dir(state.path().join("verdicts.json.new")).unwrap();
        }),
        ("has no verdict on this very function", |fake, state| {
            verdict(fake, state.path(), "former", true);
            // Another card in the same slot.
            let device = format!("bus/pci/devices/{NIC}/subsystem_device");
            fake.file(&device, "0x0001\n");
        }),
    ];
    for (says, prepare) in cases {
        let (fake, state) = (host(), TempDir::new().unwrap());
        prepare(&fake, &state);
        let told = boot(&fake, task(&state));
        assert!(
            told[0].starts_with(&format!(
                "{NIC} is left to vfio-bindd.service: it is a network"
            )) && told[0].contains(says),
            "{says}: {told:?}"
        );
        assert_eq!(
            told[2],
            "1 taken early, 1 left to vfio-bindd.service, 0 refused"
        );
        assert_eq!((fake.driver(NIC), fake.override_of(NIC)), (None, None));
        assert_eq!(fake.driver(GPU).as_deref(), Some("vfio-pci"));
    }
    // With /var on a file system of its own.
    let fake = host();
    let nowhere = Task {
        state: None,
        dry_run: false,
    };
    let told = boot(&fake, nowhere);
    assert!(
        told[0].ends_with("the state directory is not there yet"),
        "{told:?}"
    );
    assert_eq!(fake.driver(GPU).as_deref(), Some("vfio-pci"));
}

#[test]
fn a_boot_that_does_not_get_ready_is_the_last_that_takes_early() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    assert!(boot(&fake, task(&state))[0].contains("is taken"));
    let next = host();
    next.host_file("/proc/sys/kernel/random/boot_id", "next-boot\n");
    let told = boot(&next, task(&state));
    assert!(
        told[0].contains("did not get ready in the former boot"),
        "{told:?}"
    );
    assert_eq!(next.override_of(NIC), None);
}

#[test]
fn a_boot_counts_as_failed_before_the_config_is_read() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    let mut seen = None;
    let bad = || {
        seen = Some(is_ready(&fake, &state));
        config("[mapping.nic]\nmach = 1\n")
    };
    let error = fake.look(|look| run(look, &fake, task(&state), bad, &mut |_| {}));
    assert!(error.unwrap_err().contains("mach"));
    assert_eq!(seen, Some(false));
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn foreign_overrides_and_drivers_are_respected() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    fake.set_override(GPU, "none");
    fake.bind(NIC, "e1000e");
    let told = boot(&fake, task(&state));
    assert_eq!(
        told,
        ["0 taken early, 0 left to vfio-bindd.service, 2 refused"]
    );
    assert_eq!(fake.driver(NIC).as_deref(), Some("e1000e"));
    assert_eq!(fake.override_of(GPU).as_deref(), Some("none"));
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn the_kernels_command_line_turns_it_off() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    fake.host_file("/proc/cmdline", "root=/dev/sda1 vfio_bindd=off\n");
    let told = boot(&fake, task(&state));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("nothing is taken early"), "{told:?}");
    assert_eq!(fake.writes(), Vec::<String>::new());
    // Nor does it where nobody can tell.
    fake.with(|kernel| kernel.host_files.remove("/proc/cmdline"));
    let told = boot(&fake, task(&state));
    assert!(told[0].starts_with("failed: /proc/cmdline: "), "{told:?}");
    assert_eq!(fake.writes(), Vec::<String>::new());
}

#[test]
fn a_dry_run_writes_nothing() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    let told = boot(
        &fake,
        Task {
            dry_run: true,
            ..task(&state)
        },
    );
    assert_eq!(told[0], format!("{NIC} would be taken for nic"));
    assert_eq!(fake.writes(), Vec::<String>::new());
    assert!(is_ready(&fake, &state));
    assert!(!state.path().join("undo").exists());
}

#[test]
fn without_the_driver_the_overrides_keep_all_others_away() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    verdict(&fake, state.path(), "former", true);
    fake.with(|kernel| kernel.lose_module("vfio-pci"));
    let told = boot(&fake, task(&state));
    assert!(
        told[0].starts_with(&format!(
            "{NIC} is kept for vfio-pci, which does not have it yet"
        )) && told[0].contains("loading the driver: modprobe vfio_pci: "),
        "{told:?}"
    );
    assert_eq!(
        told[2],
        "0 taken early, 2 left to vfio-bindd.service, 0 refused"
    );
    assert_eq!(fake.override_of(NIC).as_deref(), Some("vfio-pci"));
}

#[test]
fn what_cannot_be_written_down_is_not_taken() {
    let (fake, state) = (host(), TempDir::new().unwrap());
    fs::write(state.path().join("undo"), "no folder").unwrap();
    let told = boot(&fake, task(&state));
    assert!(
        told[1].starts_with(&format!("{GPU} is not taken: ")),
        "{told:?}"
    );
    assert_eq!(fake.writes(), Vec::<String>::new());
}
