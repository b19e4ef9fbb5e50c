//! The lab: the package on emulated hosts with an IOMMU, driven from outside.
//!
//! `cargo test --test lab [-- FILTER] [--list]` boots the hosts and runs the
//! scenarios. Those that need the package run when `VFIO_BINDD_DEB` names it.
//! `cargo test --test lab -- --demo` shows the package at work and leaves a
//! shell. It needs root and what `make deps-lab` installs.

#![expect(clippy::print_stdout, reason = "a test runner reports on stdout")]

mod console;
mod demo;
mod guest;
mod machine;
mod qmp;
mod scenario;
mod scenarios;
mod shell;
mod topology;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use scenario::{Group, Scenario, Wanted};
use topology::{Release, Topology};

/// What a scenario ends with; the error is for people.
type Result<T> = std::result::Result<T, String>;

/// What the host with everything is for.
const EVERYTHING: &[&[Scenario]] = &[
    scenarios::lab::SCENARIOS,
    scenarios::package::FIRST,
    scenarios::boot::SCENARIOS,
    scenarios::clients::SCENARIOS,
    scenarios::claims::SCENARIOS,
    scenarios::libvirt::SCENARIOS,
    scenarios::restore::SCENARIOS,
    scenarios::knobs::SCENARIOS,
    scenarios::microvm::SCENARIOS,
    // After a card was plugged in on node 1, the firmware's NIC there has no
    // I/O ports any more, and no virtual machine can have it.
    scenarios::hotplug::SCENARIOS,
    scenarios::arrival::SCENARIOS,
    scenarios::badconfig::SCENARIOS,
    scenarios::bus::SCENARIOS,
    scenarios::explain::SCENARIOS,
    scenarios::tree::SCENARIOS,
    scenarios::faults::SCENARIOS,
    scenarios::foreign::SCENARIOS,
    scenarios::variant::SCENARIOS,
    scenarios::doctor::SCENARIOS,
    scenarios::package::LAST,
];

/// What else runs on it where there is time.
const MORE: &[&[Scenario]] = &[
    scenarios::libvirt::MORE,
    scenarios::microvm::MORE,
    scenarios::hotplug::MORE,
    scenarios::arrival::MORE,
    scenarios::foreign::LIBVIRT,
];

