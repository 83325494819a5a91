//! Internals for the fuzz targets: not public API, hidden from the documentation, free to change.

use std::path::Path;

use iothub_protocol::connection_string::DeviceConnectionString;

use crate::config::{AgentConfig, ConfigErrors};

/// Parses `text` as a configuration, overridden by the environment `variables`.
///
/// # Errors
///
/// The first mistake.
pub fn configuration(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
    connection: DeviceConnectionString,
) -> Result<AgentConfig, ConfigErrors> {
    AgentConfig::read_text(Path::new("door.toml"), text, variables, connection)
}
