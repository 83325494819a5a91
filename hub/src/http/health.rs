//! `/healthz`: whether the hub is there, and what it is called. The only resource that asks for no token.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use super::json_response;

/// What it says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    hub_name: String,
    mqtt_port: u16,
    version: &'static str,
}

impl Health {
    /// That of a hub with this name, whose doors connect to this port.
    pub(crate) fn new(hub_name: String, mqtt_port: u16) -> Self {
        Self {
            hub_name,
            mqtt_port,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

pub(super) fn router(health: Health) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get(healthz))
        .with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    json_response(&health)
}
