//! The config as the daemon reads it.
//!
//! Owns what is told of it beside its errors.

use std::path::Path;

use crate::{
    kernel::config_files,
    policy::{config::parse, model::Policy},
};

/// Reads and validates the config; what is not honoured yet is told. Blocks on
/// a disk.
pub(super) fn read(file: Option<&Path>) -> Result<Policy, String> {
    let sources = config_files::read(file).map_err(|error| error.to_string())?;
    let config = parse(&sources).map_err(|errors| errors.to_string())?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    Ok(config.policy)
}
