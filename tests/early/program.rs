//! `vfio-bindctl early` as a program: it never fails a boot and never holds it
//! up.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    ctl::{NIC, TWIN, ctl, host},
    tree::Tree,
};

/// A GPU, which needs no verdict, and the NICs.
const CONFIG: &str = "[mapping.gpu]\nmatch = { iommu_group = 2 }\n";

fn gpu(tree: &Tree) {
    fs::write(tree.attribute(NIC, "class"), "0x120000\n").unwrap();
}

/// Its exit code, what it says, and how long it took.
fn early(tree: &Tree, config: &str, args: &[&str]) -> (i32, String, Duration) {
    let state = TempDir::new().unwrap();
    let file = state.path().join("config.toml");
    fs::write(&file, config).unwrap();
    let since = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"))
        .arg("--sysfs-root")
        .arg(tree.root())
        .arg("--config")
        .arg(file)
        .arg("early")
        .args(args)
        .env_clear()
        .env("STATE_DIRECTORY", state.path())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), told, since.elapsed())
}

fn override_of(tree: &Tree, address: &str) -> String {
    fs::read_to_string(tree.attribute(address, "driver_override")).unwrap()
}

#[test]
fn it_sets_the_override_and_says_so() {
    let tree = host();
    gpu(&tree);
    // This tree answers nothing: the driver never gets the function.
    let (code, told, _) = early(&tree, CONFIG, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains(&format!("{NIC} is kept for vfio-pci")),
        "{told}"
    );
    assert!(
        told.ends_with("vfio-bindctl: 0 taken early, 1 left to vfio-bindd.service, 0 refused\n"),
        "{told}"
    );
    // In one write, over the `(null)` that a file keeps the rest of.
    assert!(override_of(&tree, NIC).starts_with("vfio-pci"));
    assert_eq!(override_of(&tree, TWIN), "(null)\n");
}

#[test]
fn a_dry_run_only_says_what_it_would_do() {
    let tree = host();
    gpu(&tree);
    let (code, told, _) = early(&tree, CONFIG, &["--dry-run"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains(&format!("{NIC} would be taken for gpu")),
        "{told}"
    );
    assert_eq!(override_of(&tree, NIC), "(null)\n");
}

#[test]
fn a_bad_config_takes_nothing_and_fails_no_boot() {
    let tree = host();
    gpu(&tree);
    let (code, told, _) = early(&tree, "[mapping.gpu]\nmach = 1\n", &[]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("config.toml:2:1: ") && told.contains("match"),
        "{told}"
    );
    assert!(told.contains("nothing is taken early"), "{told}");
    assert_eq!(override_of(&tree, NIC), "(null)\n");
}

#[test]
fn a_wrong_option_is_one_still() {
    let (code, out, told) = ctl(&host(), &["early", "--now"]);
    assert_eq!((code, out.as_str()), (2, ""), "{told}");
}

#[test]
fn a_kernel_that_does_not_come_back_is_left_behind() {
    let tree = host();
    gpu(&tree);
    tree.hang(NIC, "driver_override");
    let (code, told, took) = early(&tree, CONFIG, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("the worker has not come back after 5 s and is left behind"),
        "{told}"
    );
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(9)).contains(&took),
        "{took:?}"
    );
}

#[test]
fn a_host_that_cannot_be_seen_fails_no_boot() {
    let tree = Tree::new();
    fs::remove_dir(tree.root().join("bus/pci/devices")).unwrap();
    let (code, told, _) = early(&tree, CONFIG, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("functions cannot be listed: "), "{told}");
}
