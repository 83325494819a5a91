//! `/healthz`: whether the hub is ready, its name and its version. The only resource without
//! authentication.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::json_response;
use crate::service::Services;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    hub_name: String,
    mqtt_port: u16,
    version: &'static str,
    /// Why the hub is not ready; omitted when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    /// Damage that does not affect readiness; omitted when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl Health {
    /// The health of a ready hub with this name, whose doors connect to this port.
    pub(crate) fn new(hub_name: String, mqtt_port: u16) -> Self {
        Self {
            hub_name,
            mqtt_port,
            version: env!("CARGO_PKG_VERSION"),
            problem: None,
            damage: None,
        }
    }
}

#[derive(Clone)]
struct HealthContext {
    health: Health,
    services: Services,
    stop: CancellationToken,
}

pub(super) fn router(
    health: Health,
    services: &Services,
    stop: &CancellationToken,
) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get(healthz))
        .with_state(HealthContext {
            health,
            services: services.clone(),
            stop: stop.clone(),
        })
}

/// 200, or 503 with the problem, for load balancers and monitors.
async fn healthz(State(context): State<HealthContext>) -> Response {
    let problem = if context.stop.is_cancelled() {
        Some("the hub is shutting down")
    } else {
        context.services.problem()
    };
    let mut response = json_response(&Health {
        problem,
        damage: context.services.integrity.last().damage(),
        ..context.health
    });
    if problem.is_some() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
