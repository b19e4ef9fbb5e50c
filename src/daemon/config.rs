//! The config as the daemon reads it: text in, or why not.

use std::path::Path;

use crate::{
    kernel::config_files,
    policy::{config::parse, model::Policy},
};

/// Reads and validates the config. Blocks on a disk.
pub(super) fn read(file: Option<&Path>) -> Result<Policy, String> {
    let sources = config_files::read(file).map_err(|error| error.to_string())?;
    let config = parse(&sources).map_err(|errors| errors.to_string())?;
    Ok(config.policy)
}
