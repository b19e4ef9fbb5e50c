//! Scenarios, the guests that they share, and the run's report.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::Result;
use crate::guest::Guest;
use crate::machine::STARVED;
use crate::topology::Topology;

/// One thing that has to hold on an emulated host.
pub(crate) struct Scenario {
    /// The name in the report, unique within the guest's group.
    pub(crate) name: &'static str,
    /// Whether it needs the package under test.
    pub(crate) needs_package: bool,
    /// What happens; the text of an error is what went wrong.
    pub(crate) run: fn(&mut Guest) -> Result<()>,
}

impl Scenario {
    /// A scenario about the lab itself.
    pub(crate) const fn of_lab(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Self {
        Self {
            name,
            needs_package: false,
            run,
        }
    }

    /// A scenario about the package under test.
    pub(crate) const fn of_package(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Self {
        Self {
            name,
            needs_package: true,
            run,
        }
    }
}

/// Scenarios that share a guest, in this order.
pub(crate) struct Group {
    /// The first part of the scenarios' names.
    pub(crate) name: &'static str,
    /// The host that they run on.
    pub(crate) topology: fn() -> Topology,
    /// Whether they measure, and have this machine to themselves.
    pub(crate) alone: bool,
    /// Lists of scenarios, in this order.
    pub(crate) scenarios: &'static [&'static [Scenario]],
}

/// What a run is about.
pub(crate) struct Wanted {
    /// Only scenarios whose full name has this text in it.
    pub(crate) filter: String,
    /// The package under test, where there is one.
    pub(crate) package: Option<PathBuf>,
}

/// How often a group starts anew on a new guest because its emulator crashed.
const CRASHES: usize = 2;

/// How many guests there are at a time. An emulated host waits for its timers
/// often enough that two share two cores well.
const AT_ONCE: usize = 2;

/// The emulator failed: what ran on it has no result.
struct Crashed(String);

/// The sums of a run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    /// Whether the run counts as a success.
    pub(crate) fn is_ok(&self) -> bool {
        self.failed == 0
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Names all scenarios that a filter leaves.
pub(crate) fn list(groups: &[Group], wanted: &Wanted) {
    for group in groups {
        for scenario in chosen(group, wanted) {
            println!("{}: test", full_name(group, scenario));
        }
    }
}

/// Runs all scenarios that a filter leaves and prints the report.
pub(crate) fn run(groups: &[Group], wanted: &Wanted) -> Report {
    let start = Instant::now();
    let sums = Mutex::new(Report::default());
    let add = |report| {
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        *sums += report;
    };
    let (alone, others): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.alone);
    for group in alone {
        add(run_group(group, wanted));
    }
    let others = Mutex::new(others.into_iter());
    let next = || {
        let mut others = others.lock().unwrap_or_else(PoisonError::into_inner);
        others.next()
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(group) = next() {
                    add(run_group(group, wanted));
                }
            });
        }
    });
    let report = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "\n{} passed, {} failed, {} skipped ({:.0} s)",
        report.passed,
        report.failed,
        report.skipped,
        start.elapsed().as_secs_f64()
    );
    report
}

/// Runs a group, anew where the emulator crashes: scenarios build on one another.
fn run_group(group: &Group, wanted: &Wanted) -> Report {
    for _ in 0..=CRASHES {
        match run_guest(group, wanted) {
            Ok(report) => return report,
            Err(Crashed(words)) => {
                println!("guest {} ... the emulator crashed: {words}", group.name);
            }
        }
    }
    println!("guest {} ... FAILED: it crashes every time", group.name);
    Report {
        failed: 1,
        ..Report::default()
    }
}

fn run_guest(group: &Group, wanted: &Wanted) -> std::result::Result<Report, Crashed> {
    let mut report = Report::default();
    let mut runnable = Vec::new();
    for scenario in chosen(group, wanted) {
        if scenario.needs_package && wanted.package.is_none() {
            println!(
                "test {} ... skipped (VFIO_BINDD_DEB names no package)",
                full_name(group, scenario)
            );
            report.skipped += 1;
        } else {
            runnable.push(scenario);
        }
    }
    if runnable.is_empty() {
        return Ok(report);
    }

    let start = Instant::now();
    let booted = Guest::boot(group.name, &(group.topology)(), wanted.package.as_deref());
    let mut guest = match booted {
        Ok(guest) => guest,
        Err(error) if error == STARVED => return Err(Crashed(error)),
        Err(error) => {
            println!("guest {} ... FAILED\n{}", group.name, indented(&error));
            report.failed += runnable.len();
            return Ok(report);
        }
    };
    println!(
        "guest {} ... up ({:.1} s)",
        group.name,
        start.elapsed().as_secs_f64()
    );
    for scenario in runnable {
        if run_one(group, scenario, &mut guest) {
            report.passed += 1;
        } else if let Some(words) = guest.crashed() {
            return Err(Crashed(words));
        } else {
            report.failed += 1;
        }
    }
    Ok(report)
}

fn run_one(group: &Group, scenario: &Scenario, guest: &mut Guest) -> bool {
    let start = Instant::now();
    // One scenario's mistake must not cost the others their guest.
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(guest)))
        .unwrap_or_else(|_| Err("the scenario itself panicked".to_owned()))
        .and_then(|()| guest.panicked());
    let seconds = start.elapsed().as_secs_f64();
    let name = full_name(group, scenario);
    // In one go: other guests have their lines as well.
    let mut text = match &outcome {
        Ok(()) => format!("test {name} ... ok ({seconds:.1} s)"),
        Err(error) => format!(
            "test {name} ... FAILED ({seconds:.1} s)\n{}\n{}",
            indented(error),
            indented(&guest.evidence())
        ),
    };
    for figure in guest.take_figures() {
        text += &format!("\nfigure: {figure}");
    }
    if let Err(error) = guest.tidy() {
        text += &format!("\n    cards left plugged in: {error}");
    }
    println!("{text}");
    outcome.is_ok()
}

fn chosen<'a>(group: &'a Group, wanted: &'a Wanted) -> impl Iterator<Item = &'a Scenario> {
    group
        .scenarios
        .iter()
        .flat_map(|list| list.iter())
        .filter(|scenario| full_name(group, scenario).contains(&wanted.filter))
}

fn full_name(group: &Group, scenario: &Scenario) -> String {
    format!("{}::{}", group.name, scenario.name)
}

fn indented(text: &str) -> String {
    text.trim()
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect()
}