/// The emulated hosts with what runs on each.
const GROUPS: &[Group] = &[
    Group {
        name: "trixie",
        topology: Topology::full,
        release: Release::Trixie,
        full: false,
        scenarios: EVERYTHING,
    },
    Group {
        name: "full-bookworm",
        topology: Topology::full,
        release: Release::Bookworm,
        full: true,
        scenarios: EVERYTHING,
    },
    Group {
        name: "more",
        topology: Topology::full,
        release: Release::Trixie,
        full: true,
        scenarios: MORE,
    },
    Group {
        name: "more-bookworm",
        topology: Topology::full,
        release: Release::Bookworm,
        full: true,
        scenarios: MORE,
    },
    Group {
        name: "crowd",
        topology: Topology::crowd,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::bench::SCENARIOS],
    },
    Group {
        name: "hosts",
        topology: Topology::hosts,
        release: Release::Trixie,
        full: false,
        scenarios: &[scenarios::hosts::SCENARIOS],
    },
    Group {
        name: "hosts-bookworm",
        topology: Topology::hosts,
        release: Release::Bookworm,
        full: true,
        scenarios: &[scenarios::hosts::SCENARIOS],
    },
    Group {
        name: "stuck",
        topology: Topology::sound,
        release: Release::Trixie,
        full: false,
        scenarios: &[scenarios::stuck::SCENARIOS],
    },
    Group {
        name: "stuck-bookworm",
        topology: Topology::sound,
        release: Release::Bookworm,
        full: true,
        scenarios: &[scenarios::stuck::SCENARIOS],
    },
    Group {
        name: "sriov",
        topology: Topology::sriov,
        release: Release::Trixie,
        full: false,
        scenarios: &[scenarios::declared::SCENARIOS],
    },
    Group {
        name: "more-sriov",
        topology: Topology::sriov,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::sriov::SCENARIOS, scenarios::declared::MORE],
    },
    Group {
        name: "sriov-bookworm",
        topology: Topology::sriov,
        release: Release::Bookworm,
        full: true,
        scenarios: &[scenarios::declared::SCENARIOS],
    },
    Group {
        name: "many-vfs",
        topology: Topology::many_vfs,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::sriov::MANY, scenarios::declared::MANY],
    },
    Group {
        name: "storm",
        topology: Topology::storm,
        release: Release::Trixie,
        full: true,
        scenarios: &[
            scenarios::race::SCENARIOS,
            scenarios::storm::CYCLES,
            scenarios::held::SCENARIOS,
            scenarios::storm::TRIXIE,
        ],
    },
    Group {
        name: "storm-bookworm",
        topology: Topology::storm,
        release: Release::Bookworm,
        full: true,
        scenarios: &[
            scenarios::broker::SCENARIOS,
            scenarios::held::SCENARIOS,
            scenarios::storm::CYCLES,
            scenarios::storm::BOOKWORM,
        ],
    },
    Group {
        name: "no-iommu",
        topology: Topology::no_iommu,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::iommu::SCENARIOS],
    },
    Group {
        name: "no-iommu-bookworm",
        topology: Topology::no_iommu,
        release: Release::Bookworm,
        full: true,
        scenarios: &[scenarios::iommu::SCENARIOS],
    },
    Group {
        name: "early",
        topology: Topology::early,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::early::SCENARIOS, scenarios::initramfs::SCENARIOS],
    },
    Group {
        name: "early-bookworm",
        topology: Topology::early,
        release: Release::Bookworm,
        full: true,
        scenarios: &[scenarios::early::SCENARIOS, scenarios::initramfs::SCENARIOS],
    },
    Group {
        name: "proxmox",
        topology: Topology::node,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::claims::TEN, scenarios::proxmox::SCENARIOS],
    },
    Group {
        name: "trap",
        topology: Topology::twins,
        release: Release::Trixie,
        full: false,
        scenarios: &[scenarios::trap::SCENARIOS],
    },
    Group {
        name: "trap-bookworm",
        topology: Topology::twins,
        release: Release::Bookworm,
        full: true,
        scenarios: &[scenarios::trap::BOOKWORM, scenarios::trap::DRACUT],
    },
    Group {
        name: "dracut",
        topology: Topology::twins,
        release: Release::Trixie,
        full: true,
        scenarios: &[scenarios::trap::DRACUT],
    },
    Group {
        name: "bookworm",
        topology: Topology::small,
        release: Release::Bookworm,
        full: false,
        scenarios: &[scenarios::lab::BOOKWORM, scenarios::package::BOOKWORM],
    },
];

fn main() -> ExitCode {
    let mut list = false;
    let mut show = false;
    let mut filter = String::new();
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--list" => list = true,
            "--demo" => show = true,
            // What cargo's own harness knows and what means nothing here.
            "--nocapture" | "--no-capture" | "--quiet" | "-q" => {}
            flag if flag.starts_with('-') => {
                println!("lab: unknown option {flag} (known: --list, --demo, and a filter)");
                return ExitCode::from(2);
            }
            text => text.clone_into(&mut filter),
        }
    }

    let package = match package() {
        Ok(package) => package,
        Err(error) => {
            println!("lab: {error}");
            return ExitCode::from(2);
        }
    };
    if show {
        return match demo::run(package) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("lab: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let wanted = Wanted {
        filter,
        full: scenario::is_full(),
        package,
    };
    if list {
        scenario::list(GROUPS, &wanted);
        return ExitCode::SUCCESS;
    }
    if scenario::run(GROUPS, &wanted).is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The package under test. A wrong path is an error: it must not look like a
/// run that had nothing to test.
fn package() -> Result<Option<PathBuf>> {
    let Some(path) = env::var_os("VFIO_BINDD_DEB").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(Some(path)),
        _ => Err(format!(
            "VFIO_BINDD_DEB={}: no such package",
            path.display()
        )),
    }
}
