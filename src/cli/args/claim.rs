//! The arguments of `claim`.

use std::{ffi::OsString, time::Duration};

use clap::{Args, ValueEnum, builder::PossibleValue};

use super::{Format, duration};
use crate::{pci::address::Address, policy::placement::Placement};

impl ValueEnum for Placement {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Address, Self::Spread, Self::Pack]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// What is to be claimed.
#[derive(Clone, Debug, Args)]
pub struct Claim {
    /// The mapping
    pub name: String,
    /// Who gets them; by default, with --exec, the number of the process
    #[arg(long, required_unless_present = "exec")]
    pub owner: Option<String>,
    /// How many devices (by default all of the mapping)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// This function; may be given more than once
    #[arg(long = "address", value_name = "ADDRESS", conflicts_with = "count")]
    pub addresses: Vec<Address>,
    /// Rather those on this NUMA node
    #[arg(long, value_name = "NODE")]
    pub prefer_numa: Option<u32>,
    /// As far from one another as can be, as near, or in the order of their
    /// addresses (by default as the mapping says)
    #[arg(long, value_enum, value_name = "HOW")]
    pub placement: Option<Placement>,
    /// Until this process ends
    #[arg(long)]
    pub pid: Option<u32>,
    /// For this long, as 10s or 30min
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "pid")]
    pub ttl: Option<Duration>,
    /// Wait this long for them to be bound and free, as 10s or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait: Option<Duration>,
    /// How to print them
    #[arg(long, value_enum, default_value = "address")]
    pub format: Format,
    /// Run this command with the addresses in its environment, until it ends
    #[arg(
        long,
        value_name = "COMMAND",
        num_args = 1..,
        allow_hyphen_values = true,
        conflicts_with_all = ["pid", "ttl", "format"]
    )]
    pub exec: Vec<OsString>,
}
