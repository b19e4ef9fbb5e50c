//! What the doctor says of recorded hosts, as people and as scripts read it.

use std::process::Command;

use crate::{check, folder, records};

/// A host, a config for it, and the exit code.
const CASES: [(&str, &str, i32); 4] = [
    ("gpu-server", "compute", 0),
    ("gpu-server", "desktop", 1),
    ("nic-vfs", "pools", 1),
    // Its record has no line with the host's facts.
    ("lab", "host", 1),
];

#[test]
fn the_doctor_says_the_same_of_the_same_host() {
    let place = tempfile::tempdir().unwrap();
    let records = records();
    for (host, case, code) in CASES {
        let dump = place.path().join(host);
        std::fs::write(&dump, records.get(host).unwrap()).unwrap();
        let config = folder().join(host).join(case);
        let doctor = |args: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_vfio-bindctl"))
                .arg("doctor")
                .arg("--host")
                .arg(&dump)
                .arg("--config")
                .arg(config.with_extension("toml"))
                .args(args)
                .output()
                .unwrap();
            assert_eq!(output.stderr, b"", "{host}/{case}");
            assert_eq!(output.status.code(), Some(code), "{host}/{case}");
            String::from_utf8(output.stdout).unwrap()
        };
        check(&config.with_extension("doctor"), &doctor(&[]));
        check(&config.with_extension("doctor.json"), &doctor(&["--json"]));
    }
}
