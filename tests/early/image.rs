//! The initramfs's program: what it takes, where its words go, and that it comes
//! back.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    ctl::{NIC, TWIN, host},
    tree::Tree,
};

/// An accelerator, which needs no verdict, and its twin.
const CONFIG: &str = "[mapping.gpu]\nmatch = { iommu_group = 2 }\n";

/// Its exit code, what the kernel's log has then, and what it says otherwise.
fn early(tree: &Tree, folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let at = |name: &str| folder.path().join(name);
    fs::write(at("config.toml"), CONFIG).unwrap();
    fs::write(at("kmsg"), "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vfio-bindd-early"))
        .arg("--sysfs-root")
        .arg(tree.root())
        .arg("--config")
        .arg(at("config.toml"))
        .arg("--state")
        .arg(at("state"))
        .arg("--handed")
        .arg(at("handed"))
        .arg("--log")
        .arg(at("kmsg"))
        .args(args)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    let log = fs::read_to_string(at("kmsg")).unwrap();
    (output.status.code().unwrap(), log, told)
}

fn accelerator(tree: &Tree) {
    fs::write(tree.attribute(NIC, "class"), "0x120000\n").unwrap();
}

#[test]
fn it_takes_and_tells_the_kernels_log() {
    let (tree, folder) = (host(), TempDir::new().unwrap());
    accelerator(&tree);
    let (code, log, told) = early(&tree, &folder, &[]);
    assert_eq!((code, told.as_str()), (0, ""), "{log}");
    let kept = format!("<6>vfio-bindd: {NIC} is kept for vfio-pci");
    assert!(log.starts_with(&kept), "{log}");
    assert!(
        log.lines().all(|line| line.starts_with("<6>vfio-bindd: ")),
        "{log}"
    );
    let written = |address| fs::read_to_string(tree.attribute(address, "driver_override")).unwrap();
    assert!(written(NIC).starts_with("vfio-pci"));
    assert_eq!(written(TWIN), "(null)\n");
    // What the real root judges.
    let entry = folder.path().join(format!("handed/undo/{NIC}.json"));
    assert!(fs::read_to_string(entry).unwrap().contains("\"taken\""));
}

#[test]
fn without_the_kernels_log_it_tells_all_the_same() {
    let (tree, folder) = (host(), TempDir::new().unwrap());
    accelerator(&tree);
    let (code, _, told) = early(&tree, &folder, &["--log", "/nonexistent/kmsg"]);
    assert_eq!(code, 0);
    assert!(
        told.contains(&format!("{NIC} is kept for vfio-pci")),
        "{told}"
    );
}

#[test]
fn a_kernel_that_does_not_come_back_is_left_behind() {
    let (tree, folder) = (host(), TempDir::new().unwrap());
    accelerator(&tree);
    tree.hang(NIC, "driver_override");
    let since = Instant::now();
    let (code, log, _) = early(&tree, &folder, &[]);
    assert_eq!(code, 0);
    assert!(
        log.contains("has not come back after 5 s and is left behind"),
        "{log}"
    );
    assert!(since.elapsed() < Duration::from_secs(9));
}

#[test]
fn there_is_nothing_to_give_back_where_nothing_was_taken() {
    let (tree, folder) = (host(), TempDir::new().unwrap());
    let (code, log, told) = early(&tree, &folder, &["--give-back", "root is missing"]);
    assert_eq!((code, log.as_str(), told.as_str()), (0, "", ""));
}

#[test]
fn wrong_options_are_told() {
    let (tree, folder) = (host(), TempDir::new().unwrap());
    let (code, log, told) = early(&tree, &folder, &["--now", "x"]);
    assert_eq!((code, log.as_str()), (2, ""));
    assert!(told.starts_with("usage: early "), "{told}");
}

#[test]
fn a_stamp_says_what_a_tree_holds() {
    let (tree, folder) = (host(), TempDir::new().unwrap());
    let image = folder.path().join("tree");
    fs::create_dir_all(image.join("etc/vfio-bindd")).unwrap();
    fs::write(image.join("etc/vfio-bindd/config.toml"), CONFIG).unwrap();
    let image = image.to_str().unwrap();
    let (code, _, told) = early(&tree, &folder, &["--stamp", image, "--kernel", "6.12.9"]);
    assert_eq!((code, told.as_str()), (0, ""));
    let stamp = fs::read_to_string(folder.path().join("state/images/6.12.9")).unwrap();
    assert!(stamp.starts_with("{\"vfio-bindd-image\":1,"), "{stamp}");
    // Where it cannot be written, whoever makes the image is told, and goes on.
    fs::write(folder.path().join("file"), "").unwrap();
    let nowhere = folder.path().join("file");
    let nowhere = [
        "--stamp",
        image,
        "--kernel",
        "6.12.9",
        "--state",
        nowhere.to_str().unwrap(),
    ];
    let (code, _, told) = early(&tree, &folder, &nowhere);
    assert_eq!(code, 1);
    assert!(
        told.contains("nobody will know what is in the image: "),
        "{told}"
    );
}
