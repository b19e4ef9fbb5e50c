//! Scenarios, the guests that they share, and the run's report.

use std::collections::VecDeque;
use std::env;
use std::io::{Write, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use crate::Result;
use crate::guest::Guest;
use crate::machine::is_of_the_emulator;
use crate::topology::{Release, Topology};

/// One thing that has to hold on an emulated host.
pub(crate) struct Scenario {
    /// The name in the report, unique within the guest's group.
    pub(crate) name: &'static str,
    /// Whether it needs the package under test.
    pub(crate) needs_package: bool,
    /// Whether it takes too long for each change.
    pub(crate) full: bool,
    /// What happens; the text of an error is what went wrong.
    pub(crate) run: fn(&mut Guest) -> Result<()>,
}

impl Scenario {
    /// A scenario about the lab itself.
    pub(crate) const fn of_lab(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Self {
        Self {
            name,
            needs_package: false,
            full: false,
            run,
        }
    }

    /// A scenario about the package under test.
    pub(crate) const fn of_package(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Self {
        Self {
            name,
            needs_package: true,
            full: false,
            run,
        }
    }

    /// The same where there is time.
    pub(crate) const fn in_full(self) -> Self {
        Self { full: true, ..self }
    }
}

/// Scenarios that share a guest, in this order.
pub(crate) struct Group {
    /// The first part of the scenarios' names.
    pub(crate) name: &'static str,
    /// The host that they run on.
    pub(crate) topology: fn(Release) -> Topology,
    /// What runs on that.
    pub(crate) release: Release,
    /// Whether they take too long for each change: what another group has on the
    /// other release, or boots by the dozen. `VFIO_BINDD_LAB_FULL` has them run.
    pub(crate) full: bool,
    /// Lists of scenarios, in this order.
    pub(crate) scenarios: &'static [&'static [Scenario]],
}

/// What a run is about.
pub(crate) struct Wanted {
    /// Only scenarios whose full name has this text in it.
    pub(crate) filter: String,
    /// Whether groups that take long are wanted without being named.
    pub(crate) full: bool,
    /// The package under test, where there is one.
    pub(crate) package: Option<PathBuf>,
}

/// What has all of them run.
const FULL: &str = "VFIO_BINDD_LAB_FULL=1";

/// How often a scenario gets a new guest because the emulator of its own failed.
const CRASHES: usize = 2;

/// The emulator failed: what ran on it last has no result.
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

/// Whether `VFIO_BINDD_LAB_FULL` asks for what takes too long for each change.
pub(crate) fn is_full() -> bool {
    env::var_os("VFIO_BINDD_LAB_FULL").is_some_and(|value| !value.is_empty())
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
    let mut report = Report::default();
    for group in groups {
        let mut left = runnable(group, wanted, &mut report);
        let mut crashes = 0;
        while !left.is_empty() {
            let before = left.len();
            let Err(Crashed(words)) = run_group(group, &mut left, wanted, &mut report) else {
                break;
            };
            crashes = if left.len() < before { 1 } else { crashes + 1 };
            println!("guest {} ... the next one: {words}", group.name);
            if crashes > CRASHES {
                println!(
                    "guest {} ... FAILED: its emulator fails every time",
                    group.name
                );
                report.failed += left.len();
                break;
            }
        }
    }
    for group in groups {
        if is_left_out(group.full, wanted) {
            println!("guest {} ... left out ({FULL} has it)", group.name);
            continue;
        }
        let scenarios = group.scenarios.iter().flat_map(|list| list.iter());
        for scenario in scenarios.filter(|one| is_left_out(one.full, wanted)) {
            let name = full_name(group, scenario);
            println!("test {name} ... left out ({FULL} has it)");
        }
    }
    println!(
        "\n{} passed, {} failed, {} skipped ({:.0} s)",
        report.passed,
        report.failed,
        report.skipped,
        start.elapsed().as_secs_f64()
    );
    report
}

/// What of a group is wanted and can run, in its order.
fn runnable<'a>(
    group: &'a Group,
    wanted: &'a Wanted,
    report: &mut Report,
) -> VecDeque<&'a Scenario> {
    let mut runnable = VecDeque::new();
    for scenario in chosen(group, wanted) {
        if scenario.needs_package && wanted.package.is_none() {
            println!(
                "test {} ... skipped (VFIO_BINDD_DEB names no package)",
                full_name(group, scenario)
            );
            report.skipped += 1;
        } else {
            runnable.push_back(scenario);
        }
    }
    runnable
}

/// Runs what is `left` of a group on one guest, and takes out of it what has a
/// result then.
fn run_group(
    group: &Group,
    left: &mut VecDeque<&Scenario>,
    wanted: &Wanted,
    report: &mut Report,
) -> std::result::Result<(), Crashed> {
    let start = Instant::now();
    let host = (group.topology)(group.release);
    let booted = Guest::boot(group.name, &host, wanted.package.as_deref());
    let mut guest = match booted {
        Ok(guest) => guest,
        Err(error) if is_of_the_emulator(&error) => return Err(Crashed(error)),
        Err(error) => {
            println!("guest {} ... FAILED\n{}", group.name, indented(&error));
            report.failed += left.len();
            left.clear();
            return Ok(());
        }
    };
    println!(
        "guest {} ... up ({:.1} s)",
        group.name,
        start.elapsed().as_secs_f64()
    );
    while let Some(scenario) = left.front() {
        let passed = run_one(group, scenario, &mut guest);
        if passed {
            report.passed += 1;
        } else if let Some(words) = guest.crashed() {
            return Err(Crashed(words));
        } else {
            report.failed += 1;
        }
        left.pop_front();
        if guest.is_lost() {
            println!(
                "guest {} ... FAILED: nothing more can run on it",
                group.name
            );
            report.failed += left.len();
            left.clear();
        }
    }
    Ok(())
}

fn run_one(group: &Group, scenario: &Scenario, guest: &mut Guest) -> bool {
    print!("test {} ... ", full_name(group, scenario));
    // A report that cannot be written is not worth a failed run.
    drop(stdout().flush());
    let start = Instant::now();
    // One scenario's mistake must not cost the others their guest.
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(guest)))
        .unwrap_or_else(|_| Err("the scenario itself panicked".to_owned()))
        .and_then(|()| guest.panicked());
    let seconds = start.elapsed().as_secs_f64();
    let passed = match outcome {
        Ok(()) => {
            println!("ok ({seconds:.1} s)");
            true
        }
        Err(error) => {
            println!("FAILED ({seconds:.1} s)");
            println!("{}\n{}", indented(&error), indented(&guest.evidence()));
            false
        }
    };
    for figure in guest.take_figures() {
        println!("figure: {figure}");
    }
    if let Err(error) = guest.tidy() {
        println!("    cards left plugged in: {error}");
    }
    passed
}

fn chosen<'a>(group: &'a Group, wanted: &'a Wanted) -> impl Iterator<Item = &'a Scenario> {
    let scenarios = if is_left_out(group.full, wanted) {
        &[][..]
    } else {
        group.scenarios
    };
    scenarios
        .iter()
        .flat_map(|list| list.iter())
        .filter(|scenario| !is_left_out(scenario.full, wanted))
        .filter(|scenario| full_name(group, scenario).contains(&wanted.filter))
}

/// Whether what is for a full run only is not for this one. Whoever filters knows
/// what is wanted.
fn is_left_out(full: bool, wanted: &Wanted) -> bool {
    full && !wanted.full && wanted.filter.is_empty()
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
