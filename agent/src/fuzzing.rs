//! What the fuzz targets need of the agent's insides: no part of its interface, hidden from its
//! documentation, free to change.

use std::path::Path;

use iothub_protocol::connection_string::DeviceConnectionString;

use crate::config::{AgentConfig, ConfigError};

/// Reads `text` as a configuration, with `variables` of the environment over it.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn configuration(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
    connection: DeviceConnectionString,
) -> Result<AgentConfig, ConfigError> {
    AgentConfig::read_text(Path::new("door.toml"), text, variables, connection)
}
