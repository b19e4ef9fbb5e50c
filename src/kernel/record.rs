//! Recorded hosts: all that was observed of a host, as text that can be sent
//! with a bug report and planned on elsewhere.
//!
//! JSON, one function a line after a line that says what this is. One line more
//! may have what is known of the host beside its functions.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{
    pci::{function::Function, inventory::Inventory},
    policy::doctor::facts::HostFacts,
};

const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(rename = "vfio-bindd-host")]
    format: u32,
    kernel: String,
}

/// How the line with the host's facts begins; no function's does.
const FACTS: &str = "{\"facts\":";

/// The line with the host's facts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    facts: HostFacts,
}

/// A recorded host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The release of the kernel that it ran.
    pub kernel: String,
    /// What is known of it beside its functions.
    pub facts: Option<HostFacts>,
    /// Its functions.
    pub inventory: Inventory,
}

/// A text that is no recorded host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct RecordError {
    line: usize,
    text: String,
}

/// Writes `record` as text.
///
/// # Errors
/// Never in practice: all facts can be written.
pub fn write(record: &Record) -> Result<String, serde_json::Error> {
    let head = Head {
        format: FORMAT,
        kernel: record.kernel.clone(),
    };
    let mut text = serde_json::to_string(&head)?;
    text.push('\n');
    if let Some(facts) = record.facts.clone() {
        writeln!(text, "{}", serde_json::to_string(&Facts { facts })?).unwrap_or_default();
    }
    for function in record.inventory.iter() {
        // Writing to a string cannot fail.
        writeln!(text, "{}", serde_json::to_string(function)?).unwrap_or_default();
    }
    Ok(text)
}

/// Reads a host back out of what [`write()`] wrote.
///
/// # Errors
/// With the first line that is wrong.
pub fn parse(text: &str) -> Result<Record, RecordError> {
    let mut lines = (1..).zip(text.lines());
    let wrong = |line: usize, text: String| RecordError { line, text };
    let (_, first) = lines
        .next()
        .ok_or_else(|| wrong(1, "the text is empty; expected a recorded host".to_owned()))?;
    let head: Head = serde_json::from_str(first)
        .map_err(|error| wrong(1, format!("this is no recorded host: {error}")))?;
    if head.format != FORMAT {
        let text = format!("format {} is not known; expected {FORMAT}", head.format);
        return Err(wrong(1, text));
    }
    let mut inventory = Inventory::default();
    let mut facts = None;
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        if text.starts_with(FACTS) {
            let read: Facts = serde_json::from_str(text)
                .map_err(|error| wrong(line, format!("these are no facts of a host: {error}")))?;
            if facts.replace(read.facts).is_some() {
                return Err(wrong(line, "the host's facts are there twice".to_owned()));
            }
            continue;
        }
        let function: Function = serde_json::from_str(text)
            .map_err(|error| wrong(line, format!("this is no function: {error}")))?;
        let address = function.address;
        if inventory.insert(function).is_some() {
            return Err(wrong(line, format!("{address} is there twice")));
        }
    }
    Ok(Record {
        kernel: head.kernel,
        facts,
        inventory,
    })
}

/// Replaces serial numbers by ones that are equal where they were, and say
/// nothing of the device.
pub fn redact(inventory: &mut Inventory) {
    let mut known: Vec<String> = Vec::new();
    let addresses: Vec<_> = inventory.iter().map(|function| function.address).collect();
    for address in addresses {
        let inspection = inventory
            .get_mut(address)
            .and_then(|one| one.inspection.as_mut());
        let Some(serial) = inspection.and_then(|one| one.serial.as_mut()) else {
            continue;
        };
        let place = known
            .iter()
            .position(|one| one == serial)
            .unwrap_or_else(|| {
                known.push(serial.clone());
                known.len() - 1
            });
        let [.., high, low] = place.to_be_bytes();
        *serial = format!("00-00-00-00-00-00-{high:02x}-{low:02x}");
    }
}
