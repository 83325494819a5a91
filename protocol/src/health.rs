//! What door-hub reports about itself without authentication (`/healthz`). Azure has no such path.

use serde::{Deserialize, Serialize};

/// The health of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Name in connection strings.
    pub hub_name: String,
    /// MQTT over TLS port.
    pub mqtt_port: u16,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// Why the hub is not ready; omitted when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Damage that does not affect readiness; omitted when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}
