//! How long one plan takes on a host of 4096 functions with 256 mappings.
//!
//! Prints the median of many runs; nothing is asserted, machines are noisy.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and may fail loudly"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use support::{FunctionExt as _, by_address, by_id, by_node, mapping, nic};
use vfio_bindd::{
    pci::inventory::Inventory,
    policy::{
        model::{Mapping, Policy},
        plan::plan,
        resolve::Held,
        selector::Term,
    },
};

const FUNCTIONS: u16 = 4096;
const MAPPINGS: u16 = 256;

/// 16 functions of each of 256 models, on two nodes, 16 buses a domain.
fn host() -> Inventory {
    (0..FUNCTIONS)
        .map(|index| {
            let (domain, bus) = (index / 2048, (index / 8) % 256);
            nic(&format!("{domain:04x}:{bus:02x}:00.{}", index % 8)).with(|one| {
                one.id = format!("8086:{:04x}", index % MAPPINGS).parse().unwrap();
                one.numa_node = Some(u32::from(index / 2048));
                one.iommu_group = Some(u32::from(index));
            })
        })
        .collect()
}

fn policy(terms: impl Fn(u16) -> Vec<Term>) -> Policy {
    let named = |index| -> (String, Mapping) { (format!("m{index}"), mapping(terms(index))) };
    Policy {
        mappings: (0..MAPPINGS).map(named).collect(),
        protect: vec![support::selector(vec![by_address("ffff:*:*.*")])],
        ..Policy::default()
    }
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..31)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(15).copied().unwrap_or_default()
}

fn main() {
    let host = host();
    let by_ids = policy(|index| vec![by_id(&format!("8086:{index:04x}")), by_node(1)]);
    let by_globs = policy(|index| vec![by_address(&format!("*:{index:02x}:*.*"))]);
    let by_class = policy(|index| {
        let class = Term::Class(vec!["0200*".parse().unwrap()]);
        vec![class, by_id(&format!("8086:{index:04x}"))]
    });
    for (name, policy) in [
        ("by ID and node", &by_ids),
        ("by address glob", &by_globs),
        ("by class and ID", &by_class),
    ] {
        let time = median(|| {
            black_box(plan(&host, policy, &Held::new()));
        });
        println!("figure: plan of {FUNCTIONS} functions, {MAPPINGS} mappings {name}: {time:.1?}");
    }
}
