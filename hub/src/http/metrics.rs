//! `GET /metrics`, for Prometheus; and the counting of requests.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::metrics::{self, CertificateTimes, Metrics};
use crate::service::Services;

/// Returns the validity periods of the certificates.
pub(crate) type Certificates = Arc<dyn Fn() -> CertificateTimes + Send + Sync>;

/// `GET /metrics`.
pub(super) async fn get(
    State((services, certificates)): State<(Services, Certificates)>,
) -> Response {
    let text = services.metrics_text(certificates()).await;
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// Counts the request by its route, not by its path.
pub(super) async fn measure(
    State(metrics): State<Metrics>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    // Unknown HTTP methods share one label value.
    let method = match method.as_str() {
        known @ ("GET" | "PUT" | "POST" | "PATCH" | "DELETE") => known,
        _ => "other",
    };
    metrics.request(method, route, response.status().as_str(), began.elapsed());
    response
}
