//! Recorded hosts: all that was observed of a host, as text that can be sent
//! with a bug report and planned on elsewhere.
//!
//! JSON, one function a line after a line that says what this is.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::pci::{function::Function, inventory::Inventory};

const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(rename = "vfio-bindd-host")]
    format: u32,
    kernel: String,
}

/// A text that is no recorded host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct RecordError {
    line: usize,
    text: String,
}

/// Writes `inventory` as text; `kernel` is the release that it ran.
///
/// # Errors
/// Never in practice: all facts can be written.
pub fn write(inventory: &Inventory, kernel: &str) -> Result<String, serde_json::Error> {
    let head = Head {
        format: FORMAT,
        kernel: kernel.to_owned(),
    };
    let mut text = serde_json::to_string(&head)?;
    text.push('\n');
    for function in inventory.iter() {
        // Writing to a string cannot fail.
        writeln!(text, "{}", serde_json::to_string(function)?).unwrap_or_default();
    }
    Ok(text)
}

/// Reads a host back out of what [`write()`] wrote.
///
/// # Errors
/// With the first line that is wrong.
pub fn parse(text: &str) -> Result<Inventory, RecordError> {
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
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let function: Function = serde_json::from_str(text)
            .map_err(|error| wrong(line, format!("this is no function: {error}")))?;
        let address = function.address;
        if inventory.insert(function).is_some() {
            return Err(wrong(line, format!("{address} is there twice")));
        }
    }
    Ok(inventory)
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
