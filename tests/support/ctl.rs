//! The client as a program, without a daemon.

#![allow(clippy::unwrap_used, reason = "a test says no by a panic")]

use std::process::Command;

use crate::tree::Tree;

pub(crate) const NIC: &str = "0000:00:02.0";
pub(crate) const TWIN: &str = "0000:00:03.0";

/// A host with two identical NICs.
pub(crate) fn host() -> Tree {
    let tree = Tree::new();
    tree.add(NIC, 2);
    tree.add(TWIN, 3);
    tree
}

/// Its exit code, and what it says on stdout and stderr.
pub(crate) fn ctl(tree: &Tree, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"))
        .arg("--sysfs-root")
        .arg(tree.root())
        .args(args)
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}
