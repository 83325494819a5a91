//! The versions of the agents, as they report them.

use iothub_client::{ClientError, HubClient};
use serde_json::Value;

use crate::printer::plain;

/// The version of this program, of its hub and of its agents.
pub(super) const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Counts the doors by the version of their agents.
const AGENTS: &str = "SELECT properties.reported.device.version AS version, COUNT() AS doors FROM \
                      devices GROUP BY properties.reported.device.version";

/// Doors whose agents have the same version.
pub(super) struct Agents {
    /// Empty for doors that reported none.
    pub(super) version: String,
    pub(super) doors: u64,
}

/// The versions of the agents, as last reported.
pub(super) async fn agents(hub: &HubClient) -> Result<Vec<Agents>, ClientError> {
    let rows: Vec<Value> = hub.query(AGENTS).await?;
    let mut agents: Vec<Agents> = rows
        .iter()
        .map(|row| Agents {
            version: row.get("version").map_or(String::new(), plain),
            doors: row.get("doors").and_then(Value::as_u64).unwrap_or_default(),
        })
        .collect();
    agents.sort_by(|a, b| b.version.cmp(&a.version));
    Ok(agents)
}
