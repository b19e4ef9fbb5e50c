//! What is on the bus, by the golden description of it that `tests/bus` holds
//! to the program.

use crate::file;

/// The names in elements of this kind: `method`, `signal` or `property`.
pub(crate) fn members(kind: &str) -> Vec<String> {
    let start = format!("<{kind} name=\"");
    let text = file("tests/bus/introspection.xml");
    let rests = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(&start));
    let names: Vec<_> = rests
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect();
    assert!(!names.is_empty(), "no {kind} is described");
    names
}

/// The errors of the interface.
pub(crate) fn errors() -> Vec<String> {
    let text = file("src/bus/api.rs");
    let (_, rest) = text.split_once("pub enum BusError {").unwrap();
    let (variants, _) = rest.split_once("\n}").unwrap();
    let variants = variants.lines().filter_map(|line| line.split_once('('));
    let names: Vec<_> = variants
        .map(|(name, _)| name.trim())
        .filter(|name| name.chars().all(char::is_alphanumeric) && *name != "Bus")
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 5, "{names:?}");
    names
}
