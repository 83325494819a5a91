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
    /// The host name that connection strings carry.
    pub(crate) hub_name: String,
    /// Where the doors connect.
    pub(crate) mqtt_port: u16,
    /// The version of door-hub.
    pub(crate) version: &'static str,
}

pub(super) fn router(health: Health) -> axum::Router {
    axum::Router::new().route("/healthz", get(healthz)).with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    json_response(&health)
}
