//! `/healthz`: whether the hub is ready, its name and its version. The only resource without
//! authentication.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use iothub_protocol::health::Health;
use tokio_util::sync::CancellationToken;

use super::json_response;
use crate::service::Services;

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
        problem: problem.map(str::to_owned),
        damage: context.services.integrity.last().damage(),
        ..context.health
    });
    if problem.is_some() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
